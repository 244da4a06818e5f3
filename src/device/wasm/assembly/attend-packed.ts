// Attention's two products on a packed page whose keys are scaled by channel and whose values are rotated. Both use the
// integer products of int4 and rq4; codes of fewer than four bits are first expanded to four, once for all columns.
// Keys: a page's scales are multiplied into the query, q.k = sum of (q_c scale_c) code_c + sum of q_c zero_c, so that
// its 32 tokens have no scales of their own. Values: as in rq4; their sums stay in the rotated space until no packed
// page follows (settle).
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
import { multiply, storeOperand } from "./attend-int4";
import { rotateBack, weighRotated } from "./attend-rq4";
import { madd, maxLanes, ROUNDER, sumLanes } from "./exp";
import { bitsOf, CODES_BYTES, GROUP, groupsOf, OCTETS, scalesBytes } from "./kv-layout";
import { unpackTiles } from "./kv-pack";

const I16_MOST: f32 = 32767;
/** The inverse of anything smaller is not finite. */
const LEAST_NUMBER: f32 = 1e-36;

/** The middle of codes, around which their numbers lie. */
// @ts-ignore: decorator
@inline
function middleOf(bits: i32): f32 {
  return f32((1 << bits) - 1) * 0.5;
}

/** f32 [groups][4]: the value of 1 in a quad's queries. After the first query, which takes half of its space. */
// @ts-ignore: decorator
@inline
function queryUnitsAt(work: usize, headDim: i32, column: i32): usize {
  return plainQueryAt(work, headDim, column & ~3) + usize(paddedDims(headDim)) * 2;
}

/**
 * Writes query [headDim] f32 over `largest`, its largest magnitude (0: it scores 0 everywhere), as i16 [padded dims]
 * and units.
 */
export function prepareQueryPacked(work: usize, column: i32, query: usize, largest: f32, headDim: i32): void {
  const out = plainQueryAt(work, headDim, column);
  let unitAt = queryUnitsAt(work, headDim, column) + usize(column & 3) * 4;
  const inverse: f32 = largest > 0 ? 1 / largest : 0;
  memory.fill(out, 0, usize(paddedDims(headDim)) * 2);
  for (let dim = 0; dim < headDim; dim += GROUP) {
    const dims = usize(min(GROUP, headDim - dim));
    const x = query + usize(dim) * 4;
    let most = f32x4.splat(0);
    for (let i: usize = 0; i < dims * 4; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + i)));
    const unit = (f32x4.extract_lane(maxLanes(most), 0) * inverse) / I16_MOST;
    const factor = f32x4.splat(unit > LEAST_NUMBER ? inverse / unit : 0);
    for (let i: usize = 0; i < dims * 4; i += 32) {
      const a = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(x + i), factor)));
      const b = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(x + i, 16), factor)));
      v128.store(out + usize(dim) * 2 + i / 2, i16x8.narrow_i32x4_s(a, b));
    }
    store<f32>(unitAt, unit);
    unitAt += 16;
  }
}

/** A page's codes in tiles of 4 bits. */
// @ts-ignore: decorator
@inline
export function tilesOf(codes: usize, work: usize, headDim: i32, bits: i32): usize {
  if (bits == 4) return codes;
  const tiles = tilesAt(work, headDim);
  unpackTiles(codes, tiles, groupsOf(headDim) * OCTETS, bits);
  return tiles;
}

/**
 * Prepares a page's channels at channelsAt: scales as i16 [padded dims], exact unless a group's largest is 2^11 times
 * as large; 2 * (zero + middle) as i16 [padded dims]; f32 [groups], the value of 1 in a query's product with them, in
 * the query's unit. The only reader of what kv-pack.ts writes.
 */
function decodeChannels(bytes: usize, work: usize, headDim: i32, bits: i32): void {
  let scales = channelsAt(work, headDim);
  let zeros = scales + usize(paddedDims(headDim)) * 2;
  let units = zeros + usize(paddedDims(headDim)) * 2;
  const levels = 1 << bits;
  const most = i16x8.splat(i16(levels - 1));
  for (let dim = 0; dim < headDim; dim += GROUP) {
    const a = v128.load(bytes);
    // A group's padding: the query's is 0.
    const b = headDim - dim > 16 ? v128.load(bytes, 16) : a;
    const exponent = largestByte(i8x16.max_u(a, b)) >> 3;
    storeScales(scales, a, exponent);
    storeScales(scales + 32, b, exponent);
    for (let i: usize = 0; i < 32; i += 8) {
      const eight = v128.load8x8_s(bytes + usize(headDim) + i);
      v128.store(zeros + 2 * i, i16x8.add(i16x8.shl(eight, 1), most));
    }
    store<f32>(units, reinterpret<f32>((127 - 14 + exponent) << 23));
    bytes += GROUP;
    scales += 2 * GROUP;
    zeros += 2 * GROUP;
    units += 4;
  }
}

/** The largest of sixteen bytes. */
// @ts-ignore: decorator
@inline
function largestByte(x: v128): i32 {
  x = i8x16.max_u(x, i64x2.shr_u(x, 32));
  x = i8x16.max_u(x, i64x2.shr_u(x, 16));
  x = i8x16.max_u(x, i64x2.shr_u(x, 8));
  return max(i32(i8x16.extract_lane_u(x, 0)), i32(i8x16.extract_lane_u(x, 8)));
}

/** Sixteen scales as i16: M << (11 - how far their exponent is below the group's). */
// @ts-ignore: decorator
@inline
function storeScales(out: usize, bytes: v128, exponent: i32): void {
  const below = i8x16.sub(i8x16.splat(i8(exponent)), i8x16.shr_u(bytes, 3));
  const mantissas = v128.or(v128.and(bytes, i8x16.splat(7)), i8x16.splat(8));
  const low = i8x16.swizzle(v128.load(POWERS), below);
  const high = i8x16.swizzle(v128.load(POWERS, 16), below);
  const first = i8x16.shuffle(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const second = i8x16.shuffle(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  v128.store(out, i16x8.mul(first, i16x8.extend_low_i8x16_u(mantissas)));
  v128.store(out, i16x8.mul(second, i16x8.extend_high_i8x16_u(mantissas)), 16);
}

/** 2^(11 - i) for i from 0 to 11, then 0: low bytes, high bytes. */
const POWERS = memory.data<u8>([
  0, 0, 0, 0, 128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
]);

/**
 * For a group of a query times the page's scales, all i16: the largest magnitudes of four parts, in the low halves of
 * i32.
 */
// @ts-ignore: decorator
@inline
function magnitudes(query: usize, scales: usize): v128 {
  const a = i16x8.abs(i16x8.q15mulr_sat_s(v128.load(query), v128.load(scales)));
  const b = i16x8.abs(i16x8.q15mulr_sat_s(v128.load(query, 16), v128.load(scales, 16)));
  const c = i16x8.abs(i16x8.q15mulr_sat_s(v128.load(query, 32), v128.load(scales, 32)));
  const d = i16x8.abs(i16x8.q15mulr_sat_s(v128.load(query, 48), v128.load(scales, 48)));
  const most = i16x8.max_s(i16x8.max_s(a, b), i16x8.max_s(c, d));
  return i32x4.shr_u(i16x8.max_s(most, i32x4.shl(most, 16)), 16);
}

/**
 * One column's int8 operand of a group. factors: multipliers of its products, over 2^15, one i32 lane for each column;
 * units, losses: what 1 of its products with zeros, and of its codes, adds to `start`, f32 [4], to be summed.
 */
// @ts-ignore: decorator
@inline
function fold<C>(query: usize, scales: usize, zeros: usize, factors: v128, units: v128, losses: v128, operand: usize, start: usize): void {
  const p0 = i16x8.q15mulr_sat_s(v128.load(query), v128.load(scales));
  const p1 = i16x8.q15mulr_sat_s(v128.load(query, 16), v128.load(scales, 16));
  const p2 = i16x8.q15mulr_sat_s(v128.load(query, 32), v128.load(scales, 32));
  const p3 = i16x8.q15mulr_sat_s(v128.load(query, 48), v128.load(scales, 48));
  const factor = halves(lane<C>(factors));
  const c0 = i16x8.q15mulr_sat_s(p0, factor);
  const c1 = i16x8.q15mulr_sat_s(p1, factor);
  const c2 = i16x8.q15mulr_sat_s(p2, factor);
  const c3 = i16x8.q15mulr_sat_s(p3, factor);
  storeOperand(operand, 0, i8x16.narrow_i16x8_s(c0, c1));
  storeOperand(operand, 1, i8x16.narrow_i16x8_s(c2, c3));
  const codes = i32x4.dot_i16x8_s(i16x8.add(i16x8.add(c0, c1), i16x8.add(c2, c3)), i16x8.splat(1));
  const offsets = i32x4.add(
    i32x4.add(i32x4.dot_i16x8_s(p0, v128.load(zeros)), i32x4.dot_i16x8_s(p1, v128.load(zeros, 16))),
    i32x4.add(i32x4.dot_i16x8_s(p2, v128.load(zeros, 32)), i32x4.dot_i16x8_s(p3, v128.load(zeros, 48))),
  );
  const sum = madd(f32x4.convert_i32x4_s(offsets), lane<C>(units), v128.load(start));
  v128.store(start, madd(f32x4.convert_i32x4_s(codes), lane<C>(losses), sum));
}

/** The lane of the last of C columns, in every lane. */
// @ts-ignore: decorator
@inline
function lane<C>(x: v128): v128 {
  if (columnsOf<C>() == 1) return v128.shuffle<i32>(x, x, 0, 0, 0, 0);
  if (columnsOf<C>() == 2) return v128.shuffle<i32>(x, x, 1, 1, 1, 1);
  if (columnsOf<C>() == 3) return v128.shuffle<i32>(x, x, 2, 2, 2, 2);
  return v128.shuffle<i32>(x, x, 3, 3, 3, 3);
}

/** The low half of each i32, in both halves. */
// @ts-ignore: decorator
@inline
function halves(x: v128): v128 {
  return v128.or(v128.and(x, i32x4.splat(0xffff)), i32x4.shl(x, 16));
}

/** A quad of queries, starting with `column`, against a page's keys: C rows of 32 raw scores. */
// @ts-ignore: decorator
@inline
function scoreQuad<C>(codes: usize, work: usize, column: i32, headDim: i32, middle: f32, scores: usize): void {
  const groups = groupsOf(headDim);
  const folded = foldedAt(work, headDim);
  const starts = startsAt(work, headDim);
  const padded = usize(paddedDims(headDim));
  const queryBytes = padded * 4;
  let scales = channelsAt(work, headDim);
  let pageUnits = scales + padded * 4;
  let query = plainQueryAt(work, headDim, column);
  let queryUnits = queryUnitsAt(work, headDim, column);
  for (let i: usize = 0; i < 64; i += 16) v128.store(starts + i, f32x4.splat(0));
  let tile = folded;
  for (let group = 0; group < groups; group++) {
    const m0 = magnitudes(query, scales);
    const m1 = columnsOf<C>() > 1 ? magnitudes(query + queryBytes, scales) : m0;
    const m2 = columnsOf<C>() > 2 ? magnitudes(query + 2 * queryBytes, scales) : m0;
    const m3 = columnsOf<C>() > 3 ? magnitudes(query + 3 * queryBytes, scales) : m0;
    const a = i16x8.max_s(v128.shuffle<i32>(m0, m1, 0, 4, 1, 5), v128.shuffle<i32>(m0, m1, 2, 6, 3, 7));
    const b = i16x8.max_s(v128.shuffle<i32>(m2, m3, 0, 4, 1, 5), v128.shuffle<i32>(m2, m3, 2, 6, 3, 7));
    const largest = i16x8.max_s(v128.shuffle<i32>(a, b, 0, 1, 4, 5), v128.shuffle<i32>(a, b, 2, 3, 6, 7));
    // Products become bytes by multiplication with a factor over 2^15: the largest at most 127.
    const ratios = f32x4.div(f32x4.splat(127 * 32768), f32x4.convert_i32x4_s(largest));
    const factors = f32x4.floor(f32x4.pmin(ratios, f32x4.splat(I16_MOST)));
    const integers = f32x4.add(factors, f32x4.splat(ROUNDER));
    const units = f32x4.mul(v128.load(queryUnits), v128.load32_splat(pageUnits));
    const columnScales = f32x4.div(f32x4.mul(units, f32x4.splat(32768)), factors);
    v128.store(tile + 4 * OPERAND_BYTES, columnScales);
    const halfUnits = f32x4.mul(units, f32x4.splat(0.5));
    const losses = f32x4.mul(columnScales, f32x4.splat(-middle));
    const zeros = scales + padded * 2;
    fold<One>(query, scales, zeros, integers, halfUnits, losses, tile, starts);
    if (columnsOf<C>() > 1)
      fold<Two>(query + queryBytes, scales, zeros, integers, halfUnits, losses, tile + OPERAND_BYTES, starts + 16);
    if (columnsOf<C>() > 2)
      fold<Three>(query + 2 * queryBytes, scales, zeros, integers, halfUnits, losses, tile + 2 * OPERAND_BYTES, starts + 32);
    if (columnsOf<C>() > 3)
      fold<Four>(query + 3 * queryBytes, scales, zeros, integers, halfUnits, losses, tile + 3 * OPERAND_BYTES, starts + 48);
    scales += GROUP * 2;
    pageUnits += 4;
    query += GROUP * 2;
    queryUnits += 16;
    tile += QUERY_TILE_BYTES;
  }
  for (let i: usize = 0; i < 64; i += 16) v128.store(starts + i, sumLanes(v128.load(starts + i)));
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

/** Converts rotated totals and their offsets into sums of unpacked vectors. */
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
