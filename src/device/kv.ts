/** The part of the contract for keys and values: their formats and pages. src/cache implements the formats. */
export type KvPart = "keys" | "values";

/**
 * How keys and values are stored: one head vector at a time as it arrives, and, in formats with a packing, whole pages
 * later. The codec defines the bytes: the reference device encodes and decodes through it; fast devices have kernels
 * for the formats that they list and refuse others.
 */
export interface KvCodec {
  readonly name: string;
  vectorBytes(headDim: number): number;
  /**
   * vector [headDim] f32 -> vectorBytes bytes. Keys and values may be treated differently, since errors in them have
   * different effects.
   */
  encode(vector: Float32Array, bytes: Uint8Array, part: KvPart): void;
  decode(bytes: Uint8Array, vector: Float32Array): void;
  /** null: vectors stay as they were appended. */
  readonly packed: Packing | null;
}

/** Bits of a code. */
export type CodeBits = 2 | 3 | 4 | 8;

/**
 * The scales of a packed page's codes. channel: a scale and a zero for each dim of the head, over the page's tokens;
 * rotated: one scale for each vector, after the rotation of rotation.ts.
 */
export type CodeScales = "channel" | "rotated";

export interface PartFormat {
  readonly bits: CodeBits;
  readonly scales: CodeScales;
}

/** The name in descriptions of formats: "4c". */
export function partName({ bits, scales }: PartFormat): string {
  return `${bits}${scales[0]}`;
}

/**
 * How a page of one KV head is stored once its text has moved on: encoded once and as a whole, from the vectors as they
 * were stored until then. So tokens can share parameters that would be too large for one token, and the newest tokens
 * are exact.
 */
export interface Packing {
  readonly keys: PartFormat;
  readonly values: PartFormat;
  /** A page is packed when at least N tokens follow it. */
  readonly recentTokens: number;
  /** Number of pages at the beginning of a text that are never packed: the first tokens' keys are outliers. */
  readonly firstPages: number;
  /** Bytes of a page's keys, or of its values. */
  pageBytes(headDim: number, part: KvPart): number;
  /** page [PAGE_SLOTS, headDim] f32 -> pageBytes bytes, and back. */
  encode(page: Float32Array, bytes: Uint8Array, part: KvPart): void;
  decode(bytes: Uint8Array, page: Float32Array, part: KvPart): void;
}

/**
 * Pages for the caches of one kind of layer: page n is page n in each of these caches. Position p of a text is in slot
 * p % PAGE_SLOTS of the page that the text's table has for p / PAGE_SLOTS.
 */
export interface Pool {
  readonly id: number;
  /** A query at position i attends to positions j with i - j < window; null: all. */
  readonly window: number | null;
  readonly pages: number;
}

/**
 * Keys and values of one layer: [pool.pages, kvHeads, PAGE_SLOTS] vectors each, in the device's own arrangement. With a
 * packing, the pages of `pool` are packed ones, and unpacked vectors are in pages of Graph.recentPool.
 */
export interface Cache {
  readonly id: number;
  readonly layer: number;
  readonly codec: KvCodec;
  readonly kvHeads: number;
  readonly headDim: number;
  /**
   * 0: keys are separate vectors of headDim numbers. Otherwise one vector serves as key and value: a key is this many
   * stored numbers (the rotary dims), followed by the token's value. A multiple of 16.
   */
  readonly turned: number;
  readonly pool: Pool;
}

/** Numbers that a cache stores for a token's key, or its value, of one head. */
export function heldDim({ headDim, turned }: Pick<Cache, "headDim" | "turned">, part: KvPart): number {
  return part === "keys" && turned > 0 ? turned : headDim;
}

/** Numbers of a head's key, and of a query for it. */
export function keyDim({ headDim, turned }: Pick<Cache, "headDim" | "turned">): number {
  return turned > 0 ? turned + headDim : headDim;
}

/** One KV head's keys or values of a cache. */
export interface PagePlace {
  readonly cache: Cache;
  readonly part: KvPart;
  readonly kvHead: number;
  /** For a cache with a packing: in the pages of Graph.recentPool. */
  readonly isRecent?: boolean;
}
