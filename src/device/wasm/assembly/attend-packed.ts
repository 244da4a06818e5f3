// Attention's two products on a packed page whose keys are scaled by channel and whose values are rotated. Both run through
// the integer products of int4 and rq4; codes of fewer than four bits are first spread to four, once for all columns.
// Keys: a page's scales go into the query, q.k = sum of (q_c scale_c) code_c + sum of q_c zero_c, so that its 32 tokens have
// none of their own. Values: rq4's; their sums stay in the rotated space until no packed page follows (settle).
import { ChannelKeys, columnsOf, Four, One, Three, Two } from "./attend-work";
import {
  channelsAt,
  foldedAt,
  offsetsAt,
  OPERAND_BYTES,
  paddedDims,
  plainQueryAt,
  QUERY_TILE_BYTES,
  SCORE_ROW_BYTES,
  SCORES,
  startsAt,
  tilesAt,
  totalsAt,
} from "./attend-work";
import { multiply, prepareOperand } from "./attend-int4";
import { rotateBack, weighRotated } from "./attend-rq4";
import { sumLanes } from "./exp";
import { bitsOf, CODES_BYTES, GROUP, groupsOf, OCTETS, scalesBytes } from "./kv-layout";
import { SCALE_BIAS, unpackTiles } from "./kv-pack";

/** The middle of codes: they stand for numbers around it. */
// @ts-ignore: decorator
@inline
function middleOf(bits: i32): f32 {
  return f32((1 << bits) - 1) * 0.5;
}

/** query [headDim] f32 over `largest`, its largest magnitude; 0: it scores 0 everywhere. */
export function prepareQueryPacked(work: usize, column: i32, query: usize, largest: f32, headDim: i32): void {
  const at = plainQueryAt(work, headDim, column);
  const factor = f32x4.splat(largest > 0 ? 1 / largest : 0);
  memory.fill(at + usize(headDim) * 4, 0, usize(paddedDims(headDim) - headDim) * 4);
  for (let i: usize = 0; i < usize(headDim) * 4; i += 16) v128.store(at + i, f32x4.mul(v128.load(query + i), factor));
}

/** A page's codes in tiles of 4 bits. */
// @ts-ignore: decorator
@inline
function tilesOf(codes: usize, work: usize, headDim: i32, bits: i32): usize {
  if (bits == 4) return codes;
  const tiles = tilesAt(work, headDim);
  unpackTiles(codes, tiles, groupsOf(headDim) * OCTETS, bits);
  return tiles;
}

/** The first four bytes as u32. */
// @ts-ignore: decorator
@inline
function extended(bytes: v128): v128 {
  return i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(bytes));
}

/** A page's channels: scales, and centres, scale * (zero + middle), as f32. The only reader of what kv-pack.ts writes. */
function decodeChannels(bytes: usize, work: usize, headDim: i32, bits: i32): void {
  const scales = channelsAt(work, headDim);
  const centres = scales + usize(paddedDims(headDim)) * 4;
  const middle = f32x4.splat(middleOf(bits));
  const bias = i32x4.splat(SCALE_BIAS);
  for (let dim: usize = 0; dim < usize(headDim); dim += 4) {
    const scale = i32x4.shl(i32x4.add(extended(v128.load32_splat(bytes + dim)), bias), 20);
    const zero = i32x4.shr_s(i32x4.shl(extended(v128.load32_splat(bytes + usize(headDim) + dim)), 24), 24);
    v128.store(scales + dim * 4, scale);
    v128.store(centres + dim * 4, f32x4.mul(scale, f32x4.add(f32x4.convert_i32x4_s(zero), middle)));
  }
  // A group's padding: finite, as the query's is 0.
  for (let i = usize(headDim) * 4; i < usize(paddedDims(headDim)) * 4; i += 16) {
    v128.store(scales + i, f32x4.splat(0));
    v128.store(centres + i, f32x4.splat(0));
  }
}

/** A quad of queries, from `column` on, against a page's keys: C rows of 32 raw scores. */
// @ts-ignore: decorator
@inline
function scoreQuad<C>(codes: usize, work: usize, column: i32, headDim: i32, middle: f32, scores: usize): void {
  const groups = groupsOf(headDim);
  const folded = foldedAt(work, headDim);
  const starts = startsAt(work, headDim);
  const scales = channelsAt(work, headDim);
  const centres = scales + usize(paddedDims(headDim)) * 4;
  for (let i = 0; i < columnsOf<C>(); i++) {
    const start = starts + usize(i) * 16;
    v128.store(start, f32x4.splat(0));
    const query = plainQueryAt(work, headDim, column + i);
    let tile = folded;
    for (let at: usize = 0; at < usize(groups * GROUP) * 4; at += usize(GROUP) * 4) {
      const scale = tile + 4 * OPERAND_BYTES + usize(i) * 4;
      prepareOperand<ChannelKeys>(
        query + at, scales + at, centres + at, middle, tile + usize(i) * OPERAND_BYTES, scale, start,
      );
      tile += QUERY_TILE_BYTES;
    }
    v128.store(start, sumLanes(v128.load(start)));
  }
  for (let octet = 0; octet < OCTETS; octet++) {
    for (let i: usize = 0; i < usize(columnsOf<C>()); i++) {
      const start = v128.load(starts + i * 16);
      v128.store(scores + i * SCORE_ROW_BYTES, start);
      v128.store(scores + i * SCORE_ROW_BYTES, start, 16);
    }
    let tile = folded;
    for (let group = 0; group < groups; group++) {
      multiply<C, ChannelKeys>(codes, tile, tile + 4 * OPERAND_BYTES, scores);
      codes += CODES_BYTES;
      tile += QUERY_TILE_BYTES;
    }
    scores += 32;
  }
}

/** Raw scores of all columns with the 32 tokens of a packed page, into SCORES from tile token `first`. */
export function scorePagePacked(keys: usize, work: usize, columns: i32, first: i32, headDim: i32, part: i32): void {
  const bits = bitsOf(part);
  const middle = middleOf(bits);
  decodeChannels(keys, work, headDim, bits);
  const codes = tilesOf(keys + scalesBytes(headDim, part), work, headDim, bits);
  for (let column = 0; column < columns; column += 4) {
    const scores = work + SCORES + usize(column) * SCORE_ROW_BYTES + usize(first) * 4;
    const left = columns - column;
    if (left >= 4) scoreQuad<Four>(codes, work, column, headDim, middle, scores);
    else if (left == 3) scoreQuad<Three>(codes, work, column, headDim, middle, scores);
    else if (left == 2) scoreQuad<Two>(codes, work, column, headDim, middle, scores);
    else scoreQuad<One>(codes, work, column, headDim, middle, scores);
  }
}

/** Adds the values of a page's 32 tokens, weighted by SCORES from tile token `first`, to all columns' rotated totals. */
export function weighPagePacked(values: usize, work: usize, columns: i32, first: i32, headDim: i32, part: i32): void {
  const bits = bitsOf(part);
  const codes = tilesOf(values + scalesBytes(headDim, part), work, headDim, bits);
  weighRotated(values, codes, work, columns, first, headDim, middleOf(bits));
}

/** Rotated totals and their offsets become what sums of vectors as they come are. */
export function settle(work: usize, columns: i32, headDim: i32): void {
  const vector = tilesAt(work, headDim);
  for (let column = 0; column < columns; column++) {
    const totals = totalsAt(work, headDim, column >> 2) + usize(column & 3) * 16;
    const offsets = offsetsAt(work, headDim, column);
    const offset = sumLanes(v128.load(offsets));
    v128.store(offsets, f32x4.splat(0));
    for (let dim: usize = 0; dim < usize(headDim); dim += 4)
      v128.store(vector + dim * 4, f32x4.add(v128.load(totals + dim * 16), offset));
    rotateBack(vector, headDim);
    for (let dim: usize = 0; dim < usize(headDim); dim += 4)
      v128.store(totals + dim * 16, v128.load(vector + dim * 4));
  }
}
