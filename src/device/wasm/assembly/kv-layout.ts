// The layout of keys and values in a layer's cache. The host's side is ../kv-layout.ts.
//
// A cache is [pages][kvHeads] blocks; a block holds 32 consecutive tokens of one head of a text, keys then values.
// Both halves are matrices cut into pairs of panels, so that scores (rows = tokens, k = dims) and weighted sums
// (rows = dims, k = tokens) run through the same products with each vector load serving several rows:
//  int4  8 rows x 32 k are 128 bytes: panel of rows 0..3, panel of rows 4..7. Vector v (0..3) of a panel holds at byte
//        4 * row + j the codes of k = 4v + j (low half) and k = 16 + 4v + j (high half). A pair of f16, zero | scale
//        << 16, belongs to every (token, group of 32 dims). Head sizes that are no multiple of 32 are padded to it.
//          keys    [4 token octets][groups]: 128 bytes of codes, 8 pairs
//          values  [groups]: 32 pairs (one a token), [4 dim octets] 128 bytes of codes
//  rq4   the 32 tokens' scales, f16, 8 a vector as in f16; then codes as int4's, in the rotated space, without pairs.
//          keys    scales, [4 token octets][groups] 128 bytes; values  scales, [groups][4 dim octets] 128 bytes
//  f16   8 rows x 1 k are 16 bytes; row r lies in half-word 2 * (r % 4) + r / 4 (see tinyLow).
//          keys    [4 token octets][headDim], values [headDim / 8 dim octets][32 tokens]
// Packed formats keep vectors as they come in blocks of f16, and hold keys and values of packed blocks as their parts say:
//  scales  by channel: u8 scales [headDim], i8 zeros [headDim], to whole cache lines; rotated: 64 bytes of scales, as rq4
//  codes   tiles of 8 rows x 32 k in the order of rq4's. 4 bits: 128 bytes as above. 2 bits: 64 bytes, vectors v = 0, 1 of
//          each panel, whose bytes hold k = 4v + j, + 8, + 16, + 24 in their four fields. 3 bits: those of all tiles, then
//          the high bits of all, 32 bytes a tile: a vector for each panel, bit f of whose bytes is that of k = 4f + j.

import { KV_F16, KV_INT4, KV_KEYS_SHIFT, KV_PACKED, KV_ROTATED, KV_RQ4, KV_VALUES_SHIFT } from "./abi/kv-formats";

export * from "./abi/kv-formats";

// @ts-ignore: decorator
@inline
export function isPacked(format: i32): bool {
  return (format & 15) == KV_PACKED;
}

/** The format of vectors as they come. */
// @ts-ignore: decorator
@inline
export function vectorFormat(format: i32): i32 {
  return isPacked(format) ? KV_F16 : format;
}

// @ts-ignore: decorator
@inline
export function keysPart(format: i32): i32 {
  return (format >> KV_KEYS_SHIFT) & 31;
}

// @ts-ignore: decorator
@inline
export function valuesPart(format: i32): i32 {
  return (format >> KV_VALUES_SHIFT) & 31;
}

// @ts-ignore: decorator
@inline
export function bitsOf(part: i32): i32 {
  return part & 15;
}

// @ts-ignore: decorator
@inline
export function isRotated(part: i32): bool {
  return (part & KV_ROTATED) != 0;
}

/** Tokens of a block: a page. */
export const BLOCK: i32 = 32;
/** Dims that share a scale and a zero. */
export const GROUP: i32 = 32;
export const OCTETS: i32 = 4;

export const CODES_BYTES: usize = 128;
export const KEY_TILE_BYTES: usize = CODES_BYTES + 32;
export const VALUE_PAIRS_BYTES: usize = 128;
export const VALUE_GROUP_BYTES: usize = VALUE_PAIRS_BYTES + 4 * CODES_BYTES;
/** rq4's scales of a block's keys, or values. */
export const ROTATED_SCALES_BYTES: usize = 64;
/** One k of eight rows. */
export const HALF_ROWS_BYTES: usize = 16;

// @ts-ignore: decorator
@inline
export function groupsOf(headDim: i32): i32 {
  return (headDim + GROUP - 1) / GROUP;
}

/** Where rq4 keeps the scale of a block's token. */
// @ts-ignore: decorator
@inline
export function rotatedScaleAt(half: usize, slot: i32): usize {
  return half + usize((slot >> 3) * 16 + (slot & 3) * 4 + ((slot >> 2) & 1) * 2);
}

/** Bytes of a packed part's scales. */
// @ts-ignore: decorator
@inline
export function scalesBytes(headDim: i32, part: i32): usize {
  return isRotated(part) ? ROTATED_SCALES_BYTES : usize((2 * headDim + 63) & ~63);
}

/** Bytes of a block's keys; values of vectors of as many dims take as many. */
// @ts-ignore: decorator
@inline
export function keysBytes(headDim: i32, format: i32): usize {
  return isPacked(format) ? packedBytes(headDim, keysPart(format)) : vectorsBytes(headDim, format);
}

// @ts-ignore: decorator
@inline
function packedBytes(headDim: i32, part: i32): usize {
  return scalesBytes(headDim, part) + usize(groupsOf(headDim)) * CODES_BYTES * usize(bitsOf(part));
}

// @ts-ignore: decorator
@inline
function vectorsBytes(headDim: i32, format: i32): usize {
  if (format == KV_RQ4) return ROTATED_SCALES_BYTES + usize(groupsOf(headDim)) * 4 * CODES_BYTES;
  return format == KV_INT4 ? usize(groupsOf(headDim)) * VALUE_GROUP_BYTES : usize(headDim) * 64;
}

// @ts-ignore: decorator
@inline
function blockBytes(headDim: i32, turned: i32, format: i32): usize {
  const values = isPacked(format) ? packedBytes(headDim, valuesPart(format)) : vectorsBytes(headDim, format);
  return keysBytes(keyDimsOf(headDim, turned), format) + values;
}

/** Dims that are held of a key: where one vector serves as key and value, those that turn. */
// @ts-ignore: decorator
@inline
export function keyDimsOf(headDim: i32, turned: i32): i32 {
  return turned > 0 ? turned : headDim;
}

/** The block that holds a text's `position`. table: the text's pages, u32 by block. The only place that knows. */
// @ts-ignore: decorator
@inline
export function blockAt(
  cache: usize, table: usize, kvHeads: i32, kvHead: i32, position: i32, headDim: i32, turned: i32, format: i32,
): usize {
  const page = load<u32>(table + (usize(position / BLOCK) << 2));
  return cache + (usize(page) * usize(kvHeads) + usize(kvHead)) * blockBytes(headDim, turned, format);
}
