/**
 * Text to token ids and back: what every tokenizer of this room offers, whatever file it came from. The one idea: text that a person wrote is text. It becomes a control token only where a
 * caller says that the text comes from a chat template.
 */

import type { Slices } from "./slices.ts";

export interface EncodeOptions {
  /** Text such as "<|end|>" becomes its control token. For rendered templates; default false. */
  special?: boolean;
  /** With `special`: places in the text, in order, where no control token starts all the same (see `protect`). */
  literals?: readonly number[];
}

export interface DecodeOptions {
  /** Control tokens are written out instead of left out: all, or those with these texts. Default false. */
  special?: boolean | readonly string[];
  /** The ids go on from earlier text, so a first space is content. Matters only to SentencePiece vocabularies. */
  continues?: boolean;
}

/** Ids in, whole characters out. `end` gives what is left: U+FFFD for a broken tail. */
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
  /** Whether the checkpoint asks for a bos in front of a prompt. `encodePrompt` does it. */
  readonly addBos: boolean;
  /** Text to ids, without bos and eos. Lone surrogates are read as U+FFFD. */
  encode(text: string, options?: EncodeOptions): number[];
  /** `encode` with places to pause, for texts of any length. */
  slices(text: string, options?: EncodeOptions): Slices<number[]>;
  /** Ids to text. Ids without a text (padding of the matrix) give nothing; a negative one is an ArgumentError. */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /** The bytes that an id stands for, perhaps part of a character; none for control tokens unless `special`. */
  bytes(id: number, options?: Pick<DecodeOptions, "special">): Uint8Array;
  /** As `decode`, id by id: the pieces joined equal `decode` of all ids. */
  stream(options?: DecodeOptions): TextStream;
  /**
   * Puts LITERAL in front of whatever in `text` could be read as a control token, but for those of `except`. A template
   * takes it along; `unmark` makes of it the `literals` of `encode`.
   */
  protect(text: string, except?: ReadonlySet<string>): string;
  /** What its file leaves open, so that text may be cut wrongly: one line each, for people. */
  readonly warnings: readonly string[];
  /**
   * For a matrix of N rows: tokens beyond it that are found by their text become text (Gemma 3 has one for images).
   * FormatError when a token that any text may need, or the bos, is beyond.
   */
  fit(rows: number): Tokenizer;
  /** Ids that only a template may write: text that looks like one becomes it only with `special`. */
  readonly controlIds: ReadonlySet<number>;
  /** The control tokens that `encode` with `special` finds in a text, and where. */
  controls(text: string, literals: readonly number[]): ControlToken[];
}

export interface ControlToken {
  readonly id: number;
  /** It stands at [start, end). */
  readonly start: number;
  readonly end: number;
}

/**
 * The mark of `protect`: a Unicode noncharacter, which no text should hold and which passes through `trim`, `split`
 * and concatenation in a template. A text that does hold it gets it back: `protect` marks the mark.
 */
export const LITERAL = "\uFDD0";

/** A text with marks, read: the text itself, and the places in it where no control token starts, in order. */
export interface Unmarked {
  readonly text: string;
  readonly literals: readonly number[];
}

/** Takes the marks of `protect` out. What follows a mark is text, a mark included. */
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

/** A template may write bos itself; a second one would be one too many. */
export function withBos({ bosId, addBos }: Pick<Tokenizer, "bosId" | "addBos">, ids: number[]): number[] {
  return addBos && bosId !== null && ids[0] !== bosId ? [bosId].concat(ids) : ids;
}
