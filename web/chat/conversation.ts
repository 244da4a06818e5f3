/**
 * A conversation on the page: turns and the documents in them. Pure: every change gives a new one. One idea: the last turn
 * alone may be unanswered, and is then no part of what a model sees, since roles alternate.
 */
import type { ChatMessage } from "../../src/browser.ts";
import type { StreamedPart } from "../../src/page.ts";
import { newId } from "../ids.ts";
import type { AnswerEnd, AnswerFigures } from "../models/model.ts";
import type { TextDocument } from "./documents.ts";

/** failed and lost come with a `problem`. */
export type TurnState = "running" | AnswerEnd | "stopped" | "lost" | "failed";

export interface Turn {
  readonly id: string;
  /** The turn before it. */
  readonly parent: string | null;
  /** When it was asked, in ms as Date.now() counts. */
  readonly at: number;
  readonly question: string;
  readonly documents: readonly TextDocument[];
  readonly answer: string;
  readonly thinking: string;
  readonly state: TurnState;
  readonly problem: string | null;
  readonly model: string;
  readonly figures: AnswerFigures | null;
}

export type Turns = readonly Turn[];

/** A new question after the answered turns. What an unanswered one had attached goes along. */
export function asked(
  turns: Turns,
  question: string,
  documents: readonly TextDocument[],
  model: string,
): Turns {
  const last = turns.at(-1);
  const isOpen = last !== undefined && !isAnswered(last);
  const before = isOpen ? turns.slice(0, -1) : turns;
  return [
    ...before,
    {
      id: newId(),
      parent: before.at(-1)?.id ?? null,
      at: Date.now(),
      question,
      documents: isOpen ? [...last.documents, ...documents] : documents,
      answer: "",
      thinking: "",
      state: "running",
      problem: null,
      model,
      figures: null,
    },
  ];
}

/** The last turn with something of it changed. */
export function changed(turns: Turns, change: Partial<Turn>): Turns {
  const last = turns.at(-1);
  return last ? [...turns.slice(0, -1), { ...last, ...change }] : turns;
}

export function heard(turns: Turns, parts: readonly StreamedPart[]): Turns {
  let { answer = "", thinking = "" } = turns.at(-1) ?? {};
  for (const { kind, text } of parts) {
    if (kind === "text") answer += text;
    else thinking += text;
  }
  return changed(turns, { answer, thinking });
}

export function isAnswered({ answer, state }: Turn): boolean {
  // A model that says nothing has answered.
  return answer.trim() !== "" || state === "end" || state === "length" || state === "context";
}

/**
 * The messages for the model. Documents of the first question go into the system message with the instructions, as in
 * the terminal: models are trained to look there. Later ones come before their questions, so that nothing is read
 * again.
 */
export function toMessages(turns: Turns, instructions: string): ChatMessage[] {
  const seen = turns.filter((turn, i) => i === turns.length - 1 || isAnswered(turn));
  const first = seen[0]?.documents.map(({ text }) => text) ?? [];
  const system = [instructions.trim(), ...first].filter((text) => text !== "").join("\n\n");
  const messages: ChatMessage[] = system === "" ? [] : [{ role: "system", content: system }];
  for (const [i, { documents, question, answer }] of seen.entries()) {
    const inFront = i === 0 ? [] : documents.map(({ text }) => text);
    messages.push({ role: "user", content: [...inFront, question].join("\n\n") });
    if (i < seen.length - 1) messages.push({ role: "assistant", content: answer });
  }
  return messages;
}
