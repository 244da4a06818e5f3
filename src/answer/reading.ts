/**
 * The parts of one answer, read from its tokens and not from its text: marks of reasoning and calls may be control
 * tokens, which the text leaves out.
 */
import { StopHold, stopsOf } from "../engine/generate.ts";
import type { TextStream, Tokenizer } from "../format/tokenizer.ts";
import { MARKS } from "./part-streams.ts";
import { type AnswerPart, AnswerParts, type CallReading, type ToolCall } from "./parts.ts";
import type { Section } from "./reasoning.ts";

export interface ReadingOptions {
  readonly tokenizer: Tokenizer;
  /** What the prompt has opened; "begun": the prompt ends inside of the answer. */
  readonly opened: Section | "begun" | null;
  readonly calls: CallReading | null;
  /** The generation's, which end the answer here, too. */
  readonly stop?: string | readonly string[];
}

export class Reading {
  text = "";
  reasoning = "";
  readonly calls: ToolCall[] = [];
  #waiting: AnswerPart[] = [];
  #isStopped = false;
  readonly #stream: TextStream;
  readonly #hold: StopHold;
  readonly #parts: AnswerParts;
  readonly #endIds: ReadonlySet<number>;

  constructor({ tokenizer, opened, calls, stop = [] }: ReadingOptions) {
    const special = [...MARKS, ...(calls?.marks ?? [])];
    this.#stream = tokenizer.stream({ continues: opened === "begun", special });
    this.#hold = new StopHold(stopsOf(stop));
    this.#parts = new AnswerParts(opened, calls);
    this.#endIds = tokenizer.endIds;
  }

  push(ids: readonly number[]): void {
    for (const id of ids) if (!this.#endIds.has(id)) this.#add(this.#stream.push(id));
  }

  end(): void {
    this.#add(this.#stream.end());
    if (!this.#isStopped) this.#keep(this.#parts.push(this.#hold.end()));
    this.#keep(this.#parts.end());
  }

  /** What has come since the last call. */
  take(): AnswerPart[] {
    const parts = this.#waiting;
    this.#waiting = [];
    return parts;
  }

  #add(more: string): void {
    if (more === "" || this.#isStopped) return;
    const { text, stopped } = this.#hold.push(more);
    this.#isStopped = stopped;
    this.#keep(this.#parts.push(text));
  }

  #keep(parts: readonly AnswerPart[]): void {
    for (const part of parts) {
      if (part.kind === "call") this.calls.push(part.call);
      else this[part.kind] += part.text;
      this.#waiting.push(part);
    }
  }
}
