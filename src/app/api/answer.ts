/**
 * A generated text, while it streams, as the parts of an answer: what the model says, what it thinks, what it calls.
 * Owns the order in which these are told apart. Refuses to know HTTP.
 */
import { type Section, ThinkingStream } from "../thinking.ts";
import type { ToolCall } from "./tool-calls.ts";

export type AnswerPart =
  | { readonly kind: "content" | "reasoning"; readonly text: string }
  | { readonly kind: "call"; readonly call: ToolCall };

/** Takes calls out of what the model says. */
export interface CallReader {
  push(text: string): AnswerPart[];
  end(): AnswerPart[];
}

export class AnswerParts {
  readonly #thinking: ThinkingStream;
  readonly #calls: CallReader | null;

  /** opened: the section that the prompt has opened; calls: null where no tools were given. */
  constructor(opened: Section | null, calls: CallReader | null) {
    this.#thinking = new ThinkingStream(opened);
    this.#calls = calls;
  }

  /** text: with control tokens written out. */
  push(text: string): AnswerPart[] {
    return this.#thinking.push(text).flatMap((part) => this.#parts(part));
  }

  end(): AnswerPart[] {
    const rest = this.#thinking.end().flatMap((part) => this.#parts(part));
    return [...rest, ...(this.#calls?.end() ?? [])];
  }

  #parts({ kind, text }: ReturnType<ThinkingStream["push"]>[number]): AnswerPart[] {
    if (kind === "thinking") return [{ kind: "reasoning", text }];
    return this.#calls ? this.#calls.push(text) : [{ kind: "content", text }];
  }
}
