// Attention over a layer's cache: causal, windowed, grouped heads; online softmax in powers of two. A run is the
// queries of one text. Its work is divided into units (KV head, tile of queries, span of tokens), each of which any
// thread may take. A unit serves all query heads of its KV head and all its queries in one pass over its span of the
// cache. With one span the unit writes the output; otherwise it writes a partial result per (row, span), which
// attendMerge joins after a barrier. The division depends on shapes only, not on threads: any number of them gives the
// same bits.
// Packed formats: blocks from `kept` to `packed` are in packed pages, the others in pages of unpacked vectors. A unit
// processes the packed ones first; raw scores and, once settled, sums have the same units.

import { weighBlockF16 } from "./attend-f16";
import { weighBlockInt4 } from "./attend-int4";
import { prepareQueryPacked, scorePagePacked, settle, weighPagePacked } from "./attend-packed";
import { rotateBack, weighBlockRq4 } from "./attend-rq4";
import { largestOf, prepareQuery, prepareQueryTurned, scoreBlock, scoreBlockTurned, scorePageTurned } from "./attend-turned";
import { COLUMNS, FACTORS, MAXIMA, SCORES, SCORE_ROW_BYTES, SUMS, TILE } from "./attend-work";
import { offsetsAt, paddedDims, totalsAt } from "./attend-work";
import { exp2, exp2Scalar, madd, maxLanes, sumLanes, tanh } from "./exp";
import { TINY } from "./kv-half";
import {
  BLOCK,
  GROUP,
  KV_F16,
  KV_INT4,
  KV_RQ4,
  blockAt,
  groupsOf,
  keyDimsOf,
  keysBytes,
  keysPart,
  valuesPart,
  vectorFormat,
} from "./kv-layout";

/** Enough units to keep many threads evenly busy while one query attends to a long context. */
const UNITS: i32 = 64;
/** The minimum of tokens for a span. */
const SPAN_BLOCKS: i32 = 8;
/** f32 numbers before the weighted values of a partial: maximum (log2), sum of weights, two unused. */
const PARTIAL_HEADER: i32 = 4;

const LOG2_E: f32 = 1.4426950408889634;
/** Score of a hidden token, and below it the maximum before any token: exp2 of their difference is 0. */
const HIDDEN: f32 = -3e38;
const NO_MAXIMUM: f32 = -1e30;
/**
 * Bounds of the value of a raw score of 1: times HIDDEN it is still far below any score, and may be -infinity. With
 * 2^112 included, the factor for queries of 1e4 is 1e31, so the upper bound is float32's.
 */
const LEAST_FACTOR: f32 = 1e-30;
const MOST_FACTOR: f32 = 3e38;
/** A new maximum rescales the sums only if it exceeds the old one by 2^8: weights up to 2^8 cost no accuracy. */
const MARGIN: f32 = 8;

// @ts-ignore: decorator
@inline
function tileQueries(heads: i32, kvHeads: i32): i32 {
  return COLUMNS / (heads / kvHeads);
}

/** Tiles of queries of a run. */
export function attendTiles(tokens: i32, heads: i32, kvHeads: i32): i32 {
  const queries = tileQueries(heads, kvHeads);
  return (tokens + queries - 1) / queries;
}

/** The first block that a query at `position` attends to. window 0: all. */
// @ts-ignore: decorator
@inline
function firstBlock(position: i32, window: i32): i32 {
  return window > 0 ? max(0, position - window + 1) / BLOCK : 0;
}

/** The number of spans for a run's tokens. tiles: of all runs of the step. */
export function attendSpans(tokens: i32, tiles: i32, kvHeads: i32, position: i32, window: i32): i32 {
  const blocks = (position + tokens - 1) / BLOCK + 1 - firstBlock(position, window);
  const others = kvHeads * tiles;
  return min((UNITS + others - 1) / others, (blocks + SPAN_BLOCKS - 1) / SPAN_BLOCKS);
}

/** Units of `attend` for a run of `tokens` queries from `position`. */
export function attendUnits(tokens: i32, tiles: i32, heads: i32, kvHeads: i32, position: i32, window: i32): i32 {
  return kvHeads * attendTiles(tokens, heads, kvHeads) * attendSpans(tokens, tiles, kvHeads, position, window);
}

/** Units of `attendMerge`: rows (query token, head), or none if there is nothing to join. */
export function attendMergeUnits(tokens: i32, tiles: i32, heads: i32, kvHeads: i32, position: i32, window: i32): i32 {
  return attendSpans(tokens, tiles, kvHeads, position, window) > 1 ? tokens * heads : 0;
}

// @ts-ignore: decorator
@inline
function partialAt(partials: usize, row: i32, spans: i32, span: i32, headDim: i32): usize {
  return partials + usize(row * spans + span) * usize(headDim + PARTIAL_HEADER) * 4;
}

/** Bytes of a run's partials: none if there is nothing to join. */
export function partialBytes(
  tokens: i32, tiles: i32, heads: i32, kvHeads: i32, headDim: i32, position: i32, window: i32,
): usize {
  const spans = attendSpans(tokens, tiles, kvHeads, position, window);
  return spans > 1 ? partialAt(0, tokens * heads, spans, 0, headDim) : 0;
}

/**
 * Prepares a column's query [turned + headDim] and its running maximum and sum. meetsPacked: for packed blocks, too.
 */
function startColumn(
  work: usize, column: i32, query: usize, headDim: i32, turned: i32, scale: f32, cap: f32, format: i32, meetsPacked: bool,
): void {
  let unit: f32;
  if (turned > 0) {
    unit = prepareQueryTurned(work, column, query, headDim, turned, format, meetsPacked);
  } else {
    const largest = largestOf(query, headDim);
    unit = prepareQuery(work, column, query, largest, headDim, vectorFormat(format));
    if (meetsPacked) prepareQueryPacked(work, column, query, largest, headDim);
  }
  const at = work + usize(column) * 4;
  // Bounded, so that no product with a raw score of 0 or a hidden one is a NaN.
  store<f32>(at + FACTORS, max(LEAST_FACTOR, min(MOST_FACTOR, unit * scale * (cap > 0 ? 1 / cap : LOG2_E))));
  store<f32>(at + MAXIMA, NO_MAXIMUM);
  store<f32>(at + SUMS, 0);
}

/** Multiplies a column's sums of values. */
function scaleColumn(work: usize, column: i32, headDim: i32, factor: f32): void {
  const factors = f32x4.splat(factor);
  const totals = totalsAt(work, headDim, column >> 2) + usize(column & 3) * 16;
  for (let i: usize = 0; i < usize(paddedDims(headDim)) * 16; i += 64) {
    v128.store(totals + i, f32x4.mul(v128.load(totals + i), factors));
  }
  const offsets = offsetsAt(work, headDim, column);
  for (let i: usize = 0; i < usize(groupsOf(headDim)) * 16; i += 16) {
    v128.store(offsets + i, f32x4.mul(v128.load(offsets + i), factors));
  }
}

/** Raw scores to tanh(raw * factor), in place: soft-capped scores divided by the cap. */
function capScores(row: usize, bytes: usize, factor: f32): void {
  const factors = f32x4.splat(factor);
  for (let i: usize = 0; i < bytes; i += 16) {
    v128.store(row + i, tanh(f32x4.mul(v128.load(row + i), factors)));
  }
}

/** Hides scores of positions outside [from, to]; the row begins at `position`. */
function hideScores(row: usize, bytes: usize, position: i32, from: i32, to: i32): void {
  const first = i32x4.splat(from);
  const last = i32x4.splat(to);
  const hidden = f32x4.splat(HIDDEN);
  let at = i32x4.add(i32x4.splat(position), i32x4(0, 1, 2, 3));
  for (let i: usize = 0; i < bytes; i += 16) {
    const seen = v128.and(i32x4.ge_s(at, first), i32x4.le_s(at, last));
    v128.store(row + i, v128.bitselect(v128.load(row + i), hidden, seen));
    at = i32x4.add(at, i32x4.splat(4));
  }
}

/**
 * Converts scores (times `factor`: log2 of weights) to weights times `gain`, in place, and updates the running maximum
 * and sum.
 */
function weights(work: usize, column: i32, bytes: usize, factor: f32, gain: f32, headDim: i32): void {
  const at = work + usize(column) * 4;
  const row = work + SCORES + usize(column) * SCORE_ROW_BYTES;
  let most = v128.load(row);
  for (let i: usize = 16; i < bytes; i += 16) most = f32x4.pmax(most, v128.load(row + i));
  const largest = f32x4.extract_lane(maxLanes(most), 0) * factor;
  let maximum = load<f32>(at + MAXIMA);
  let sum = load<f32>(at + SUMS);
  if (largest > maximum + MARGIN) {
    const shrink = exp2Scalar(maximum - largest);
    scaleColumn(work, column, headDim, shrink);
    sum *= shrink;
    maximum = largest;
    store<f32>(at + MAXIMA, maximum);
  }
  // Not fused: the largest score must be rounded here as it was in `largest`, since huge ones differ by thousands.
  const maxima = f32x4.splat(maximum);
  const factors = f32x4.splat(factor);
  const gains = f32x4.splat(gain);
  let sums = f32x4.splat(0);
  for (let i: usize = 0; i < bytes; i += 16) {
    const weight = exp2(f32x4.sub(f32x4.mul(v128.load(row + i), factors), maxima));
    sums = f32x4.add(sums, weight);
    v128.store(row + i, f32x4.mul(weight, gains));
  }
  store<f32>(at + SUMS, sum + f32x4.extract_lane(sumLanes(sums), 0));
}

/** A head's sink as log2 of a weight; none if sinks, f32 [heads], is 0. */
// @ts-ignore: decorator
@inline
function sinkOf(sinks: usize, head: i32): f32 {
  return sinks == 0 ? f32.NEGATIVE_INFINITY : load<f32>(sinks + usize(head) * 4) * LOG2_E;
}

/** 1 over the sum of all weights, including a sink's, which has no value; for weights relative to `maximum` (log2). */
function inverseSum(sum: f32, maximum: f32, sink: f32): f32 {
  const largest = max(maximum, sink);
  const unit = exp2Scalar(maximum - largest);
  return unit / (unit * sum + exp2Scalar(sink - largest));
}

/** Writes a column's weighted sum of values [headDim] times `factor` to out; for rq4 in the rotated space. */
function writeColumn(work: usize, column: i32, headDim: i32, factor: f32, format: i32, out: usize): void {
  const totals = totalsAt(work, headDim, column >> 2) + usize(column & 3) * 16;
  const offsets = offsetsAt(work, headDim, column);
  const factors = f32x4.splat(factor);
  // rq4 has one offset for all dims.
  const offsetBytes: usize = format == KV_RQ4 ? 0 : 16;
  for (let dim: usize = 0; dim < usize(headDim); dim += 4) {
    const offset = sumLanes(v128.load(offsets + (dim / GROUP) * offsetBytes));
    v128.store(out + dim * 4, f32x4.mul(factors, f32x4.add(v128.load(totals + dim * 16), offset)));
  }
}

/**
 * Computes units [first, last) of attendUnits(...) of one run. queries [tokens, heads, turned + headDim], out [tokens,
 * heads, headDim]: f32, the queries at position, position + 1, ..., whose keys are in the cache; table: the text's
 * pages; partials: the run's own, shared by all threads; work: attendWorkBytes or turnedWorkBytes, this thread's own;
 * window, cap, sinks: 0 is none. Cache bytes that were never appended to must be zero. Blocks from `kept` to `packed`
 * are read from packedCache by packedTable; 0 and 0 for formats of vectors.
 */
export function attend(
  cache: usize,
  queries: usize,
  out: usize,
  partials: usize,
  work: usize,
  position: i32,
  tokens: i32,
  heads: i32,
  kvHeads: i32,
  headDim: i32,
  turned: i32,
  table: usize,
  tiles: i32,
  window: i32,
  scale: f32,
  cap: f32,
  wholeFormat: i32,
  sinks: usize,
  packedCache: usize,
  packedTable: usize,
  kept: i32,
  packed: i32,
  first: i32,
  last: i32,
): void {
  const format = vectorFormat(wholeFormat);
  const keyDims = keyDimsOf(headDim, turned);
  const packedHalf = keysBytes(keyDims, wholeFormat);
  const shared = heads / kvHeads;
  const perTile = tileQueries(heads, kvHeads);
  const own = attendTiles(tokens, heads, kvHeads);
  const spans = attendSpans(tokens, tiles, kvHeads, position, window);
  const half = keysBytes(keyDims, format);
  const stepFirst = firstBlock(position, window);
  const stepBlocks = (position + tokens - 1) / BLOCK + 1 - stepFirst;
  for (let unit = first; unit < last; unit++) {
    const span = unit % spans;
    const tile = (unit / spans) % own;
    const kvHead = unit / (spans * own);
    const firstToken = tile * perTile;
    const count = min(perTile, tokens - firstToken);
    const columns = count * shared;
    const earliest = position + firstToken;
    const latest = earliest + count - 1;
    const from = max(stepFirst + (stepBlocks * span) / spans, firstBlock(earliest, window));
    const to = min(stepFirst + (stepBlocks * (span + 1)) / spans, latest / BLOCK + 1);

    for (let column = 0; column < columns; column++) {
      const row = (firstToken + column / shared) * heads + kvHead * shared + (column % shared);
      const query = queries + usize(row) * usize(turned + headDim) * 4;
      startColumn(work, column, query, headDim, turned, scale, cap, wholeFormat, max(from, kept) < min(to, packed));
    }
    memory.fill(offsetsAt(work, headDim, 0), 0, usize(columns * groupsOf(headDim)) * 16);
    memory.fill(totalsAt(work, headDim, 0), 0, usize((columns + 3) / 4) * usize(paddedDims(headDim)) * 16);
    for (let range = 0; range < 3; range++) {
      // The packed blocks, those before them, those after them.
      const isPacked = range == 0;
      const begin = isPacked ? max(from, kept) : range == 1 ? from : max(from, max(kept, packed));
      const end = isPacked ? min(to, packed) : range == 1 ? min(to, kept) : to;
      const isSettled = !isPacked || begin >= end;
      for (let block = begin; block < end; block += TILE / BLOCK) {
        const blocks = min(TILE / BLOCK, end - block);
        const start = block * BLOCK;
        const bytes = usize(blocks * BLOCK) * 4;
        for (let i = 0; i < blocks; i++) {
          if (isPacked) {
            const keys = blockAt(packedCache, packedTable, kvHeads, kvHead, start + i * BLOCK, headDim, turned, wholeFormat);
            if (turned > 0) scorePageTurned(keys, work, columns, i * BLOCK, headDim, turned, wholeFormat);
            else scorePagePacked(keys, work, columns, i * BLOCK, headDim, keysPart(wholeFormat));
            continue;
          }
          const keys = blockAt(cache, table, kvHeads, kvHead, start + i * BLOCK, headDim, turned, format);
          if (turned > 0) scoreBlockTurned(keys, work, columns, i * BLOCK, headDim, turned, wholeFormat);
          else scoreBlock(keys, work, columns, i * BLOCK, headDim, format);
        }
        const edge = start + blocks * BLOCK - 1 > earliest || (window > 0 && start < latest - window + 1);
        for (let column = 0; column < columns; column++) {
          const row = work + SCORES + usize(column) * SCORE_ROW_BYTES;
          let factor = load<f32>(work + FACTORS + usize(column) * 4);
          if (cap > 0) {
            capScores(row, bytes, factor);
            factor = cap * LOG2_E;
          }
          if (edge) {
            const query = earliest + column / shared;
            hideScores(row, bytes, start, window > 0 ? query - window + 1 : 0, query);
          }
          weights(work, column, bytes, factor, !isPacked && format == KV_F16 ? TINY : 1, headDim);
        }
        for (let i = 0; i < blocks; i++) {
          if (isPacked) {
            const page = blockAt(packedCache, packedTable, kvHeads, kvHead, start + i * BLOCK, headDim, turned, wholeFormat);
            weighPagePacked(page + packedHalf, work, columns, i * BLOCK, headDim, valuesPart(wholeFormat));
            continue;
          }
          const values = blockAt(cache, table, kvHeads, kvHead, start + i * BLOCK, headDim, turned, format) + half;
          if (format == KV_INT4) weighBlockInt4(values, work, columns, i * BLOCK, headDim);
          else if (format == KV_RQ4) weighBlockRq4(values, work, columns, i * BLOCK, headDim);
          else weighBlockF16(values, work, columns, i * BLOCK, headDim);
        }
      }
      if (!isSettled) settle(work, columns, headDim);
    }
    for (let column = 0; column < columns; column++) {
      const row = (firstToken + column / shared) * heads + kvHead * shared + (column % shared);
      const sum = load<f32>(work + SUMS + usize(column) * 4);
      if (spans == 1) {
        const target = out + usize(row) * usize(headDim) * 4;
        const maximum = load<f32>(work + MAXIMA + usize(column) * 4);
        writeColumn(work, column, headDim, inverseSum(sum, maximum, sinkOf(sinks, row % heads)), format, target);
        if (format == KV_RQ4) rotateBack(target, headDim);
      } else {
        const partial = partialAt(partials, row, spans, span, headDim);
        store<f32>(partial, load<f32>(work + MAXIMA + usize(column) * 4));
        store<f32>(partial, sum, 4);
        writeColumn(work, column, headDim, 1, format, partial + PARTIAL_HEADER * 4);
      }
    }
  }
}

/** Joins the partials of rows [first, last) of attendMergeUnits(...), after every unit of attend is done. */
export function attendMerge(
  partials: usize,
  out: usize,
  position: i32,
  tokens: i32,
  heads: i32,
  kvHeads: i32,
  headDim: i32,
  tiles: i32,
  window: i32,
  wholeFormat: i32,
  sinks: usize,
  first: i32,
  last: i32,
): void {
  const format = vectorFormat(wholeFormat);
  const spans = attendSpans(tokens, tiles, kvHeads, position, window);
  for (let row = first; row < last; row++) {
    // The sink counts here, once: no span includes it.
    const sink = sinkOf(sinks, row % heads);
    let maximum: f32 = max(NO_MAXIMUM, sink);
    for (let span = 0; span < spans; span++) {
      maximum = max(maximum, load<f32>(partialAt(partials, row, spans, span, headDim)));
    }
    let sum: f32 = exp2Scalar(sink - maximum);
    for (let span = 0; span < spans; span++) {
      const partial = partialAt(partials, row, spans, span, headDim);
      sum += exp2Scalar(load<f32>(partial) - maximum) * load<f32>(partial, 4);
    }
    const target = out + usize(row) * usize(headDim) * 4;
    for (let span = 0; span < spans; span++) {
      const partial = partialAt(partials, row, spans, span, headDim);
      const weight = f32x4.splat(exp2Scalar(load<f32>(partial) - maximum) / sum);
      for (let i: usize = 0; i < usize(headDim) * 4; i += 16) {
        const before = span == 0 ? f32x4.splat(0) : v128.load(target + i);
        v128.store(target + i, madd(weight, v128.load(partial + PARTIAL_HEADER * 4 + i), before));
      }
    }
    if (format == KV_RQ4) rotateBack(target, headDim);
  }
}
