/** The cache, live: how much of the context it holds, what that weighs, and what it would weigh in f16. */
import { useState } from "preact/hooks";
import { bytes, grouped, rounded } from "../../src/page.ts";
import { lazily } from "../lazily.tsx";
import { type ChatModel, heldBytes } from "../models/model.ts";
import type { Turns } from "./conversation.ts";
import type { TalkState } from "./talk.ts";

const CachePicture = lazily<{ model: ChatModel; turns: Turns; held: number }>(
  async () => (await import("./cache-picture.tsx")).CachePicture,
);

export function Gauge({ model, talk }: { model: ChatModel; talk: TalkState }) {
  const [isOpen, setOpen] = useState(false);
  const { held, tokensPerSecond } = talk;
  const { context, kv, rates } = model;
  const now = rates && heldBytes(rates, held);
  const full = rates && context !== null ? heldBytes(rates, context) : null;
  const of = (part: number, whole: number | undefined) =>
    whole === undefined ? bytes(part) : `${bytes(part)} of ${bytes(whole)}`;
  return (
    <div class="gauge">
      {context !== null && (
        <div class="track" aria-hidden="true">
          <div style={{ width: `${((100 * Math.min(held, context)) / context).toFixed(2)}%` }} />
        </div>
      )}
      <dl>
        <div>
          <dt>cached</dt>
          <dd data-testid="cached">
            {grouped(held)}
            {context === null ? " tokens" : ` of ${grouped(context)} tokens`}
          </dd>
        </div>
        {now && (
          <div>
            <dt>{kv ?? "cache"}</dt>
            <dd data-testid="weighs">{of(now.bytes, full?.bytes)}</dd>
          </div>
        )}
        {now && kv !== "f16" && (
          <div>
            <dt>in f16</dt>
            <dd data-testid="in-f16">{of(now.f16Bytes, full?.f16Bytes)}</dd>
          </div>
        )}
        {tokensPerSecond !== null && (
          <div>
            <dt>speed</dt>
            <dd data-testid="speed">{rounded(tokensPerSecond)} tokens/s</dd>
          </div>
        )}
      </dl>
      <details onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
        <summary>What it holds</summary>
        {isOpen && <CachePicture {...{ model, held }} turns={talk.turns} />}
      </details>
    </div>
  );
}
