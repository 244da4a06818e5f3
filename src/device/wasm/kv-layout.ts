/**
 * Sizes of the CPU device's KV cache and of what attention needs beside it: the host's mirror of
 * assembly/kv-layout.ts, attend-work.ts and attend.ts, so that the plan can be made before any memory exists.
 * `readToken` is the inverse of appending; a test writes on one side and reads on the other.
 */
import { f16ToF32 } from "../../format/float16.ts";
import { rotateBack } from "../rotation.ts";

/** Numbers by which kernels know the formats. */
export const KV_FORMATS = { f16: 0, int4: 1, rq4: 2 } as const;
export type KvFormat = keyof typeof KV_FORMATS;

const BLOCK = 32;
const GROUP = 32;
const COLUMNS = 64;
const TILE = 64;
const UNITS = 64;

const groupsOf = (headDim: number) => Math.ceil(headDim / GROUP);

/** Bytes of the keys, or of the values, of 32 tokens of one KV head. */
function halfBlockBytes(headDim: number, format: KvFormat): number {
  if (format === "rq4") return groupsOf(headDim) * 512 + BLOCK * 2;
  return format === "int4" ? groupsOf(headDim) * 640 : headDim * 64;
}

/** Bytes of one layer's keys and values for `capacity` token slots, a multiple of 32. */
export function kvCacheBytes(kvHeads: number, headDim: number, capacity: number, format: KvFormat): number {
  return ((kvHeads * capacity) / BLOCK) * 2 * halfBlockBytes(headDim, format);
}

/** Bytes of one thread's work area for attention: independent of context and step size. */
export function attendWorkBytes(headDim: number): number {
  const groups = groupsOf(headDim);
  const fixed = COLUMNS * (3 * 4 + TILE * 4 + 64 + 4) + 2 * BLOCK * 4;
  return fixed + COLUMNS * (groups * 16 + 2 * groups * GROUP * 4);
}

/** Bytes of one thread's work area for appending. */
export function appendWorkBytes(headDim: number): number {
  return (headDim + 4) * 4;
}

/**
 * Most bytes of partial results that the threads share when up to `maxTokens` queries attend: independent of the
 * context. A step is cut into spans only until there are 64 units, so long prompt chunks need few.
 */
export function attendPartialBytes(
  maxTokens: number,
  heads: number,
  kvHeads: number,
  headDim: number,
): number {
  const tileQueries = Math.floor(COLUMNS / (heads / kvHeads));
  let rows = 0;
  for (let tiles = 1; tiles <= Math.ceil(maxTokens / tileQueries); tiles++) {
    const spans = Math.ceil(UNITS / (kvHeads * tiles));
    if (spans > 1) rows = Math.max(rows, Math.min(maxTokens, tiles * tileQueries) * heads * spans);
  }
  return rows * (headDim + 4) * 4;
}

/** Where a token's key or value of one head lies, and how to read it. */
export interface TokenPlace {
  readonly kvHead: number;
  readonly slot: number;
  readonly part: "keys" | "values";
  readonly headDim: number;
  readonly capacity: number;
  readonly format: KvFormat;
}

/** Reads one head vector of a token slot back as f32, out [headDim]. `bytes` is the layer's cache. */
export function readToken(bytes: Uint8Array, place: TokenPlace, out: Float32Array): void {
  const { kvHead, slot, part, headDim, capacity, format } = place;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const half = halfBlockBytes(headDim, format);
  const block = (kvHead * capacity) / BLOCK + Math.floor(slot / BLOCK);
  const start = block * 2 * half + (part === "values" ? half : 0);
  const token = slot % BLOCK;
  for (let dim = 0; dim < headDim; dim++) {
    if (format === "f16") {
      const row = part === "keys" ? token : dim;
      const octet = row >> 3;
      const k = part === "keys" ? octet * headDim + dim : octet * BLOCK + token;
      out[dim] = f16ToF32(view.getUint16(start + k * 16 + (2 * (row & 3) + ((row >> 2) & 1)) * 2, true));
      continue;
    }
    const group = Math.floor(dim / GROUP);
    const inGroup = dim % GROUP;
    const tile = part === "keys" ? (token >> 3) * groupsOf(headDim) + group : group * 4 + (inGroup >> 3);
    const row = part === "keys" ? token & 7 : inGroup & 7;
    const k = part === "keys" ? inGroup : token;
    // int4 has its pairs between the codes, rq4 its scales before them.
    const pairs = format === "rq4" ? 64 : part === "keys" ? tile * 32 : (group + 1) * 128;
    const codes = start + tile * 128 + pairs;
    const byte = bytes[codes + (row >> 2) * 64 + ((k & 15) >> 2) * 16 + (row & 3) * 4 + (k & 3)];
    const code = k < 16 ? byte & 15 : byte >> 4;
    if (format === "rq4") {
      const scales = start + (token >> 3) * 16;
      const scale = f16ToF32(view.getUint16(scales + (token & 3) * 4 + ((token >> 2) & 1) * 2, true));
      out[dim] = scale * (code - 7.5);
      continue;
    }
    const pair = part === "keys" ? codes + 128 + row * 4 : start + group * 640 + token * 4;
    out[dim] = f16ToF32(view.getUint16(pair + 2, true)) * code + f16ToF32(view.getUint16(pair, true));
  }
  if (format === "rq4") rotateBack(out);
}
