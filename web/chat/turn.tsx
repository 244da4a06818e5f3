/** One turn on the page: the question with its documents, the reasoning folded away, the answer, and how it ended. */
import { bytes, grouped, rounded } from "../../src/page.ts";
import { answerSpeed } from "../models/model.ts";
import { CopyButton } from "../text/copy.tsx";
import { memo } from "../text/memo.ts";
import { Prose } from "../text/prose.tsx";
import type { Turn } from "./conversation.ts";
import type { TextDocument } from "./documents.ts";
import { type Talk, type TalkState, wantsRetry } from "./talk.ts";

export interface TurnProperties {
  turn: Turn;
  isLast: boolean;
  talk: Talk;
  reading: TalkState["reading"];
  canAsk: boolean;
  /** "2 of 3": its place among its siblings; "": it has none. */
  branch: string;
}

/** A turn that is done costs nothing while the next one streams. */
export const TurnView = memo(function TurnView({
  turn,
  isLast,
  talk,
  reading,
  canAsk,
  branch,
}: TurnProperties) {
  const isRunning = turn.state === "running";
  return (
    <article class="turn">
      <div class="question">
        <h2 class="hidden">You</h2>
        {turn.documents.map((document) => (
          <DocumentLine document={document} />
        ))}
        <p class="plain">{turn.question}</p>
        <div class="tools">
          {!isRunning && canAsk && (
            <button type="button" class="quiet" onClick={() => talk.edit(turn)}>
              Edit
            </button>
          )}
          {branch !== "" && <Branch {...{ turn, talk, branch }} />}
        </div>
      </div>
      <div class="answer">
        <h2 class="hidden">{turn.model || "Answer"}</h2>
        {turn.thinking.trim() !== "" && (
          <details class="thinking">
            <summary>{isRunning && turn.answer === "" ? "Thinking…" : "Reasoning"}</summary>
            <p class="plain">{turn.thinking.trim()}</p>
          </details>
        )}
        <Prose text={turn.answer} />
        {isRunning && <Waiting turn={turn} reading={reading} />}
        {!isRunning && <Ending turn={turn} isLast={isLast} talk={talk} canAsk={canAsk} />}
      </div>
    </article>
  );
});

function Branch({ turn, talk, branch }: Pick<TurnProperties, "turn" | "talk" | "branch">) {
  const [at, of] = branch.split(" of ").map(Number);
  return (
    <span class="branch">
      <button
        type="button"
        class="quiet"
        aria-label="Earlier version"
        disabled={at === 1}
        onClick={() => talk.turnTo(turn, -1)}
      >
        ‹
      </button>
      <span class="figures">{branch}</span>
      <button
        type="button"
        class="quiet"
        aria-label="Later version"
        disabled={at === of}
        onClick={() => talk.turnTo(turn, 1)}
      >
        ›
      </button>
    </span>
  );
}

function Waiting({ turn, reading }: { turn: Turn; reading: TalkState["reading"] }) {
  if (turn.answer !== "") return null;
  const text =
    reading && reading.total > reading.tokens
      ? `Reading ${grouped(reading.tokens)} of ${grouped(reading.total)} tokens`
      : "Reading";
  return (
    <>
      <p class="waiting">
        <span class="pulse" aria-hidden="true" />
        {turn.thinking === "" ? text : "Thinking"}
      </p>
      {reading && turn.thinking === "" && (
        <progress max={reading.total} value={reading.tokens} aria-label="Reading the prompt" />
      )}
    </>
  );
}

const ENDINGS: Partial<Record<Turn["state"], string>> = {
  stopped: "Stopped. What was said is kept.",
  length: "This answer reached its longest length.",
  context:
    "The context is full: the answer ends here. Begin a new conversation, or load the model with more.",
};

function Ending({ turn, isLast, talk, canAsk }: Omit<TurnProperties, "reading" | "branch">) {
  const { answer, problem } = turn;
  const ending = turn.state === "stopped" && answer.trim() === "" ? "Stopped." : ENDINGS[turn.state];
  const empty = turn.state === "end" && answer.trim() === "" ? "The model said nothing." : null;
  return (
    <>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {(ending || empty) && <p class="note">{ending ?? empty}</p>}
      <footer>
        {answer.trim() !== "" && <CopyButton text={answer} />}
        {isLast && canAsk && (
          <button type="button" class="quiet" onClick={() => talk.again()}>
            {wantsRetry(turn) ? "Try again" : "Regenerate"}
          </button>
        )}
        <Figures turn={turn} />
      </footer>
    </>
  );
}

function Figures({ turn: { figures } }: { turn: Turn }) {
  if (!figures) return null;
  const { promptTokens, reusedTokens, generatedTokens, draftedTokens, acceptedTokens, promptMs } = figures;
  const speed = answerSpeed(figures);
  const words = [
    `${grouped(generatedTokens)} tokens`,
    ...(speed === null ? [] : [`${rounded(speed)} tokens/s`]),
    ...(draftedTokens ? [`${grouped(acceptedTokens ?? 0)} of ${grouped(draftedTokens)} guessed right`] : []),
    `${grouped(promptTokens)} in the prompt${reusedTokens ? `, ${grouped(reusedTokens)} reused` : ""}`,
    `first after ${(promptMs / 1000).toFixed(promptMs < 9950 ? 1 : 0)} s`,
  ];
  return <span class="figures">{words.join(" · ")}</span>;
}

export function DocumentLine({ document, onRemove }: { document: TextDocument; onRemove?: () => void }) {
  const { name, tokens, isExact } = document;
  const size = tokens === null ? "" : `, ${isExact ? "" : "about "}${grouped(tokens)} tokens`;
  return (
    <p class="document">
      <span class="name">{name}</span>
      <span class="figures">
        {bytes(document.bytes)}
        {size}
      </span>
      {onRemove && (
        <button type="button" class="quiet" aria-label={`Remove ${name}`} onClick={onRemove}>
          Remove
        </button>
      )}
    </p>
  );
}
