/**
 * The operation list as the interpreter (assembly/run.ts) reads it: RECORD_WORDS little-endian words an operation. Owns
 * the word numbers on the host's side; the assembly file repeats them and the conformance suite would fail on any
 * difference. Words 0 to 3 are common, the others belong to the kind.
 */
export const RECORD_WORDS = 32;

/** A product of experts may bring codes of its input and the picks' order; an attend brings a merge. */
export const MOST_RECORDS_OF_OPERATION = 3;

export const KIND = {
  embed: 1,
  rmsNorm: 2,
  quantize: 3,
  matmul: 4,
  rope: 5,
  appendKv: 6,
  attend: 7,
  attendMerge: 8,
  gate: 9,
  add: 10,
  softcap: 11,
  takeOutputs: 12,
  slice: 13,
  scale: 14,
  route: 15,
  groupPicks: 16,
  expertMatmul: 17,
  combine: 18,
  conv: 19,
  gatedDelta: 20,
} as const;

export type Kind = keyof typeof KIND;

/** Word numbers of the common part. */
export const WORD = {
  kind: 0,
  /** 1: all threads meet after this operation. */
  meet: 1,
  /** Units that threads have taken; the host sets it to 0 before each step. */
  taken: 2,
  /** 0: rows are the step's tokens; 1: its outputs. */
  rows: 3,
  first: 4,
} as const;

/** One argument of a record: an address or integer, or a float. */
export type Argument = number | { f32: number };

/** Writes records one after another into `words`. */
export class RecordWriter {
  #count = 0;
  readonly #floats: Float32Array;

  constructor(readonly words: Uint32Array) {
    this.#floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  }

  get count(): number {
    return this.#count;
  }

  add(kind: Kind, rows: "tokens" | "outputs", args: readonly Argument[]): void {
    const at = this.#count++ * RECORD_WORDS;
    this.words[at + WORD.kind] = KIND[kind];
    this.words[at + WORD.rows] = rows === "outputs" ? 1 : 0;
    args.forEach((argument, i) => {
      // The address of something in another memory.
      if (Number.isNaN(argument)) throw new Error(`argument ${i} of ${kind} does not lie in this memory`);
      if (typeof argument === "number") this.words[at + WORD.first + i] = argument;
      else this.#floats[at + WORD.first + i] = argument.f32;
    });
  }

  /** All threads meet after the last operation added. */
  meet(): void {
    this.words[(this.#count - 1) * RECORD_WORDS + WORD.meet] = 1;
  }
}
