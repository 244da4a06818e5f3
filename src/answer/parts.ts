/**
 * A generated text, while it streams, as the parts of an answer: what the model says, what it thinks, what it calls.
 * Reasoning is separated first, then calls.
 */

import type { CallReader, ReadPart } from "./calls/call-readers.ts";
import type { WrittenCall } from "./calls/written-call.ts";
import { partStream } from "./part-streams.ts";
import type { PartStream, Section, StreamedPart } from "./reasoning.ts";

/** A call of a tool. */
export interface ToolCall {
  /** Unique to this call: the message with the tool's result refers to it. */
  readonly id: string;
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** text: what the model says; reasoning: what it thinks first; call: of a tool, whole. */
export type AnswerPart =
  | { readonly kind: "text" | "reasoning"; readonly text: string }
  | { readonly kind: "call"; readonly call: ToolCall };

export interface CallReading {
  /** A new reader, for one answer. */
  reader(): CallReader;
  /** The marks that the reader looks for, which may be control tokens. */
  readonly marks: readonly string[];
  /** Calls after the first are dropped. */
  readonly isSingle: boolean;
}

export class AnswerParts {
  readonly #stream: PartStream;
  readonly #calls: CallReading | null;
  readonly #reader: CallReader | null;
  #count = 0;

  /** opened: the section that the prompt has opened, or "begun": the answer; calls: null where no tools were given. */
  constructor(opened: Section | "begun" | null, calls: CallReading | null) {
    this.#stream = partStream(opened);
    this.#calls = calls;
    this.#reader = calls?.reader() ?? null;
  }

  /** text: decoded with MARKS and the marks of calls. */
  push(text: string): AnswerPart[] {
    return this.#stream.push(text).flatMap((part) => this.#parts(part));
  }

  end(): AnswerPart[] {
    const rest = this.#stream.end().flatMap((part) => this.#parts(part));
    return [...rest, ...(this.#reader?.end() ?? []).flatMap((part) => this.#read(part))];
  }

  #parts({ kind, text }: StreamedPart): AnswerPart[] {
    if (kind === "reasoning") return [{ kind, text }];
    if (!this.#reader) return [{ kind: "text", text }];
    return this.#reader.push(text).flatMap((part) => this.#read(part));
  }

  #read(part: ReadPart): AnswerPart[] {
    if (part.kind === "text") return [part];
    if (this.#count++ > 0 && this.#calls?.isSingle) return [];
    return [{ kind: "call", call: toolCall(part.call) }];
  }
}

function toolCall(call: WrittenCall): ToolCall {
  return { id: `call_${crypto.randomUUID().replaceAll("-", "").slice(0, 24)}`, ...call };
}
