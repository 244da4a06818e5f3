// Attention's two products on an int4 block, nibbles read in place: query times keys, weights times values. Both are
// the same integer product: 8 rows of codes 0..15 by up to 4 columns of int8 operands over 32 k, summed exactly. scale
// * code + zero is applied to sums. Codes average 7.5, so the error of rounding an operand is corrected by 7.5 times
// the lost sum: what is left is the error against codes centred on zero. rq4 (attend-rq4.ts) and packed pages
// (attend-packed.ts) use the same product.
import { Four, Keys, One, Three, Two, Values, columnsOf, isChannelKeys, isKeys, isRotatedKeys } from "./attend-work";
import { OPERAND_BYTES, OPERAND_SCALES, OPERANDS, QUERY_TILE_BYTES, SCORE_ROW_BYTES, SCORES } from "./attend-work";
import { VALUE_CENTRES, VALUE_SCALES, offsetsAt, paddedDims, queriesAt, totalsAt } from "./attend-work";
import { RELAXED } from "./build";
import { ROUNDER, ROUNDER_BITS, madd, maxLanes, sumLanes } from "./exp";
import { TINY, tinyHigh, tinyLow } from "./kv-half";
import { CODES_BYTES, GROUP, KEY_TILE_BYTES, OCTETS, VALUE_PAIRS_BYTES, groupsOf } from "./kv-layout";

export const HALF_RANGE: f32 = 7.5;
/** Slices of a vector of codes: low and high halves of all bytes, or of the even bytes, then of the odd ones. */
const SLICES: i32 = RELAXED ? 2 : 4;
/** The low four bits of each byte, then of each i16, then ones. Loaded, because V8 rebuilds constants at each use. */
const CONSTANTS = memory.data<u16>([
  0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 15, 15, 15, 15, 15, 15, 15, 15, 1, 1, 1, 1, 1, 1, 1,
  1,
]);
/** The largest scale of a group of queries: scales are integers, so applying one is part of an integer product. */
const SCALE_MOST: f32 = 32767;

/** Products of one 32-bit step of k for 4 rows: int8 pairs to i16 (relaxed) or i16 pairs to i32 (plain). */
// @ts-ignore: decorator
@inline
function addProducts(sums: v128, operand: v128, codes: v128): v128 {
  return RELAXED
    ? i16x8.add(sums, i16x8.relaxed_dot_i8x16_i7x16_s(operand, codes))
    : i32x4.add(sums, i32x4.dot_i16x8_s(operand, codes));
}

/**
 * Adds scale * sums + zero * querySum to eight tokens' raw scores of a column, in the query's unit. params: the
 * column's integer scale (an i16 pair, or f32 in the plain binary) and, 16 bytes later, its sum. |sum of 16 bits| <=
 * 30480 + 120 (16 products of 127 and 15, and the correction), so that two times 32767 fit 32 bits.
 */
// @ts-ignore: decorator
@inline
function addScores(
  out: usize, params: usize, a: v128, b: v128, scaleA: v128, scaleB: v128, zeroA: v128, zeroB: v128,
): void {
  const unit = v128.load32_splat(params);
  const sum = v128.load32_splat(params, 16);
  const x = RELAXED ? f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(a, unit)) : f32x4.mul(f32x4.convert_i32x4_s(a), unit);
  const y = RELAXED ? f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(b, unit)) : f32x4.mul(f32x4.convert_i32x4_s(b), unit);
  v128.store(out, madd(scaleA, x, madd(zeroA, sum, v128.load(out))));
  v128.store(out, madd(scaleB, y, madd(zeroB, sum, v128.load(out, 16))), 16);
}

/** Adds sums times the column's f32 scale to eight dims' totals, four in each panel. */
// @ts-ignore: decorator
@inline
function addTotals(out: usize, scale: usize, a: v128, b: v128, ones: v128): void {
  const unit = v128.load32_splat(scale);
  const x = f32x4.convert_i32x4_s(RELAXED ? i32x4.dot_i16x8_s(a, ones) : a);
  const y = f32x4.convert_i32x4_s(RELAXED ? i32x4.dot_i16x8_s(b, ones) : b);
  v128.store(out, madd(x, unit, v128.load(out)));
  v128.store(out, madd(y, unit, v128.load(out, 64)), 64);
}

/** Adds sums times the column's integer scale to eight tokens' raw scores, integers until the last group is added. */
// @ts-ignore: decorator
@inline
function addIntegers(out: usize, scale: usize, a: v128, b: v128): void {
  const unit = v128.load32_splat(scale);
  const x = RELAXED ? i32x4.dot_i16x8_s(a, unit) : i32x4.mul(a, unit);
  const y = RELAXED ? i32x4.dot_i16x8_s(b, unit) : i32x4.mul(b, unit);
  v128.store(out, i32x4.add(v128.load(out), x));
  v128.store(out, i32x4.add(v128.load(out, 16), y), 16);
}

/** Adds sums times the column's f32 scale to eight tokens' raw scores. */
// @ts-ignore: decorator
@inline
function addScaled(out: usize, scale: usize, a: v128, b: v128, ones: v128): void {
  const unit = v128.load32_splat(scale);
  const x = f32x4.convert_i32x4_s(RELAXED ? i32x4.dot_i16x8_s(a, ones) : a);
  const y = f32x4.convert_i32x4_s(RELAXED ? i32x4.dot_i16x8_s(b, ones) : b);
  v128.store(out, madd(x, unit, v128.load(out)));
  v128.store(out, madd(y, unit, v128.load(out, 16)), 16);
}

/** The initial value of a column's sums: for queries, the correction. */
// @ts-ignore: decorator
@inline
function begin<K>(params: usize, column: usize): v128 {
  return isKeys<K>() ? v128.load32_splat(params + column * 4) : i32x4.splat(0);
}

/**
 * 8 rows x C columns (1..4) over 32 k. codes: two panels; operands: [4] of OPERAND_BYTES; params: 4 bytes for each
 * column, three times for keys (correction, scale, sum), integer scales for rotated keys, else f32 scales; out: raw
 * scores [column][token] of the first token, or totals [panel][column][4] of the first dim.
 */
// @ts-ignore: decorator
@inline
export function multiply<C, K>(codes: usize, operands: usize, params: usize, out: usize): void {
  const mask = v128.load(CONSTANTS, RELAXED ? 0 : 16);
  let a0 = begin<K>(params, 0);
  let b0 = a0;
  let a1 = begin<K>(params, 1);
  let b1 = a1;
  let a2 = begin<K>(params, 2);
  let b2 = a2;
  let a3 = begin<K>(params, 3);
  let b3 = a3;
  for (let vector: usize = 0; vector < 64; vector += 16) {
    let a = v128.load(codes + vector);
    let b = v128.load(codes + vector, 64);
    let x = operands + (vector >> 2);
    // One slice per iteration: as fast as unrolled code, for which V8 would load everything first and spill the sums.
    for (let slice = 0; slice < SLICES; slice++) {
      const rowsA = v128.and(a, mask);
      const rowsB = v128.and(b, mask);
      let k = v128.load32_splat(x);
      a0 = addProducts(a0, k, rowsA);
      b0 = addProducts(b0, k, rowsB);
      if (columnsOf<C>() > 1) {
        k = v128.load32_splat(x, OPERAND_BYTES);
        a1 = addProducts(a1, k, rowsA);
        b1 = addProducts(b1, k, rowsB);
      }
      if (columnsOf<C>() > 2) {
        k = v128.load32_splat(x, 2 * OPERAND_BYTES);
        a2 = addProducts(a2, k, rowsA);
        b2 = addProducts(b2, k, rowsB);
      }
      if (columnsOf<C>() > 3) {
        k = v128.load32_splat(x, 3 * OPERAND_BYTES);
        a3 = addProducts(a3, k, rowsA);
        b3 = addProducts(b3, k, rowsB);
      }
      a = i16x8.shr_u(a, 4);
      b = i16x8.shr_u(b, 4);
      x += 16;
    }
  }
  if (isKeys<K>()) {
    const pairsA = v128.load(codes, CODES_BYTES);
    const pairsB = v128.load(codes, CODES_BYTES + 16);
    const sA = tinyHigh(pairsA);
    const sB = tinyHigh(pairsB);
    const zA = tinyLow(pairsA);
    const zB = tinyLow(pairsB);
    addScores(out, params + 16, a0, b0, sA, sB, zA, zB);
    if (columnsOf<C>() > 1) addScores(out + SCORE_ROW_BYTES, params + 20, a1, b1, sA, sB, zA, zB);
    if (columnsOf<C>() > 2) addScores(out + 2 * SCORE_ROW_BYTES, params + 24, a2, b2, sA, sB, zA, zB);
    if (columnsOf<C>() > 3) addScores(out + 3 * SCORE_ROW_BYTES, params + 28, a3, b3, sA, sB, zA, zB);
  } else if (isRotatedKeys<K>()) {
    addIntegers(out, params, a0, b0);
    if (columnsOf<C>() > 1) addIntegers(out + SCORE_ROW_BYTES, params + 4, a1, b1);
    if (columnsOf<C>() > 2) addIntegers(out + 2 * SCORE_ROW_BYTES, params + 8, a2, b2);
    if (columnsOf<C>() > 3) addIntegers(out + 3 * SCORE_ROW_BYTES, params + 12, a3, b3);
  } else if (isChannelKeys<K>()) {
    const ones = v128.load(CONSTANTS, 32);
    addScaled(out, params, a0, b0, ones);
    if (columnsOf<C>() > 1) addScaled(out + SCORE_ROW_BYTES, params + 4, a1, b1, ones);
    if (columnsOf<C>() > 2) addScaled(out + 2 * SCORE_ROW_BYTES, params + 8, a2, b2, ones);
    if (columnsOf<C>() > 3) addScaled(out + 3 * SCORE_ROW_BYTES, params + 12, a3, b3, ones);
  } else {
    const ones = v128.load(CONSTANTS, 32);
    addTotals(out, params, a0, b0, ones);
    if (columnsOf<C>() > 1) addTotals(out + 16, params + 4, a1, b1, ones);
    if (columnsOf<C>() > 2) addTotals(out + 32, params + 8, a2, b2, ones);
    if (columnsOf<C>() > 3) addTotals(out + 48, params + 12, a3, b3, ones);
  }
}

/** A quad of queries against a block's keys: C rows of 32 raw scores. */
// @ts-ignore: decorator
@inline
function scoreQuad<C>(keys: usize, queries: usize, groups: i32, scores: usize): void {
  for (let octet = 0; octet < OCTETS; octet++) {
    let query = queries;
    for (let column: usize = 0; column < usize(columnsOf<C>()); column++) {
      v128.store(scores + column * SCORE_ROW_BYTES, i32x4.splat(0));
      v128.store(scores + column * SCORE_ROW_BYTES, i32x4.splat(0), 16);
    }
    for (let group = 0; group < groups; group++) {
      multiply<C, Keys>(keys, query, query + 4 * OPERAND_BYTES, scores);
      keys += KEY_TILE_BYTES;
      query += QUERY_TILE_BYTES;
    }
    scores += 32;
  }
}

/** A quad of weights against a group of 32 dims of a block's values: adds to C columns of totals. */
// @ts-ignore: decorator
@inline
export function weighQuad<C>(codes: usize, operands: usize, scales: usize, totals: usize): void {
  for (let octet = 0; octet < GROUP / 8; octet++) {
    multiply<C, Values>(codes, operands, scales, totals);
    codes += CODES_BYTES;
    totals += 128;
  }
}

/** Sixteen int8 k's into slice `slice` (k 0..15 or 16..31) of an operand. */
// @ts-ignore: decorator
@inline
export function storeOperand(operand: usize, slice: usize, bytes: v128): void {
  if (RELAXED) {
    v128.store(operand + slice * 16, bytes);
  } else {
    v128.store(operand + slice * 16, i16x8.shr_s(i16x8.shl(bytes, 8), 8));
    v128.store(operand + slice * 16, i16x8.shr_s(bytes, 8), 32);
  }
}

/** round(x * inverse) of four numbers, |result| <= 127. */
// @ts-ignore: decorator
@inline
export function roundFour(x: v128, inverse: v128): v128 {
  return i32x4.sub(madd(x, inverse, f32x4.splat(ROUNDER)), i32x4.splat(ROUNDER_BITS));
}

/**
 * Converts query [headDim] f32 into int8 operands with an integer scale per 32 dims. largest: its largest magnitude, or
 * 0 for a query that scores 0 everywhere. Returns the value of a raw score of 1.
 */
export function prepareQueryInt4(work: usize, column: i32, query: usize, largest: f32, headDim: i32): f32 {
  const unit = largest / (127 * SCALE_MOST);
  const inverseUnit: f32 = largest > 0 ? (127 * SCALE_MOST) / largest : 0;
  let tile = queriesAt(work, headDim, column >> 2);
  for (let dim = 0; dim < headDim; dim += GROUP) {
    const dims = usize(min(GROUP, headDim - dim));
    const x = query + usize(dim) * 4;
    let most = f32x4.splat(0);
    let sums = most;
    for (let i: usize = 0; i < dims; i += 4) {
      const values = v128.load(x + i * 4);
      most = f32x4.pmax(most, f32x4.abs(values));
      sums = f32x4.add(sums, values);
    }
    const ratio = largest > 0 ? f32x4.extract_lane(maxLanes(most), 0) / largest : 0;
    const scale = Mathf.ceil(ratio * SCALE_MOST);
    const inverse = f32x4.splat(scale > 0 ? inverseUnit / scale : 0);
    const operand = tile + usize(column & 3) * OPERAND_BYTES;
    let count = i16x8.splat(0);
    for (let slice: usize = 0; slice < 2; slice++) {
      let bytes = i32x4.splat(0);
      if (slice * 16 < dims) {
        const at = x + slice * 64;
        const low = i16x8.narrow_i32x4_s(roundFour(v128.load(at), inverse), roundFour(v128.load(at, 16), inverse));
        const high = i16x8.narrow_i32x4_s(roundFour(v128.load(at, 32), inverse), roundFour(v128.load(at, 48), inverse));
        count = i16x8.add(count, i16x8.add(low, high));
        bytes = i8x16.narrow_i16x8_s(low, high);
      }
      storeOperand(operand, slice, bytes);
    }
    const codeSum = f32x4.extract_lane(sumLanes(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(count, i16x8.splat(1)))), 0);
    const sum = f32x4.extract_lane(sumLanes(sums), 0) * inverseUnit;
    const lost = i32(Mathf.round(scale > 0 ? HALF_RANGE * (sum / scale - codeSum) : 0));
    const params = tile + 4 * OPERAND_BYTES + usize(column & 3) * 4;
    // Relaxed: sums are pairs of i16, and the first gets the correction.
    store<i32>(params, RELAXED ? lost & 0xffff : lost);
    if (RELAXED) store<i32>(params, i32(scale) * 0x10001, 16);
    else store<f32>(params, scale, 16);
    store<f32>(params, sum, 32);
    tile += QUERY_TILE_BYTES;
  }
  return unit * TINY;
}

/** Raw scores of all columns with the 32 tokens of a block, into SCORES from tile token `first`. */
export function scoreBlockInt4(keys: usize, work: usize, columns: i32, first: i32, headDim: i32): void {
  const groups = groupsOf(headDim);
  for (let column = 0; column < columns; column += 4) {
    const queries = queriesAt(work, headDim, column >> 2);
    const scores = work + SCORES + usize(column) * SCORE_ROW_BYTES + usize(first) * 4;
    const left = columns - column;
    if (left >= 4) scoreQuad<Four>(keys, queries, groups, scores);
    else if (left == 3) scoreQuad<Three>(keys, queries, groups, scores);
    else if (left == 2) scoreQuad<Two>(keys, queries, groups, scores);
    else scoreQuad<One>(keys, queries, groups, scores);
  }
}

/** A group's 32 pairs as f32 scales and centres (zero + 7.5 scale). */
function decodePairs(pairs: usize, work: usize): void {
  for (let i: usize = 0; i < 128; i += 16) {
    const four = v128.load(pairs + i);
    const scale = f32x4.mul(tinyHigh(four), f32x4.splat(TINY));
    const zero = f32x4.mul(tinyLow(four), f32x4.splat(TINY));
    v128.store(work + VALUE_SCALES + i, scale);
    v128.store(work + VALUE_CENTRES + i, madd(scale, f32x4.splat(HALF_RANGE), zero));
  }
}

/**
 * Converts a column's weights [32 tokens] times the group's scales into an int8 operand with its own scale; the part
 * that is the same for all dims of the group (weights times centres, minus 7.5 times the rounded weights) goes to
 * `offset`.
 */
function prepareWeights(work: usize, column: i32, weights: usize, offset: usize): void {
  const scales = work + VALUE_SCALES;
  const centres = work + VALUE_CENTRES;
  const p0 = v128.load(weights);
  const p1 = v128.load(weights, 16);
  const p2 = v128.load(weights, 32);
  const p3 = v128.load(weights, 48);
  const p4 = v128.load(weights, 64);
  const p5 = v128.load(weights, 80);
  const p6 = v128.load(weights, 96);
  const p7 = v128.load(weights, 112);
  let even = madd(p0, v128.load(centres), v128.load(offset));
  let odd = f32x4.mul(p1, v128.load(centres, 16));
  even = madd(p2, v128.load(centres, 32), even);
  odd = madd(p3, v128.load(centres, 48), odd);
  even = madd(p4, v128.load(centres, 64), even);
  odd = madd(p5, v128.load(centres, 80), odd);
  even = madd(p6, v128.load(centres, 96), even);
  odd = madd(p7, v128.load(centres, 112), odd);
  const w0 = f32x4.mul(p0, v128.load(scales));
  const w1 = f32x4.mul(p1, v128.load(scales, 16));
  const w2 = f32x4.mul(p2, v128.load(scales, 32));
  const w3 = f32x4.mul(p3, v128.load(scales, 48));
  const w4 = f32x4.mul(p4, v128.load(scales, 64));
  const w5 = f32x4.mul(p5, v128.load(scales, 80));
  const w6 = f32x4.mul(p6, v128.load(scales, 96));
  const w7 = f32x4.mul(p7, v128.load(scales, 112));
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
  const rounded = f32x4.mul(f32x4.convert_i32x4_s(count), f32x4.splat(-HALF_RANGE * scale));
  v128.store(offset, f32x4.add(f32x4.add(even, odd), rounded));
}

/** Adds the values of a block's 32 tokens, weighted by SCORES from tile token `first`, to all columns' totals. */
export function weighBlockInt4(values: usize, work: usize, columns: i32, first: i32, headDim: i32): void {
  const groups = groupsOf(headDim);
  const quadBytes = usize(paddedDims(headDim)) * 16;
  const offsetRow = usize(groups) * 16;
  for (let group = 0; group < groups; group++) {
    decodePairs(values, work);
    let offset = offsetsAt(work, headDim, 0) + usize(group) * 16;
    let weights = work + SCORES + usize(first) * 4;
    for (let column = 0; column < columns; column++) {
      prepareWeights(work, column, weights, offset);
      offset += offsetRow;
      weights += SCORE_ROW_BYTES;
    }
    values += VALUE_PAIRS_BYTES;
    let totals = totalsAt(work, headDim, 0) + usize(group) * GROUP * 16;
    let operands = work + OPERANDS;
    let scales = work + OPERAND_SCALES;
    for (let left = columns; left > 0; left -= 4) {
      if (left >= 4) weighQuad<Four>(values, operands, scales, totals);
      else if (left == 3) weighQuad<Three>(values, operands, scales, totals);
      else if (left == 2) weighQuad<Two>(values, operands, scales, totals);
      else weighQuad<One>(values, operands, scales, totals);
      totals += quadBytes;
      operands += 4 * OPERAND_BYTES;
      scales += 16;
    }
    values += 4 * CODES_BYTES;
  }
}
