// Attention's two products on an rq4 block: rotated query times codes, weights times codes; the caller rotates the sum
// back. The integer product is int4's (attend-int4.ts). With one scale per token and none per group, scores stay
// integers over all groups, weights are rounded once for all dims, and the codes' 7.5 is subtracted through sums of the
// operands.
import { Four, One, RotatedKeys, Three, Two, columnsOf } from "./attend-work";
import { OPERAND_BYTES, OPERAND_SCALES, OPERANDS, QUERY_TILE_BYTES, SCORE_ROW_BYTES, SCORES } from "./attend-work";
import { VALUE_SCALES, offsetsAt, paddedDims, queriesAt, totalsAt } from "./attend-work";
import { HALF_RANGE, multiply, roundFour, storeOperand, weighQuad } from "./attend-int4";
import { RELAXED } from "./build";
import { madd, maxLanes } from "./exp";
import { TINY, tinyHigh, tinyLow } from "./kv-half";
import { CODES_BYTES, GROUP, OCTETS, ROTATED_SCALES_BYTES, groupsOf } from "./kv-layout";
import { hadamard, rotationFactor, flipSigns } from "./kv-rotate";

/** Scores of all groups sum up to 2^31: 32 products of 127 and 7.5 in each group, times its scale. */
const SCALES_MOST: i32 = 70000;
const SCALE_MOST: i32 = 32767;
/** In a query's first tile, after the scales: the initial value of its scores, i32 [4]. */
const STARTS: usize = 4 * OPERAND_BYTES + 32;

/** out = R x times a factor, [headDim] f32. */
// @ts-ignore: decorator
@inline
function rotated(x: usize, out: usize, headDim: i32, factor: f32): void {
  flipSigns(x, out, headDim, rotationFactor(headDim) * factor);
  hadamard(out, headDim);
}

/** x = R transposed x, in place. */
export function rotateBack(x: usize, headDim: i32): void {
  hadamard(x, headDim);
  flipSigns(x, x, headDim, rotationFactor(headDim));
}

/**
 * Rotates query [headDim] f32 and converts it into int8 operands with an integer scale per 32 dims. largest: its
 * largest magnitude, or 0 for a query that scores 0 everywhere. Uses the totals. Returns the value of a raw score of 1.
 */
export function prepareQueryRq4(work: usize, column: i32, query: usize, largest: f32, headDim: i32): f32 {
  const x = totalsAt(work, headDim, 0);
  // Divided first: the sums of a rotation could overflow.
  rotated(query, x, headDim, largest > 0 ? 1 / largest : 0);
  let most = f32x4.splat(0);
  for (let i: usize = 0; i < usize(headDim) * 4; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + i)));
  const peak = f32x4.extract_lane(maxLanes(most), 0);
  const groups = groupsOf(headDim);
  const scaleMost = f32(min(SCALE_MOST, SCALES_MOST / groups));
  const inverseUnit: f32 = peak > 0 ? (127 * scaleMost) / peak : 0;
  const first = queriesAt(work, headDim, column >> 2);
  let tile = first;
  let start = 0;
  for (let dim = 0; dim < headDim; dim += GROUP) {
    const dims = usize(min(GROUP, headDim - dim));
    const group = x + usize(dim) * 4;
    most = f32x4.splat(0);
    for (let i: usize = 0; i < dims * 4; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(group + i)));
    const scale = peak > 0 ? Mathf.ceil((f32x4.extract_lane(maxLanes(most), 0) / peak) * scaleMost) : 0;
    const inverse = f32x4.splat(scale > 0 ? inverseUnit / scale : 0);
    const operand = tile + usize(column & 3) * OPERAND_BYTES;
    let count = i16x8.splat(0);
    for (let slice: usize = 0; slice < 2; slice++) {
      let bytes = i32x4.splat(0);
      if (slice * 16 < dims) {
        const at = group + slice * 64;
        const low = i16x8.narrow_i32x4_s(roundFour(v128.load(at), inverse), roundFour(v128.load(at, 16), inverse));
        const high = i16x8.narrow_i32x4_s(roundFour(v128.load(at, 32), inverse), roundFour(v128.load(at, 48), inverse));
        count = i16x8.add(count, i16x8.add(low, high));
        bytes = i8x16.narrow_i16x8_s(low, high);
      }
      storeOperand(operand, slice, bytes);
    }
    const params = tile + 4 * OPERAND_BYTES + usize(column & 3) * 4;
    store<i32>(params, RELAXED ? i32(scale) * 0x10001 : i32(scale), 16);
    start -= i32((i64(sumCodes(count)) * i64(scale) * 15) / 2);
    tile += QUERY_TILE_BYTES;
  }
  store<i32>(first + usize(column & 3) * 4, start, STARTS);
  return peak > 0 ? largest * (peak / (127 * scaleMost)) * TINY : 0;
}

// @ts-ignore: decorator
@inline
function sumCodes(codes: v128): i32 {
  const sums = i32x4.dot_i16x8_s(codes, i16x8.splat(1));
  const pairs = i32x4.add(sums, v128.shuffle<i32>(sums, sums, 2, 3, 0, 1));
  return i32x4.extract_lane(pairs, 0) + i32x4.extract_lane(pairs, 1);
}

/** A quad of queries against a block's keys: C rows of 32 raw scores. */
// @ts-ignore: decorator
@inline
function scoreQuad<C>(codes: usize, scales: usize, queries: usize, groups: i32, scores: usize): void {
  for (let octet = 0; octet < OCTETS; octet++) {
    for (let column: usize = 0; column < usize(columnsOf<C>()); column++) {
      const start = v128.load32_splat(queries + column * 4, STARTS);
      v128.store(scores + column * SCORE_ROW_BYTES, start);
      v128.store(scores + column * SCORE_ROW_BYTES, start, 16);
    }
    let query = queries;
    for (let group = 0; group < groups; group++) {
      multiply<C, RotatedKeys>(codes, query, query + 4 * OPERAND_BYTES + 16, scores);
      codes += CODES_BYTES;
      query += QUERY_TILE_BYTES;
    }
    const eight = v128.load(scales);
    const a = tinyLow(eight);
    const b = tinyHigh(eight);
    for (let column: usize = 0; column < usize(columnsOf<C>()); column++) {
      const row = scores + column * SCORE_ROW_BYTES;
      v128.store(row, f32x4.mul(f32x4.convert_i32x4_s(v128.load(row)), a));
      v128.store(row, f32x4.mul(f32x4.convert_i32x4_s(v128.load(row, 16)), b), 16);
    }
    scales += 16;
    scores += 32;
  }
}

/** Raw scores of all columns with the 32 tokens of a block, into SCORES from tile token `first`. */
export function scoreBlockRq4(keys: usize, work: usize, columns: i32, first: i32, headDim: i32): void {
  const groups = groupsOf(headDim);
  const codes = keys + ROTATED_SCALES_BYTES;
  for (let column = 0; column < columns; column += 4) {
    const queries = queriesAt(work, headDim, column >> 2);
    const scores = work + SCORES + usize(column) * SCORE_ROW_BYTES + usize(first) * 4;
    const left = columns - column;
    if (left >= 4) scoreQuad<Four>(codes, keys, queries, groups, scores);
    else if (left == 3) scoreQuad<Three>(codes, keys, queries, groups, scores);
    else if (left == 2) scoreQuad<Two>(codes, keys, queries, groups, scores);
    else scoreQuad<One>(codes, keys, queries, groups, scores);
  }
}

/** A block's 32 scales as f32. */
function decodeScales(scales: usize, work: usize): void {
  for (let i: usize = 0; i < 64; i += 16) {
    const eight = v128.load(scales + i);
    v128.store(work + VALUE_SCALES + 2 * i, f32x4.mul(tinyLow(eight), f32x4.splat(TINY)));
    v128.store(work + VALUE_SCALES + 2 * i, f32x4.mul(tinyHigh(eight), f32x4.splat(TINY)), 16);
  }
}

/**
 * Converts a column's weights [32 tokens] times the tokens' scales into an int8 operand with one scale; what the codes'
 * middle, `half`, adds to every dim is subtracted from `offset`.
 */
function prepareWeights(work: usize, column: i32, weights: usize, half: f32, offset: usize): void {
  const scales = work + VALUE_SCALES;
  const w0 = f32x4.mul(v128.load(weights), v128.load(scales));
  const w1 = f32x4.mul(v128.load(weights, 16), v128.load(scales, 16));
  const w2 = f32x4.mul(v128.load(weights, 32), v128.load(scales, 32));
  const w3 = f32x4.mul(v128.load(weights, 48), v128.load(scales, 48));
  const w4 = f32x4.mul(v128.load(weights, 64), v128.load(scales, 64));
  const w5 = f32x4.mul(v128.load(weights, 80), v128.load(scales, 80));
  const w6 = f32x4.mul(v128.load(weights, 96), v128.load(scales, 96));
  const w7 = f32x4.mul(v128.load(weights, 112), v128.load(scales, 112));
  const most = f32x4.pmax(
    f32x4.pmax(f32x4.pmax(w0, w1), f32x4.pmax(w2, w3)),
    f32x4.pmax(f32x4.pmax(w4, w5), f32x4.pmax(w6, w7)),
  );
  const largest = f32x4.extract_lane(maxLanes(most), 0);
  const scale: f32 = largest / 127;
  const inverse = f32x4.splat(largest > 0 ? 127 / largest : 0);
  const c0 = i16x8.narrow_i32x4_s(roundFour(w0, inverse), roundFour(w1, inverse));
  const c1 = i16x8.narrow_i32x4_s(roundFour(w2, inverse), roundFour(w3, inverse));
  const c2 = i16x8.narrow_i32x4_s(roundFour(w4, inverse), roundFour(w5, inverse));
  const c3 = i16x8.narrow_i32x4_s(roundFour(w6, inverse), roundFour(w7, inverse));
  const operand = work + OPERANDS + usize(column) * OPERAND_BYTES;
  storeOperand(operand, 0, i8x16.narrow_i16x8_s(c0, c1));
  storeOperand(operand, 1, i8x16.narrow_i16x8_s(c2, c3));
  store<f32>(work + OPERAND_SCALES + usize(column) * 4, scale);
  const count = i32x4.dot_i16x8_s(i16x8.add(i16x8.add(c0, c1), i16x8.add(c2, c3)), i16x8.splat(1));
  const lost = madd(f32x4.convert_i32x4_s(count), f32x4.splat(-half * scale), v128.load(offset));
  v128.store(offset, lost);
}

/** Adds the values of a block's 32 tokens, weighted by SCORES from tile token `first`, to all columns' rotated totals. */
export function weighBlockRq4(values: usize, work: usize, columns: i32, first: i32, headDim: i32): void {
  weighRotated(values, values + ROTATED_SCALES_BYTES, work, columns, first, headDim, HALF_RANGE);
}

/** The same for scales and tiles of 4 bits, of codes whose middle is `half`. */
export function weighRotated(
  tokenScales: usize, codes: usize, work: usize, columns: i32, first: i32, headDim: i32, half: f32,
): void {
  const groups = groupsOf(headDim);
  decodeScales(tokenScales, work);
  let offset = offsetsAt(work, headDim, 0);
  let weights = work + SCORES + usize(first) * 4;
  for (let column = 0; column < columns; column++) {
    prepareWeights(work, column, weights, half, offset);
    offset += usize(groups) * 16;
    weights += SCORE_ROW_BYTES;
  }
  const quadBytes = usize(paddedDims(headDim)) * 16;
  for (let group = 0; group < groups; group++) {
    let totals = totalsAt(work, headDim, 0) + usize(group) * GROUP * 16;
    let operands = work + OPERANDS;
    let scales = work + OPERAND_SCALES;
    for (let left = columns; left > 0; left -= 4) {
      if (left >= 4) weighQuad<Four>(codes, operands, scales, totals);
      else if (left == 3) weighQuad<Three>(codes, operands, scales, totals);
      else if (left == 2) weighQuad<Two>(codes, operands, scales, totals);
      else weighQuad<One>(codes, operands, scales, totals);
      totals += quadBytes;
      operands += 4 * OPERAND_BYTES;
      scales += 16;
    }
    codes += 4 * CODES_BYTES;
  }
}
