// Scores where one vector serves as key and value (Cache.turned in ../../kv.ts): a key is the rotary dims, stored as
// keys, followed by the token's value; a query is [turned | headDim]. Its two parts are multiplied with keys and values
// by the products of their format, each in its own work area, and the sum of both is the score. In all formats a block
// of values is a block of keys with rows and columns exchanged; so it is transposed, as codes, once for all columns of
// a unit.
import { prepareQueryF16, scoreBlockF16 } from "./attend-f16";
import { prepareQueryInt4, scoreBlockInt4 } from "./attend-int4";
import { prepareQueryPacked, scorePagePacked, tilesOf } from "./attend-packed";
import { prepareQueryRq4, scoreBlockRq4 } from "./attend-rq4";
import { attendWorkBytes, FACTORS, paddedDims, SCORE_ROW_BYTES, SCORES, SUMS } from "./attend-work";
import { madd, maxLanes } from "./exp";
import {
  bitsOf,
  BLOCK,
  CODES_BYTES,
  groupsOf,
  HALF_ROWS_BYTES,
  isPacked,
  KEY_TILE_BYTES,
  keysBytes,
  keysPart,
  KV_INT4,
  KV_RQ4,
  OCTETS,
  ROTATED_SCALES_BYTES,
  scalesBytes,
  VALUE_PAIRS_BYTES,
  valuesPart,
  vectorFormat,
} from "./kv-layout";

/**
 * In a thread's work area, the part for the rotary dims; its FACTORS are factors of their raw scores, its SUMS those
 * of the values'.
 */
// @ts-ignore: decorator
@inline
function turnedAt(work: usize, headDim: i32, format: i32): usize {
  return work + attendWorkBytes(headDim, isPacked(format));
}

/** For packed formats: the part for values as rotated keys; its FACTORS are factors of their raw scores. */
// @ts-ignore: decorator
@inline
function rotatedAt(work: usize, headDim: i32, turned: i32, format: i32): usize {
  return turnedAt(work, headDim, format) + attendWorkBytes(turned, isPacked(format));
}

/** A block of values, transposed into a block of keys. */
// @ts-ignore: decorator
@inline
function blockKeysAt(work: usize, headDim: i32, turned: i32, format: i32): usize {
  return rotatedAt(work, headDim, turned, format) + (isPacked(format) ? attendWorkBytes(headDim, false) : 0);
}

/** Size of a thread's work area. */
export function turnedWorkBytes(headDim: i32, turned: i32, format: i32): usize {
  return blockKeysAt(0, headDim, turned, format) + usize(paddedDims(headDim)) * 64;
}

/** Largest magnitude of x [dims]; 0: x scores 0 everywhere. */
export function largestOf(x: usize, dims: i32): f32 {
  let most = f32x4.splat(0);
  for (let i: usize = 0; i < usize(dims) * 4; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + i)));
  const largest = f32x4.extract_lane(maxLanes(most), 0);
  // The inverse of anything smaller would not be finite.
  return largest > 1e-30 ? largest : 0;
}

/** Prepares a query for vectors of a format. Returns the value of a raw score of 1. */
export function prepareQuery(work: usize, column: i32, query: usize, largest: f32, headDim: i32, format: i32): f32 {
  if (format == KV_INT4) return prepareQueryInt4(work, column, query, largest, headDim);
  if (format == KV_RQ4) return prepareQueryRq4(work, column, query, largest, headDim);
  return prepareQueryF16(work, column, query, largest, headDim);
}

/** Raw scores with the 32 tokens of a block of vectors. */
export function scoreBlock(keys: usize, work: usize, columns: i32, first: i32, headDim: i32, format: i32): void {
  if (format == KV_INT4) scoreBlockInt4(keys, work, columns, first, headDim);
  else if (format == KV_RQ4) scoreBlockRq4(keys, work, columns, first, headDim);
  else scoreBlockF16(keys, work, columns, first, headDim);
}

/**
 * query [turned + headDim] f32. Returns the value of a score of 1: its largest magnitude. meetsPacked: for packed
 * blocks, too.
 */
export function prepareQueryTurned(
  work: usize, column: i32, query: usize, headDim: i32, turned: i32, format: i32, meetsPacked: bool,
): f32 {
  const own = turnedAt(work, headDim, format);
  const rest = query + usize(turned) * 4;
  const ownLargest = largestOf(query, turned);
  const restLargest = largestOf(rest, headDim);
  const largest = max(ownLargest, restLargest);
  const inverse: f32 = largest > 0 ? 1 / largest : 0;
  const at = usize(column) * 4;
  const vectors = vectorFormat(format);
  store<f32>(own + FACTORS + at, prepareQuery(own, column, query, ownLargest, turned, vectors) * inverse);
  store<f32>(own + SUMS + at, prepareQuery(work, column, rest, restLargest, headDim, vectors) * inverse);
  if (meetsPacked) {
    prepareQueryPacked(own, column, query, ownLargest, turned);
    const rotated = rotatedAt(work, headDim, turned, format);
    const unit = prepareQueryRq4(rotated, column, rest, restLargest, headDim);
    store<f32>(rotated + FACTORS + at, unit * inverse);
  }
  return largest;
}

/** Scores of all columns with the 32 tokens of a block of vectors, into SCORES from tile token `first`. */
export function scoreBlockTurned(
  block: usize, work: usize, columns: i32, first: i32, headDim: i32, turned: i32, format: i32,
): void {
  const own = turnedAt(work, headDim, format);
  const keys = blockKeysAt(work, headDim, turned, format);
  const vectors = vectorFormat(format);
  const values = block + keysBytes(turned, vectors);
  scoreBlock(block, own, columns, first, turned, vectors);
  if (vectors == KV_INT4) turnInt4(values, keys, headDim);
  else if (vectors == KV_RQ4) turnRotated(values, values + ROTATED_SCALES_BYTES, keys, headDim, 0);
  else turnF16(values, keys, headDim);
  scoreBlock(keys, work, columns, first, headDim, vectors);
  join(work, work, own + SUMS, own, columns, first);
}

/** The same for a packed block. */
export function scorePageTurned(
  page: usize, work: usize, columns: i32, first: i32, headDim: i32, turned: i32, format: i32,
): void {
  const own = turnedAt(work, headDim, format);
  const rotated = rotatedAt(work, headDim, turned, format);
  const keys = blockKeysAt(work, headDim, turned, format);
  const values = page + keysBytes(turned, format);
  const part = valuesPart(format);
  const bits = bitsOf(part);
  scorePagePacked(page, own, columns, first, turned, keysPart(format));
  const codes = tilesOf(values + scalesBytes(headDim, part), work, headDim, bits);
  // rq4's codes stand for numbers around 7.5.
  turnRotated(values, codes, keys, headDim, 8 - (1 << (bits - 1)));
  scoreBlockRq4(keys, rotated, columns, first, headDim);
  join(work, rotated, rotated + FACTORS, own, columns, first);
}

/**
 * SCORES of `work` = those of `from` times `factors` + those of `own` times its FACTORS, by column, for a block's
 * tokens.
 */
function join(work: usize, from: usize, factors: usize, own: usize, columns: i32, first: i32): void {
  for (let column = 0; column < columns; column++) {
    const a = f32x4.splat(load<f32>(factors + usize(column) * 4));
    const b = f32x4.splat(load<f32>(own + FACTORS + usize(column) * 4));
    const at = SCORES + usize(column) * SCORE_ROW_BYTES + usize(first) * 4;
    for (let i = at; i < at + usize(BLOCK) * 4; i += 16)
      v128.store(work + i, madd(b, v128.load(own + i), f32x4.mul(a, v128.load(from + i))));
  }
}

/** Transposes four rows of four bytes. */
// @ts-ignore: decorator
@inline
function turnFours(x: v128): v128 {
  return i8x16.shuffle(x, x, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}

/**
 * Transposes 32 dims by 32 tokens of 4 bits: tiles of values, one dim octet after another, to tiles of keys, `stride`
 * bytes between token octets; adds `more` to the codes of each half byte.
 */
// @ts-ignore: decorator
@inline
function turnGroup(from: usize, to: usize, stride: usize, more: v128): void {
  const low = i8x16.splat(15);
  for (let u: usize = 0; u < 4; u++) {
    const out = to + (u >> 1) * stride + (u & 1) * 64;
    for (let w: usize = 0; w < 4; w++) {
      const a = v128.load(from + w * 64 + u * 16);
      const b = v128.load(from + w * 64 + u * 16, 256);
      const first = v128.or(v128.and(a, low), i8x16.shl(b, 4));
      const last = v128.or(i8x16.shr_u(a, 4), v128.andnot(b, low));
      v128.store(out + w * 16, i8x16.add(turnFours(first), more));
      v128.store(out + 2 * stride + w * 16, i8x16.add(turnFours(last), more));
    }
  }
}

/** Transposes scales and tiles of rotated values into a block of rq4's keys; adds `more` to each code. */
function turnRotated(scales: usize, codes: usize, keys: usize, headDim: i32, more: i32): void {
  const groups = groupsOf(headDim);
  memory.copy(keys, scales, ROTATED_SCALES_BYTES);
  const both = i8x16.splat(i8(more * 17));
  for (let group = 0; group < groups; group++) {
    const from = codes + usize(group * OCTETS) * CODES_BYTES;
    const to = keys + ROTATED_SCALES_BYTES + usize(group) * CODES_BYTES;
    turnGroup(from, to, usize(groups) * CODES_BYTES, both);
  }
}

function turnInt4(values: usize, keys: usize, headDim: i32): void {
  const groups = groupsOf(headDim);
  const stride = usize(groups) * KEY_TILE_BYTES;
  for (let group = 0; group < groups; group++) {
    const to = keys + usize(group) * KEY_TILE_BYTES;
    for (let octet: usize = 0; octet < usize(OCTETS); octet++) {
      v128.store(to + octet * stride, v128.load(values + octet * 32), CODES_BYTES);
      v128.store(to + octet * stride, v128.load(values + octet * 32, 16), CODES_BYTES + 16);
    }
    values += VALUE_PAIRS_BYTES;
    turnGroup(values, to, stride, i8x16.splat(0));
    values += usize(OCTETS) * CODES_BYTES;
  }
}

/** Eight dims by eight tokens at a time. Rows are read, and columns written, in the order of half-words in a vector. */
function turnF16(values: usize, keys: usize, headDim: i32): void {
  for (let octet: usize = 0; octet < usize(OCTETS); octet++) {
    let from = values + octet * 8 * HALF_ROWS_BYTES;
    for (let dim = 0; dim < headDim; dim += 8) {
      const r0 = v128.load(from);
      const r1 = v128.load(from, 64);
      const r2 = v128.load(from, 16);
      const r3 = v128.load(from, 80);
      const r4 = v128.load(from, 32);
      const r5 = v128.load(from, 96);
      const r6 = v128.load(from, 48);
      const r7 = v128.load(from, 112);
      const a0 = v128.shuffle<i16>(r0, r1, 0, 8, 1, 9, 2, 10, 3, 11);
      const a1 = v128.shuffle<i16>(r0, r1, 4, 12, 5, 13, 6, 14, 7, 15);
      const a2 = v128.shuffle<i16>(r2, r3, 0, 8, 1, 9, 2, 10, 3, 11);
      const a3 = v128.shuffle<i16>(r2, r3, 4, 12, 5, 13, 6, 14, 7, 15);
      const a4 = v128.shuffle<i16>(r4, r5, 0, 8, 1, 9, 2, 10, 3, 11);
      const a5 = v128.shuffle<i16>(r4, r5, 4, 12, 5, 13, 6, 14, 7, 15);
      const a6 = v128.shuffle<i16>(r6, r7, 0, 8, 1, 9, 2, 10, 3, 11);
      const a7 = v128.shuffle<i16>(r6, r7, 4, 12, 5, 13, 6, 14, 7, 15);
      const b0 = v128.shuffle<i32>(a0, a2, 0, 4, 1, 5);
      const b1 = v128.shuffle<i32>(a0, a2, 2, 6, 3, 7);
      const b2 = v128.shuffle<i32>(a1, a3, 0, 4, 1, 5);
      const b3 = v128.shuffle<i32>(a1, a3, 2, 6, 3, 7);
      const b4 = v128.shuffle<i32>(a4, a6, 0, 4, 1, 5);
      const b5 = v128.shuffle<i32>(a4, a6, 2, 6, 3, 7);
      const b6 = v128.shuffle<i32>(a5, a7, 0, 4, 1, 5);
      const b7 = v128.shuffle<i32>(a5, a7, 2, 6, 3, 7);
      const to = keys + (octet * usize(headDim) + usize(dim)) * HALF_ROWS_BYTES;
      v128.store(to, v128.shuffle<i64>(b0, b4, 0, 2));
      v128.store(to, v128.shuffle<i64>(b0, b4, 1, 3), 64);
      v128.store(to, v128.shuffle<i64>(b1, b5, 0, 2), 16);
      v128.store(to, v128.shuffle<i64>(b1, b5, 1, 3), 80);
      v128.store(to, v128.shuffle<i64>(b2, b6, 0, 2), 32);
      v128.store(to, v128.shuffle<i64>(b2, b6, 1, 3), 96);
      v128.store(to, v128.shuffle<i64>(b3, b7, 0, 2), 48);
      v128.store(to, v128.shuffle<i64>(b3, b7, 1, 3), 112);
      from += usize(BLOCK) * HALF_ROWS_BYTES;
    }
  }
}
