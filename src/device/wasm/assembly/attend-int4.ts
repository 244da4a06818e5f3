// Attention's two products on an int4 block, nibbles read in place: query times keys, weights times values.
// Both are the same integer product: 8 rows of codes 0..15 by up to 4 columns of int8 operands over 32 k, summed
// exactly. scale * code + zero is applied to sums. Codes average 7.5, so what rounding an operand loses is returned
// as 7.5 times the lost sum: the error left is that of an operand against codes centred on zero.
import { COLUMNS, OPERAND_BYTES, OPERAND_SCALES, OPERANDS, offsetsAt, paddedDims, QUERY_TILE_BYTES, queriesAt, SCORE_ROW_BYTES, SCORES, totalsAt, VALUE_CENTRES, VALUE_SCALES } from "./attend-work";
import { RELAXED } from "./build";
import { madd, maxLanes, ROUNDER, ROUNDER_BITS, sumLanes } from "./exp";
import { TINY, tinyHigh, tinyLow } from "./kv-half";
import { CODES_BYTES, GROUP, groupsOf, KEY_TILE_BYTES, OCTETS, VALUE_PAIRS_BYTES } from "./kv-layout";

const HALF_RANGE: f32 = 7.5;
/** The plain product takes even bytes, then odd ones. */
const PARTS: i32 = RELAXED ? 1 : 2;

/** Products of one 32-bit step of k for 4 rows: int8 pairs to i16 (relaxed) or i16 pairs to i32 (plain). */
// @ts-ignore: decorator
@inline
function addProducts(sums: v128, operand: v128, codes: v128): v128 {
  return RELAXED
    ? i16x8.add(sums, i16x8.relaxed_dot_i8x16_i7x16_s(operand, codes))
    : i32x4.add(sums, i32x4.dot_i16x8_s(operand, codes));
}

/** Sums of a row's products as f32. |i16 sum| <= 16 * 127 * 15 = 30480: a group of 32 cannot overflow. */
// @ts-ignore: decorator
@inline
function rowSums(sums: v128): v128 {
  return f32x4.convert_i32x4_s(RELAXED ? i32x4.dot_i16x8_s(sums, i16x8.splat(1)) : sums);
}

/** Adds scale * (operandScale * sums + correction) + zero * operandSum to four tokens' raw scores of a column. */
// @ts-ignore: decorator
@inline
function addScores(scores: usize, sums: v128, pairs: v128, params: usize): void {
  const products = madd(rowSums(sums), v128.load32_splat(params), v128.load32_splat(params, 16));
  const base = madd(tinyLow(pairs), v128.load32_splat(params, 32), v128.load(scores));
  v128.store(scores, madd(tinyHigh(pairs), products, base));
}

/** Adds operandScale * sums to four dims' totals of a column. */
// @ts-ignore: decorator
@inline
function addTotals(totals: usize, sums: v128, scale: usize): void {
  v128.store(totals, madd(rowSums(sums), v128.load32_splat(scale), v128.load(totals)));
}

/**
 * 8 rows x `columns` (1..4, a constant) over 32 k. codes: two panels; operands [4] of OPERAND_BYTES; params: f32 [4]
 * per parameter; out: the first column's first four rows, columns and panels a constant distance apart.
 */
// @ts-ignore: decorator
@inline
function multiply(columns: i32, keys: bool, codes: usize, operands: usize, params: usize, out: usize): void {
  const mask = RELAXED ? i8x16.splat(15) : i16x8.splat(15);
  let a0 = i32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let b0 = a0;
  let b1 = a0;
  let b2 = a0;
  let b3 = a0;
  for (let vector: usize = 0; vector < 64; vector += 16) {
    let a = v128.load(codes + vector);
    let b = v128.load(codes + vector, 64);
    let x = operands + (vector >> 2);
    for (let part = 0; part < PARTS; part++) {
      let rowsA = v128.and(a, mask);
      let rowsB = v128.and(b, mask);
      let k = v128.load32_splat(x);
      a0 = addProducts(a0, k, rowsA);
      b0 = addProducts(b0, k, rowsB);
      if (columns > 1) {
        k = v128.load32_splat(x, OPERAND_BYTES);
        a1 = addProducts(a1, k, rowsA);
        b1 = addProducts(b1, k, rowsB);
      }
      if (columns > 2) {
        k = v128.load32_splat(x, 2 * OPERAND_BYTES);
        a2 = addProducts(a2, k, rowsA);
        b2 = addProducts(b2, k, rowsB);
      }
      if (columns > 3) {
        k = v128.load32_splat(x, 3 * OPERAND_BYTES);
        a3 = addProducts(a3, k, rowsA);
        b3 = addProducts(b3, k, rowsB);
      }
      rowsA = v128.and(i16x8.shr_u(a, 4), mask);
      rowsB = v128.and(i16x8.shr_u(b, 4), mask);
      k = v128.load32_splat(x, 16);
      a0 = addProducts(a0, k, rowsA);
      b0 = addProducts(b0, k, rowsB);
      if (columns > 1) {
        k = v128.load32_splat(x, OPERAND_BYTES + 16);
        a1 = addProducts(a1, k, rowsA);
        b1 = addProducts(b1, k, rowsB);
      }
      if (columns > 2) {
        k = v128.load32_splat(x, 2 * OPERAND_BYTES + 16);
        a2 = addProducts(a2, k, rowsA);
        b2 = addProducts(b2, k, rowsB);
      }
      if (columns > 3) {
        k = v128.load32_splat(x, 3 * OPERAND_BYTES + 16);
        a3 = addProducts(a3, k, rowsA);
        b3 = addProducts(b3, k, rowsB);
      }
      if (!RELAXED) {
        a = i16x8.shr_u(a, 8);
        b = i16x8.shr_u(b, 8);
        x += 32;
      }
    }
  }
  finish(keys, codes, params, out, 0, a0, b0);
  if (columns > 1) finish(keys, codes, params, out, 1, a1, b1);
  if (columns > 2) finish(keys, codes, params, out, 2, a2, b2);
  if (columns > 3) finish(keys, codes, params, out, 3, a3, b3);
}

/** One column's sums of both panels go where they belong: to scores [column][token] or totals [panel][column]. */
// @ts-ignore: decorator
@inline
function finish(keys: bool, codes: usize, params: usize, out: usize, column: usize, a: v128, b: v128): void {
  if (keys) {
    const scores = out + column * SCORE_ROW_BYTES;
    addScores(scores, a, v128.load(codes, CODES_BYTES), params + column * 4);
    addScores(scores + 16, b, v128.load(codes, CODES_BYTES + 16), params + column * 4);
  } else {
    addTotals(out + column * 16, a, params + column * 4);
    addTotals(out + column * 16 + 64, b, params + column * 4);
  }
}

/** A quad of queries against a block's keys: `columns` rows of 32 raw scores. */
// @ts-ignore: decorator
@inline
function scoreQuad(columns: i32, keys: usize, queries: usize, groups: i32, scores: usize): void {
  for (let octet = 0; octet < OCTETS; octet++) {
    let query = queries;
    for (let column: usize = 0; column < usize(columns); column++) {
      v128.store(scores + column * SCORE_ROW_BYTES, i32x4.splat(0));
      v128.store(scores + column * SCORE_ROW_BYTES, i32x4.splat(0), 16);
    }
    for (let group = 0; group < groups; group++) {
      multiply(columns, true, keys, query, query + 4 * OPERAND_BYTES, scores);
      keys += KEY_TILE_BYTES;
      query += QUERY_TILE_BYTES;
    }
    scores += 32;
  }
}

/** A quad of weights against a group of 32 dims of a block's values: adds to `columns` columns of totals. */
// @ts-ignore: decorator
@inline
function weighQuad(columns: i32, codes: usize, operands: usize, scales: usize, totals: usize): void {
  for (let octet = 0; octet < GROUP / 8; octet++) {
    multiply(columns, false, codes, operands, scales, totals);
    codes += CODES_BYTES;
    totals += 128;
  }
}

/** Sixteen int8 k's into slice `slice` (k 0..15 or 16..31) of an operand. */
// @ts-ignore: decorator
@inline
function storeOperand(operand: usize, slice: usize, bytes: v128): void {
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
function roundFour(x: v128, inverse: v128): v128 {
  return i32x4.sub(madd(x, inverse, f32x4.splat(ROUNDER)), i32x4.splat(ROUNDER_BITS));
}

/** query [headDim] f32 times `normal` (1 / its largest magnitude) as int8 operands, one scale per 32 dims. */
export function prepareQueryInt4(work: usize, column: i32, query: usize, normal: f32, headDim: i32): void {
  let tile = queriesAt(work, headDim, column >> 2);
  const lane = usize(column & 3);
  for (let dim = 0; dim < headDim; dim += GROUP) {
    const dims = usize(min(GROUP, headDim - dim));
    const x = query + usize(dim) * 4;
    let most = f32x4.splat(0);
    let sum = most;
    for (let i: usize = 0; i < dims; i += 4) {
      const values = v128.load(x + i * 4);
      most = f32x4.pmax(most, f32x4.abs(values));
      sum = f32x4.add(sum, values);
    }
    const largest = f32x4.extract_lane(maxLanes(most), 0);
    const inverse = f32x4.splat(largest * normal > 0 ? 127 / largest : 0);
    const scale = (largest * normal) / 127;
    let count = i16x8.splat(0);
    const operand = tile + lane * OPERAND_BYTES;
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
    const querySum = f32x4.extract_lane(sumLanes(sum), 0) * normal;
    const params = tile + 4 * OPERAND_BYTES + lane * 4;
    store<f32>(params, scale * TINY);
    store<f32>(params, HALF_RANGE * (querySum - scale * codeSum) * TINY, 16);
    store<f32>(params, querySum * TINY, 32);
    tile += QUERY_TILE_BYTES;
  }
}

/** Raw scores of all columns with the 32 tokens of a block, into SCORES from tile token `first`. */
export function scoreBlockInt4(keys: usize, work: usize, columns: i32, first: i32, headDim: i32): void {
  const groups = groupsOf(headDim);
  for (let column = 0; column < columns; column += 4) {
    const queries = queriesAt(work, headDim, column >> 2);
    const scores = work + SCORES + usize(column) * SCORE_ROW_BYTES + usize(first) * 4;
    const left = columns - column;
    if (left >= 4) scoreQuad(4, keys, queries, groups, scores);
    else if (left == 3) scoreQuad(3, keys, queries, groups, scores);
    else if (left == 2) scoreQuad(2, keys, queries, groups, scores);
    else scoreQuad(1, keys, queries, groups, scores);
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
 * A column's weights [32 tokens] times the group's scales as an int8 operand with one scale of its own; what is the
 * same for all dims of the group (weights times centres, less 7.5 times the rounded weights) goes to `offset`.
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
      if (left >= 4) weighQuad(4, values, operands, scales, totals);
      else if (left == 3) weighQuad(3, values, operands, scales, totals);
      else if (left == 2) weighQuad(2, values, operands, scales, totals);
      else weighQuad(1, values, operands, scales, totals);
      totals += quadBytes;
      operands += 4 * OPERAND_BYTES;
      scales += 16;
    }
    values += 4 * CODES_BYTES;
  }
}
