/**
 * What a chat shows. On a terminal: answers, with reasoning and notes dimmed; control characters of a model are escaped.
 * In a pipe: answers and output of commands on stdout, everything else on stderr, no
 * reasoning and no colours.
 */

import { write, writeRaw } from "./interrupt.ts";
import { visible } from "./terminal.ts";

/** Part of an answer. */
export interface ShownPart {
  readonly kind: "text" | "reasoning";
  readonly text: string;
}

const DIM = "\x1b[2m";
const PLAIN = "\x1b[22m";

export class Screen {
  readonly isTerminal: boolean;
  readonly #signal: AbortSignal;
  readonly #hasColours: boolean;
  #kind: ShownPart["kind"] | null = null;
  #isLineOpen = false;

  constructor(signal: AbortSignal, isTerminal: boolean, env: NodeJS.ProcessEnv = process.env) {
    this.#signal = signal;
    this.isTerminal = isTerminal;
    // no-color.org: if set and not empty.
    this.#hasColours = isTerminal && !env.NO_COLOR && env.TERM !== "dumb";
  }

  /** A piece of an answer. */
  async part({ kind, text }: ShownPart): Promise<void> {
    if (kind === "reasoning" && !this.isTerminal) return;
    let begin = "";
    if (kind !== this.#kind) {
      if (this.#kind !== null) begin = this.#isLineOpen ? "\n\n" : "\n";
      if (this.#hasColours) begin += kind === "reasoning" ? DIM : this.#kind === null ? "" : PLAIN;
      // Without colours, words distinguish them.
      else if (this.isTerminal && (kind === "reasoning" || this.#kind !== null))
        begin += kind === "reasoning" ? "[reasoning]\n" : "[answer]\n";
      this.#kind = kind;
    }
    this.#isLineOpen = !text.endsWith("\n");
    await writeRaw(begin + this.#shown(text), this.#signal);
  }

  /** The answer is over, whole or not. Does not wait: it also runs after errors. */
  endAnswer(): void {
    const isDim = this.#hasColours && this.#kind === "reasoning";
    const end = (isDim ? PLAIN : "") + (this.#isLineOpen ? "\n" : "");
    if (end !== "" && !process.stdout.errored) process.stdout.write(end);
    this.#kind = null;
    this.#isLineOpen = false;
  }

  /** The output of a command. */
  say(text: string): Promise<void> {
    return write(`${text}\n`, this.#signal);
  }

  /** A note. */
  note(text: string): void {
    const out = this.isTerminal ? process.stdout : process.stderr;
    const shown = this.#shown(text);
    out.write(this.#hasColours ? `${DIM}${shown}${PLAIN}\n` : `${shown}\n`);
  }

  #shown(text: string): string {
    return this.isTerminal ? visible(text) : text;
  }
}
