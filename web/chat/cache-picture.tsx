/**
 * What the cache holds, as a bar of the context by turns, and what it takes in each format, now and when it is full. The
 * turns' tokens follow from the figures of their answers: a prompt is all that came before it.
 */
import { bytes, grouped } from "../../src/page.ts";
import { ScrollBox } from "../fields.tsx";
import { type ChatModel, heldBytes } from "../models/model.ts";
import type { Turns } from "./conversation.ts";

export interface CachePart {
  readonly name: string;
  readonly kind: "question" | "answer" | "other";
  readonly tokens: number;
}

/** `held` tokens by kind; those that no figures explain are "other". */
export function cacheParts(turns: Turns, held: number): CachePart[] {
  const parts: CachePart[] = [];
  let counted = 0;
  for (const [i, { figures }] of turns.entries()) {
    if (!figures) continue;
    const { promptTokens, generatedTokens } = figures;
    // A turn that was cut may have left fewer tokens than its answer had.
    parts.push({ name: `Question ${i + 1}`, kind: "question", tokens: Math.max(0, promptTokens - counted) });
    parts.push({ name: `Answer ${i + 1}`, kind: "answer", tokens: generatedTokens });
    counted = promptTokens + generatedTokens;
  }
  let left = held;
  const within = parts.map((part) => {
    const tokens = Math.min(part.tokens, left);
    left -= tokens;
    return { ...part, tokens };
  });
  return [...within, { name: "Being read or written", kind: "other" as const, tokens: left }].filter(
    ({ tokens }) => tokens > 0,
  );
}

export function CachePicture({ model, turns, held }: { model: ChatModel; turns: Turns; held: number }) {
  const { context, formats, kv } = model;
  const parts = cacheParts(turns, held);
  const whole = Math.max(context ?? held, held, 1);
  const sizes = formats.map(({ name, rates }) => ({
    name,
    now: heldBytes(rates, held).bytes,
    full: heldBytes(rates, context ?? held).bytes,
  }));
  const most = Math.max(1, ...sizes.map(({ full }) => full));
  return (
    <div class="picture">
      <div class="held" role="img" aria-label={sentence(parts, whole - held)}>
        {parts.map(({ name, kind, tokens }) => (
          <div
            key={name}
            class={kind}
            title={`${name}: ${grouped(tokens)} tokens`}
            style={wide(tokens / whole)}
          />
        ))}
      </div>
      {sizes.length > 0 && (
        <ScrollBox label="What formats take">
          <table>
            <thead>
              <tr>
                <th>Format</th>
                <th>Now</th>
                <th>Full</th>
                <th />
              </tr>
            </thead>
            <tbody>
              {sizes.map(({ name, now, full }) => (
                <tr key={name} aria-current={name === kv ? "true" : undefined}>
                  <th scope="row">{name}</th>
                  <td data-testid={`now-${name}`}>{bytes(now)}</td>
                  <td data-testid={`full-${name}`}>{bytes(full)}</td>
                  <td class="bars" aria-hidden="true">
                    <div class="full" style={wide(full / most)} />
                    <div class="now" style={wide(now / most)} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </ScrollBox>
      )}
    </div>
  );
}

function sentence(parts: readonly CachePart[], free: number): string {
  const lines = parts.map(({ name, tokens }) => `${name}: ${grouped(tokens)} tokens`);
  return ["The cache holds", ...lines, `free: ${grouped(Math.max(0, free))} tokens`].join("; ");
}

function wide(share: number) {
  return { width: `${(100 * share).toFixed(2)}%` };
}
