// Attention's two products on a float16 block: query times keys, weights times values, in float32. Both are the same
// product: 8 rows by up to 4 columns, one k at a time, with float16 loaded into registers as tiny floats (kv-half.ts).
// The other operand contains the factor 2^112: the prepared queries, and the softmax weights.
import { Four, Keys, One, Three, Two, Values, columnsOf, isKeys } from "./attend-work";
import { paddedDims, queriesAt, SCORE_ROW_BYTES, SCORES, totalsAt } from "./attend-work";
import { madd } from "./exp";
import { TINY, tinyHigh, tinyLow } from "./kv-half";
import { BLOCK, HALF_ROWS_BYTES, OCTETS } from "./kv-layout";

/** Bytes between consecutive k and between consecutive columns of queries [k][column]; weights are [column][k]. */
const QUERY_K: usize = 16;
const QUERY_COLUMN: usize = 4;

/** One k of a column, in every lane. AssemblyScript requires literal offsets, hence the cases. */
// @ts-ignore: decorator
@inline
function operand<K>(x: usize, column: i32): v128 {
  if (isKeys<K>()) {
    if (column == 1) return v128.load32_splat(x, QUERY_COLUMN);
    if (column == 2) return v128.load32_splat(x, 2 * QUERY_COLUMN);
    if (column == 3) return v128.load32_splat(x, 3 * QUERY_COLUMN);
  } else {
    if (column == 1) return v128.load32_splat(x, SCORE_ROW_BYTES);
    if (column == 2) return v128.load32_splat(x, 2 * SCORE_ROW_BYTES);
    if (column == 3) return v128.load32_splat(x, 3 * SCORE_ROW_BYTES);
  }
  return v128.load32_splat(x);
}

/**
 * 8 rows x C columns (1..4) over `count` k. Scores are stored as [column][token], with no other writer; weighted values
 * are added to totals [panel][column][4].
 */
// @ts-ignore: decorator
@inline
function multiply<C, K>(rows: usize, count: i32, x: usize, out: usize): void {
  const column = isKeys<K>() ? SCORE_ROW_BYTES : 16;
  const panel: usize = isKeys<K>() ? 16 : 64;
  let a0 = f32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let b0 = a0;
  let b1 = a0;
  let b2 = a0;
  let b3 = a0;
  const end = rows + usize(count) * HALF_ROWS_BYTES;
  for (; rows < end; rows += HALF_ROWS_BYTES) {
    const eight = v128.load(rows);
    const a = tinyLow(eight);
    const b = tinyHigh(eight);
    let k = operand<K>(x, 0);
    a0 = madd(k, a, a0);
    b0 = madd(k, b, b0);
    if (columnsOf<C>() > 1) {
      k = operand<K>(x, 1);
      a1 = madd(k, a, a1);
      b1 = madd(k, b, b1);
    }
    if (columnsOf<C>() > 2) {
      k = operand<K>(x, 2);
      a2 = madd(k, a, a2);
      b2 = madd(k, b, b2);
    }
    if (columnsOf<C>() > 3) {
      k = operand<K>(x, 3);
      a3 = madd(k, a, a3);
      b3 = madd(k, b, b3);
    }
    x += isKeys<K>() ? QUERY_K : 4;
  }
  finish<K>(out, panel, a0, b0);
  if (columnsOf<C>() > 1) finish<K>(out + column, panel, a1, b1);
  if (columnsOf<C>() > 2) finish<K>(out + 2 * column, panel, a2, b2);
  if (columnsOf<C>() > 3) finish<K>(out + 3 * column, panel, a3, b3);
}

// @ts-ignore: decorator
@inline
function finish<K>(out: usize, panel: usize, a: v128, b: v128): void {
  v128.store(out, isKeys<K>() ? a : f32x4.add(a, v128.load(out)));
  v128.store(out + panel, isKeys<K>() ? b : f32x4.add(b, v128.load(out + panel)));
}

// @ts-ignore: decorator
@inline
function scoreQuad<C>(keys: usize, queries: usize, headDim: i32, scores: usize): void {
  for (let octet = 0; octet < OCTETS; octet++) {
    multiply<C, Keys>(keys, headDim, queries, scores);
    keys += usize(headDim) * HALF_ROWS_BYTES;
    scores += 32;
  }
}

// @ts-ignore: decorator
@inline
function weighQuad<C>(values: usize, weights: usize, headDim: i32, totals: usize): void {
  for (let dim = 0; dim < headDim; dim += 8) {
    multiply<C, Values>(values, BLOCK, weights, totals);
    values += usize(BLOCK) * HALF_ROWS_BYTES;
    totals += 128;
  }
}

/**
 * Prepares query [headDim] f32: divided by `largest` (its largest magnitude, or 0: scores 0 everywhere), times 2^112,
 * interleaved with the other columns of its quad. Returns the value of a raw score of 1.
 */
export function prepareQueryF16(work: usize, column: i32, query: usize, largest: f32, headDim: i32): f32 {
  const at = queriesAt(work, headDim, column >> 2) + usize(column & 3) * QUERY_COLUMN;
  const inverse: f32 = largest > 0 ? 1 / largest : 0;
  for (let dim: usize = 0; dim < usize(headDim); dim++) {
    store<f32>(at + dim * QUERY_K, load<f32>(query + dim * 4) * inverse * TINY);
  }
  return largest;
}

/** Raw scores of all columns with the 32 tokens of a block, into SCORES from tile token `first`. */
export function scoreBlockF16(keys: usize, work: usize, columns: i32, first: i32, headDim: i32): void {
  for (let column = 0; column < columns; column += 4) {
    const queries = queriesAt(work, headDim, column >> 2);
    const scores = work + SCORES + usize(column) * SCORE_ROW_BYTES + usize(first) * 4;
    const left = columns - column;
    if (left >= 4) scoreQuad<Four>(keys, queries, headDim, scores);
    else if (left == 3) scoreQuad<Three>(keys, queries, headDim, scores);
    else if (left == 2) scoreQuad<Two>(keys, queries, headDim, scores);
    else scoreQuad<One>(keys, queries, headDim, scores);
  }
}

/** Adds the values of a block's 32 tokens, weighted by SCORES from tile token `first`, to all columns' totals. */
export function weighBlockF16(values: usize, work: usize, columns: i32, first: i32, headDim: i32): void {
  const quadBytes = usize(paddedDims(headDim)) * 16;
  let weights = work + SCORES + usize(first) * 4;
  let totals = totalsAt(work, headDim, 0);
  for (let left = columns; left > 0; left -= 4) {
    if (left >= 4) weighQuad<Four>(values, weights, headDim, totals);
    else if (left == 3) weighQuad<Three>(values, weights, headDim, totals);
    else if (left == 2) weighQuad<Two>(values, weights, headDim, totals);
    else weighQuad<One>(values, weights, headDim, totals);
    weights += 4 * SCORE_ROW_BYTES;
    totals += quadBytes;
  }
}
