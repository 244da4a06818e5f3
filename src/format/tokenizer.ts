/**
 * Text to token ids and back: the interface of every tokenizer, whatever file it came from. Text that a person wrote
 * stays text: it becomes a control token only if the caller says that it comes from a chat template.
 */

import type { Slices } from "./slices.ts";

export interface EncodeOptions {
  /** Text such as "<|end|>" becomes its control token. For rendered templates; default false. */
  special?: boolean;
  /** With `special`: positions in the text, in order, where no control token may start (see `protect`). */
  literals?: readonly number[];
}

export interface DecodeOptions {
  /** Control tokens are written out instead of left out: all, or those with these texts. Default false. */
  special?: boolean | readonly string[];
  /** The ids continue earlier text, so a first space is content. Matters only to SentencePiece vocabularies. */
  continues?: boolean;
}

/** Ids in, whole characters out. `end` returns the rest: U+FFFD for an incomplete character. */
export interface TextStream {
  push(id: number): string;
  end(): string;
}

/** Text to token ids and back. */
export interface Tokenizer {
  /** Number of ids: one more than the largest. The model's matrix may have more rows. */
  readonly vocab: number;
  /** Ids that end a turn or a text (eos, eot, eom, <end_of_turn>, ...). */
  readonly endIds: ReadonlySet<number>;
  readonly bosId: number | null;
  /** Whether the checkpoint asks for a bos before a prompt. `encodePrompt` adds it. */
  readonly addBos: boolean;
  /** Text to ids, without bos and eos. Lone surrogates are read as U+FFFD. */
  encode(text: string, options?: EncodeOptions): number[];
  /** `encode` in slices, for texts of any length. */
  slices(text: string, options?: EncodeOptions): Slices<number[]>;
  /** Ids to text. Ids without a text (padding of the matrix) give nothing; a negative one is an ArgumentError. */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /** The bytes of an id, perhaps part of a character; none for control tokens unless `special`. */
  bytes(id: number, options?: Pick<DecodeOptions, "special">): Uint8Array;
  /** Like `decode`, id by id: the pieces joined equal `decode` of all ids. */
  stream(options?: DecodeOptions): TextStream;
  /**
   * Puts LITERAL before everything in `text` that could be read as a control token, except those of `except`. A
   * template passes the marks through; `unmark` turns them into the `literals` of `encode`.
   */
  protect(text: string, except?: ReadonlySet<string>): string;
  /** What its file leaves open, so that text may be tokenized wrongly: one line each, for people. */
  readonly warnings: readonly string[];
  /**
   * For a matrix of N rows: tokens beyond it that are found by their text are read as text (Gemma 3 has one for
   * images). Throws FormatError if the bos, or a token that any text may need, is beyond.
   */
  fit(rows: number): Tokenizer;
  /** Ids that only a template may write: text with their spelling becomes them only with `special`. */
  readonly controlIds: ReadonlySet<number>;
  /** The control tokens that `encode` with `special` finds in a text, and where. */
  controls(text: string, literals: readonly number[]): ControlToken[];
}

export interface ControlToken {
  readonly id: number;
  /** Its place in the text: [start, end). */
  readonly start: number;
  readonly end: number;
}

/**
 * The mark of `protect`: a Unicode noncharacter, which no text should contain and which passes through `trim`, `split`
 * and concatenation in a template. A text that does contain it is unchanged in the end: `protect` marks the mark.
 */
export const LITERAL = "\uFDD0";

/** A text without its marks, and the positions in it where no control token may start, in order. */
export interface Unmarked {
  readonly text: string;
  readonly literals: readonly number[];
}

/** Removes the marks of `protect`. What follows a mark is text, even if it is a mark. */
export function unmark(marked: string): Unmarked {
  const literals: number[] = [];
  let text = "";
  let from = 0;
  for (let at = marked.indexOf(LITERAL); at >= 0; at = marked.indexOf(LITERAL, at + 2)) {
    text += marked.slice(from, at);
    literals.push(text.length);
    from = at + 1;
  }
  return { text: text + marked.slice(from), literals };
}

/** A template may write bos itself; then none is added. */
export function withBos({ bosId, addBos }: Pick<Tokenizer, "bosId" | "addBos">, ids: number[]): number[] {
  return addBos && bosId !== null && ids[0] !== bosId ? [bosId].concat(ids) : ids;
}
