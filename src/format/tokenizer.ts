/**
 * Text to token ids and back: what every tokenizer of this room offers, whatever file it came from. Refuses to know
 * how words become tokens (`tokenizer-pieces.ts`) and where a vocabulary is stored (`tokenizer-gguf.ts`,
 * `tokenizer-folder.ts`). The one idea: text that a person wrote is text. It becomes a control token only where a
 * caller says that the text comes from a chat template.
 */

export interface EncodeOptions {
  /** Text such as "<|end|>" becomes its control token. For rendered templates; default false. */
  special?: boolean;
  /** With `special`: LITERAL says that the character after it is text and starts no control token (see `protect`). */
  marks?: boolean;
}

export interface DecodeOptions {
  /** Control tokens are written out instead of left out; default false. */
  special?: boolean;
  /** The ids go on from earlier text, so a first space is content. Matters only to SentencePiece vocabularies. */
  continues?: boolean;
}

/** Ids in, whole characters out. `end` gives what is left: U+FFFD for a broken tail. */
export interface TextStream {
  push(id: number): string;
  end(): string;
}

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
  /** Ids to text. Ids without a text (padding of the matrix) give nothing; a negative one is an ArgumentError. */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /** The bytes that an id stands for, perhaps part of a character; none for control tokens unless `special`. */
  bytes(id: number, options?: Pick<DecodeOptions, "special">): Uint8Array;
  /** As `decode`, id by id: the pieces joined equal `decode` of all ids. */
  stream(options?: DecodeOptions): TextStream;
  /** Puts LITERAL in front of whatever in `text` could be read as a control token. For `encode` with `marks`. */
  protect(text: string): string;
}

/**
 * The mark of `protect`: a Unicode noncharacter, which no text should hold and which passes through `trim`, `split`
 * and concatenation in a template. A text that does hold it gets it back: `protect` marks the mark.
 */
export const LITERAL = "\uFDD0";
