/**
 * The operation list that the interpreter (assembly/run.ts) reads: RECORD_WORDS little-endian words for each operation,
 * first the common ones, then those of its kind (abi.js).
 */
import { RECORD_FIELDS, RECORD_HEAD, RECORD_WORDS } from "./abi.js";

/**
 * Records per operation: a product of experts may need codes of its input and the picks' order; an attend needs a
 * merge.
 */
export const MOST_RECORDS_OF_OPERATION = 3;

export type Kind = keyof typeof RECORD_FIELDS;
/** Addresses and numbers by name. */
export type Fields<K extends Kind> = { readonly [Name in keyof (typeof RECORD_FIELDS)[K]]: number };

/** The interpreter's number of each kind. */
export const KIND = Object.fromEntries(Object.keys(RECORD_FIELDS).map((kind, i) => [kind, i + 1])) as {
  readonly [K in Kind]: number;
};

const HEAD = Object.keys(RECORD_HEAD);

/** Word indices of the common part, and of the first argument. */
export const WORD = Object.fromEntries([...HEAD, "first"].map((name, i) => [name, i])) as {
  readonly [Name in keyof typeof RECORD_HEAD | "first"]: number;
};

/** Writes consecutive records into `words`. */
export class RecordWriter {
  #count = 0;
  readonly #floats: Float32Array;

  constructor(readonly words: Uint32Array) {
    this.#floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  }

  get count(): number {
    return this.#count;
  }

  add<K extends Kind>(kind: K, rows: "tokens" | "outputs", fields: Fields<K>): void {
    const at = this.#count++ * RECORD_WORDS;
    this.words[at + WORD.kind] = KIND[kind];
    this.words[at + WORD.rows] = rows === "outputs" ? 1 : 0;
    Object.entries(RECORD_FIELDS[kind]).forEach(([name, type], i) => {
      const value = fields[name as keyof Fields<K>];
      // Not given, or the address of something in another memory.
      if (value === undefined || Number.isNaN(value))
        throw new Error(`${name} of ${kind} is not in this memory`);
      if (type === "float") this.#floats[at + WORD.first + i] = value;
      else this.words[at + WORD.first + i] = value;
    });
  }

  /** Makes all threads meet after the last operation added. */
  meet(): void {
    this.words[(this.#count - 1) * RECORD_WORDS + WORD.meet] = 1;
  }
}
