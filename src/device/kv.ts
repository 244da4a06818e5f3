/** The part of the contract that says how keys and values are held, and where; src/cache has the formats. */
export type KvPart = "keys" | "values";

/**
 * How keys and values are held: one head vector as it comes, and in formats with a packing whole pages later. The codec owns
 * the bytes: the reference device encodes and decodes through it; fast devices have kernels for the formats that they name
 * and refuse others.
 */
export interface KvCodec {
  readonly name: string;
  vectorBytes(headDim: number): number;
  /**
   * vector [headDim] f32 -> vectorBytes bytes. Errors in keys matter differently from those in values: a format may treat them
   * differently.
   */
  encode(vector: Float32Array, bytes: Uint8Array, part: KvPart): void;
  decode(bytes: Uint8Array, vector: Float32Array): void;
  /** null: vectors stay as they came. */
  readonly packed: Packing | null;
}

/** Bits of a code. */
export type CodeBits = 2 | 3 | 4 | 8;

/**
 * What the codes of a packed page are scaled by. channel: a scale and a zero for each dim of the head over the page's tokens;
 * rotated: one scale for each vector, after the rotation of rotation.ts.
 */
export type CodeScales = "channel" | "rotated";

export interface PartFormat {
  readonly bits: CodeBits;
  readonly scales: CodeScales;
}

/** As descriptions have it: "4c". */
export function partName({ bits, scales }: PartFormat): string {
  return `${bits}${scales[0]}`;
}

/**
 * How a page of one KV head is held once its text has gone on: encoded as a whole, a single time, from the vectors as they
 * were held until then. So tokens may share what one token could not carry, and the newest are exact.
 */
export interface Packing {
  readonly keys: PartFormat;
  readonly values: PartFormat;
  /** A page is packed when at least N tokens follow it. */
  readonly recent: number;
  /** How many pages at the beginning of a text are never packed: the first tokens' keys stand far out. */
  readonly first: number;
  /** Bytes of a page's keys, or of its values. */
  pageBytes(headDim: number, part: KvPart): number;
  /** page [PAGE_SLOTS, headDim] f32 -> pageBytes bytes, and back. */
  encode(page: Float32Array, bytes: Uint8Array, part: KvPart): void;
  decode(bytes: Uint8Array, page: Float32Array, part: KvPart): void;
}

/**
 * Pages that the caches of one kind of layer draw from: page n is page n in each of these caches. Position p of a text
 * lies in slot p % PAGE_SLOTS of the page that the text's table has for p / PAGE_SLOTS.
 */
export interface Pool {
  readonly id: number;
  /** A query at position i sees positions j with i - j < window; null: all. */
  readonly window: number | null;
  readonly pages: number;
}

/**
 * Keys and values of one layer: [pool.pages, kvHeads, PAGE_SLOTS] vectors each, in an arrangement of the device's. With a
 * packing the pages of `pool` are packed ones, and vectors as they come lie in pages of Graph.recent.
 */
export interface Cache {
  readonly id: number;
  readonly layer: number;
  readonly codec: KvCodec;
  readonly kvHeads: number;
  readonly headDim: number;
  /**
   * 0: keys are headDim numbers of their own. Else one vector serves as key and value: a key is so many numbers that are held
   * as keys, the dims that turn by position, followed by the token's value. A multiple of 16.
   */
  readonly turned: number;
  readonly pool: Pool;
}

/** Numbers of a head that a cache holds of a token's key, or of its value. */
export function heldDim({ headDim, turned }: Pick<Cache, "headDim" | "turned">, part: KvPart): number {
  return part === "keys" && turned > 0 ? turned : headDim;
}

/** Numbers of a head's key, and of a query that meets it. */
export function keyDim({ headDim, turned }: Pick<Cache, "headDim" | "turned">): number {
  return turned > 0 ? turned + headDim : headDim;
}

/** One KV head's keys or values of a cache. */
export interface PagePlace {
  readonly cache: Cache;
  readonly part: KvPart;
  readonly kvHead: number;
  /** Of a cache with a packing: in the pages of Graph.recent. */
  readonly isRecent?: boolean;
}
