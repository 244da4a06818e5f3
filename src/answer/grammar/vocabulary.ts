/** A vocabulary as grammars need it: the bytes of its tokens, and which of them are nothing but blanks. */
import type { Tokenizer } from "../../format/tokenizer.ts";
import type { Marks } from "./marks.ts";

/** What the thread of grammars is given. */
export interface GrammarVocabulary {
  /** Bytes of all tokens, concatenated. Control tokens have none, so no grammar uses them, except those of `Marks`. */
  readonly bytes: Uint8Array;
  /** The place in `bytes` where each token begins, and the end of the last token. */
  readonly starts: Uint32Array;
  readonly endIds: readonly number[];
  /** Number of logits, which may be larger than the tokenizer's vocabulary. */
  readonly vocab: number;
}

export interface Blanks {
  /** A bit for each token that is nothing but blanks. */
  readonly mask: Int32Array;
  /** Lengths of these tokens in bytes. */
  readonly lengths: ReadonlyMap<number, number>;
  /** The bytes of any token. */
  bytes(id: number): number;
}

/** marks: learns which of its control tokens this vocabulary has. */
export function vocabularyOf(tokenizer: Tokenizer, vocab: number, marks: Marks): GrammarVocabulary {
  const count = Math.min(vocab, tokenizer.vocab);
  const texts = Array.from({ length: count }, (_, id) =>
    marks.bytesOf(tokenizer.bytes(id, { special: true }), tokenizer.bytes(id)),
  );
  const starts = new Uint32Array(count + 1);
  texts.forEach((text, id) => {
    starts[id + 1] = starts[id] + text.length;
  });
  // Shared, as several threads have it.
  const bytes = new Uint8Array(new SharedArrayBuffer(starts[count]));
  texts.forEach((text, id) => {
    bytes.set(text, starts[id]);
  });
  return { bytes, starts, endIds: [...tokenizer.endIds], vocab };
}

export function findBlanks({ bytes, starts, vocab }: GrammarVocabulary): Blanks {
  const mask = new Int32Array(Math.ceil(vocab / 32));
  const lengths = new Map<number, number>();
  for (let id = 0; id + 1 < starts.length; id++) {
    const text = bytes.subarray(starts[id], starts[id + 1]);
    if (text.length === 0 || !text.every((byte) => BLANKS.includes(byte))) continue;
    mask[id >> 5] |= 1 << (id & 31);
    lengths.set(id, text.length);
  }
  return { mask, lengths, bytes: (id) => (starts[id + 1] ?? 0) - (starts[id] ?? 0) };
}

const BLANKS = [0x20, 0x09, 0x0a, 0x0d];

/** Unless blanks are all there is. */
export function withoutBlanks(mask: Int32Array, blanks: Blanks): Int32Array {
  const rest = mask.map((word, i) => word & ~blanks.mask[i]);
  return rest.some((word) => word !== 0) ? rest : mask;
}
