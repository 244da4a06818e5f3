// The layout of one thread's work area for attention. Its size depends on the head size only, not on the context.
// Columns are the (query token, query head) pairs that one pass over a KV head serves; they are stored in quads, so
// that the products address four columns with constant offsets from one pointer.
import { RELAXED } from "./build";
import { BLOCK, CODES_BYTES, groupsOf, OCTETS } from "./kv-layout";

// Facts as type arguments: AssemblyScript decides conditions on types at compile time, on inlined arguments only later,
// when it may already have merged the cases into one with tests in the innermost loop.
// @ts-ignore: decorator
@unmanaged
export class One { a: u8; }
// @ts-ignore: decorator
@unmanaged
export class Two { a: u16; }
// @ts-ignore: decorator
@unmanaged
export class Three { a: u8; b: u8; c: u8; }
// @ts-ignore: decorator
@unmanaged
export class Four { a: u32; }
// @ts-ignore: decorator
@unmanaged
export class Keys { a: u8; }
// @ts-ignore: decorator
@unmanaged
export class Values { a: u16; }

// @ts-ignore: decorator
@unmanaged
export class RotatedKeys { a: u32; }

/** Keys scaled by channel. */
// @ts-ignore: decorator
@unmanaged
export class ChannelKeys { a: u32; b: u32; }

/** Columns that a kernel is compiled for. */
// @ts-ignore: decorator
@inline
export function columnsOf<C>(): i32 {
  return offsetof<C>();
}

/** Whether a kernel is compiled for keys (rows are tokens) or values (rows are dims). */
// @ts-ignore: decorator
@inline
export function isKeys<K>(): bool {
  return offsetof<K>() == offsetof<Keys>();
}

// @ts-ignore: decorator
@inline
export function isRotatedKeys<K>(): bool {
  return offsetof<K>() == offsetof<RotatedKeys>();
}

// @ts-ignore: decorator
@inline
export function isChannelKeys<K>(): bool {
  return offsetof<K>() == offsetof<ChannelKeys>();
}

/** Maximum columns of a unit. */
export const COLUMNS: i32 = 64;
/** Tokens whose scores are held at a time. */
export const TILE: i32 = 2 * BLOCK;
export const SCORE_ROW_BYTES: usize = TILE * 4;

/** Bytes of an int8 operand of 32 k: bytes for the relaxed dot product, i16 for the plain one. */
export const OPERAND_BYTES: usize = RELAXED ? 32 : 64;
/** Four columns' int8 query of a group of 32 dims, then [4] each: correction, scale, sum (attend-int4.ts). */
export const QUERY_TILE_BYTES: usize = 4 * OPERAND_BYTES + 48;

// f32 [COLUMNS] each: running maximum (log2), sum of weights, factor from raw product to log2 score.
export const MAXIMA: usize = 0;
export const SUMS: usize = COLUMNS * 4;
export const FACTORS: usize = 2 * COLUMNS * 4;
/** f32 [COLUMNS][TILE]: raw products, then scores, then weights. */
export const SCORES: usize = 3 * COLUMNS * 4;
/** int4 only: the weights of one (block, group of dims) as int8 operands and their scales; decoded pairs. */
export const OPERANDS: usize = SCORES + usize(COLUMNS) * SCORE_ROW_BYTES;
export const OPERAND_SCALES: usize = OPERANDS + COLUMNS * 64;
export const VALUE_SCALES: usize = OPERAND_SCALES + COLUMNS * 4;
export const VALUE_CENTRES: usize = VALUE_SCALES + BLOCK * 4;
const HEAD_DEPENDENT: usize = VALUE_CENTRES + BLOCK * 4;

// @ts-ignore: decorator
@inline
export function paddedDims(headDim: i32): i32 {
  return groupsOf(headDim) * 32;
}

/** f32 [COLUMNS][groups][4]: added to every dim of the group, in four lanes. */
// @ts-ignore: decorator
@inline
export function offsetsAt(work: usize, headDim: i32, column: i32): usize {
  return work + HEAD_DEPENDENT + usize(column * groupsOf(headDim)) * 16;
}

/** [quad][headDim]: weighted sums of values, f32 [dims / 4][4 columns][4 dims]. */
// @ts-ignore: decorator
@inline
export function totalsAt(work: usize, headDim: i32, quad: i32): usize {
  return offsetsAt(work, headDim, COLUMNS) + usize(quad * paddedDims(headDim)) * 16;
}

/** [quad]: prepared queries in the format's own layout. */
// @ts-ignore: decorator
@inline
export function queriesAt(work: usize, headDim: i32, quad: i32): usize {
  return totalsAt(work, headDim, COLUMNS / 4) + usize(quad * paddedDims(headDim)) * 16;
}

// Packed formats only.

/** [COLUMNS] of 4 bytes for each padded dim: queries, and their units, as attend-packed.ts prepares them. */
// @ts-ignore: decorator
@inline
export function plainQueryAt(work: usize, headDim: i32, column: i32): usize {
  return queriesAt(work, headDim, COLUMNS / 4) + usize(column * paddedDims(headDim)) * 4;
}

/** 8 bytes for each padded dim: scales and zeros of a page's channels, and their units. */
// @ts-ignore: decorator
@inline
export function channelsAt(work: usize, headDim: i32): usize {
  return plainQueryAt(work, headDim, COLUMNS);
}

/** f32 [4][4], to be summed: the initial value of the scores of a quad. */
// @ts-ignore: decorator
@inline
export function startsAt(work: usize, headDim: i32): usize {
  return channelsAt(work, headDim) + usize(paddedDims(headDim)) * 8;
}

/** [groups] of QUERY_TILE_BYTES: a quad's queries times a page's scales. */
// @ts-ignore: decorator
@inline
export function foldedAt(work: usize, headDim: i32): usize {
  return startsAt(work, headDim) + 64;
}

/** A page's codes as tiles of 4 bits; also a vector. */
// @ts-ignore: decorator
@inline
export function tilesAt(work: usize, headDim: i32): usize {
  return foldedAt(work, headDim) + usize(groupsOf(headDim)) * QUERY_TILE_BYTES;
}

/** Size of a thread's work area. */
export function attendWorkBytes(headDim: i32, packed: bool): usize {
  return packed
    ? tilesAt(0, headDim) + usize(groupsOf(headDim)) * OCTETS * CODES_BYTES
    : queriesAt(0, headDim, COLUMNS / 4);
}
