// Two to four tokens: panels of packed weights times quantized activations. Each code is decoded once, in registers,
// for all tokens. Used to generate several texts and to check guessed tokens.
//
// It combines the products of matmul-tile.ts with the decoding of matmul-vector.ts. Unpacking a slice first is worth it
// only from about a dozen tokens on, since it writes and reads all codes once more (lab/LOG.md, 2026-11-28).
import { columnsOf } from "./attend-work";
import { madd } from "./exp";
import { blockMin, blockScale, codes, minOf, planesAt, scaleOf, wide, wideCodes } from "./matmul-decode";
import { PANEL_HEAD, Q5_1, Q5_K, blockBytes, blockCols, hasBytes, hasHalves, hasMin, typeOf } from "./matmul-layout";
import { scaled, step } from "./matmul-tile";
import { PANEL_SUMS, begin, beginWide } from "./matmul-vector";
import { BLOCK, CODES, HALF_SUM, SCALE, SCALE_PAIR, SUM } from "./quantize";

/**
 * sums [2, 4, 8] f32: the products of panels a and b (which may be the same: then only the first are written) with C
 * tokens, to be multiplied by the tokens' units. inputs: the tokens' blocks, u32 [C]; cols: columns. Two panels far
 * apart in memory for the reason given at vectorPanels.
 */
export function fewPanels<T, C>(sums: usize, a: usize, b: usize, inputs: usize, cols: i32): void {
  let x0 = load<usize>(inputs), x1 = load<usize>(inputs, 4);
  let x2 = columnsOf<C>() > 2 ? load<usize>(inputs, 8) : 0, x3 = columnsOf<C>() > 3 ? load<usize>(inputs, 12) : 0;
  const wideOffset = usize(cols / 32) * BLOCK;
  const end = x0 + wideOffset;
  for (let i: usize = 0; i < 2 * PANEL_SUMS; i += 16) v128.store(sums + i, f32x4.splat(0));
  let w = a + PANEL_HEAD;
  let v = b + PANEL_HEAD;
  while (x0 < end) {
    let sub = 0;
    do {
      let block = w;
      let to = sums;
      for (;;) {
        addColumns<T, C>(to, block, sub, 0, x0, x1, x2, x3, wideOffset);
        if (spansOf<T>() == 2) addColumns<T, C>(to, block, sub, 1, x0, x1, x2, x3, wideOffset);
        if (block == v) break;
        block = v;
        to += PANEL_SUMS;
      }
      x0 += BLOCK;
      x1 += BLOCK;
      if (columnsOf<C>() > 2) x2 += BLOCK;
      if (columnsOf<C>() > 3) x3 += BLOCK;
    } while (++sub < blockCols(typeOf<T>()) / 32);
    w += blockBytes(typeOf<T>());
    v += blockBytes(typeOf<T>());
  }
  multiplySums(sums, load<f32>(a));
  multiplySums(sums + PANEL_SUMS, load<f32>(b));
}

function multiplySums(sums: usize, factor: f32): void {
  const factors = f32x4.splat(factor);
  for (let i: usize = 0; i < PANEL_SUMS; i += 16) v128.store(sums + i, f32x4.mul(v128.load(sums + i), factors));
}

/**
 * The number of parts in which 32 columns are summed: two if halves have scales, if sums of eight products would exceed
 * 16 bits, or if the widened codes of eight groups would make too much code.
 */
// @ts-ignore: decorator
@inline function spansOf<T>(): i32 {
  if (hasBytes(typeOf<T>())) return 1;
  return wide<T>() || hasHalves(typeOf<T>()) || typeOf<T>() == Q5_1 || typeOf<T>() == Q5_K ? 2 : 1;
}

/** Steps of a span (or of one iteration over it): groups, or halves of groups if codes are wide. */
// @ts-ignore: decorator
@inline function stepsOf<T>(): i32 {
  return wide<T>() || spansOf<T>() == 1 ? 8 : 4;
}

/** Codes of step `index` after group `from`. */
// @ts-ignore: decorator
@inline function weights<T>(planes: usize, quad: usize, from: i32, index: i32): v128 {
  if (wide<T>()) return wideCodes<T>(planes, quad, from + (index >> 1), (index & 1) != 0);
  return codes<T>(planes, quad, from + index);
}

/** The initial value of a token's sums of a span. */
// @ts-ignore: decorator
@inline function start<T>(x: usize, span: i32): v128 {
  if (hasHalves(typeOf<T>())) {
    return wide<T>() ? beginWide<T>(x, span * 4, span * 4 + 4) : begin<T>(x, span * 4, span * 4 + 4);
  }
  if (span == 1) return i64x2.splat(0);
  return wide<T>() ? beginWide<T>(x, 0, 8) : begin<T>(x, 0, 8);
}

/** sums [C, 8] += a span of 32 columns. */
// @ts-ignore: decorator
@inline function addColumns<T, C>(
  sums: usize, block: usize, sub: i32, span: i32, x0: usize, x1: usize, x2: usize, x3: usize, wideOffset: usize,
): void {
  let planes = planesAt<T>(block, sub);
  const from = span * 4;
  const at = wide<T>() ? wideOffset + from * 8 : CODES + from * 4;
  let c0 = x0 + at, c1 = x1 + at, c2 = x2 + at, c3 = x3 + at;
  let a0 = start<T>(x0, span), a1 = start<T>(x1, span), a2 = a0, a3 = a0;
  if (columnsOf<C>() > 2) a2 = start<T>(x2, span);
  if (columnsOf<C>() > 3) a3 = start<T>(x3, span);
  let b0 = a0, b1 = a1, b2 = a2, b3 = a3;
  let wa: v128, wb: v128, x: v128;
  const end = planes + 256;
  let w = planes;
  // The breaks are never taken; see matmul-tile.ts. A second iteration is for the other half of byte codes.
  do {
    wa = weights<T>(planes, 0, from, 0); wb = weights<T>(planes, 1, from, 0);
    x = v128.load32_splat(c0); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    if (columnsOf<C>() > 2) { x = v128.load32_splat(c2); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb); }
    if (columnsOf<C>() > 3) { x = v128.load32_splat(c3); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb); }
    if (w == 1) break;
    wa = weights<T>(planes, 0, from, 1); wb = weights<T>(planes, 1, from, 1);
    x = v128.load32_splat(c0, 4); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 4); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    if (columnsOf<C>() > 2) { x = v128.load32_splat(c2, 4); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb); }
    if (columnsOf<C>() > 3) { x = v128.load32_splat(c3, 4); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb); }
    if (w == 2) break;
    wa = weights<T>(planes, 0, from, 2); wb = weights<T>(planes, 1, from, 2);
    x = v128.load32_splat(c0, 8); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 8); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    if (columnsOf<C>() > 2) { x = v128.load32_splat(c2, 8); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb); }
    if (columnsOf<C>() > 3) { x = v128.load32_splat(c3, 8); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb); }
    if (w == 3) break;
    wa = weights<T>(planes, 0, from, 3); wb = weights<T>(planes, 1, from, 3);
    x = v128.load32_splat(c0, 12); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 12); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    if (columnsOf<C>() > 2) { x = v128.load32_splat(c2, 12); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb); }
    if (columnsOf<C>() > 3) { x = v128.load32_splat(c3, 12); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb); }
    if (stepsOf<T>() == 4 || w == 4) break;
    wa = weights<T>(planes, 0, from, 4); wb = weights<T>(planes, 1, from, 4);
    x = v128.load32_splat(c0, 16); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 16); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    if (columnsOf<C>() > 2) { x = v128.load32_splat(c2, 16); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb); }
    if (columnsOf<C>() > 3) { x = v128.load32_splat(c3, 16); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb); }
    if (w == 5) break;
    wa = weights<T>(planes, 0, from, 5); wb = weights<T>(planes, 1, from, 5);
    x = v128.load32_splat(c0, 20); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 20); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    if (columnsOf<C>() > 2) { x = v128.load32_splat(c2, 20); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb); }
    if (columnsOf<C>() > 3) { x = v128.load32_splat(c3, 20); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb); }
    if (w == 6) break;
    wa = weights<T>(planes, 0, from, 6); wb = weights<T>(planes, 1, from, 6);
    x = v128.load32_splat(c0, 24); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 24); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    if (columnsOf<C>() > 2) { x = v128.load32_splat(c2, 24); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb); }
    if (columnsOf<C>() > 3) { x = v128.load32_splat(c3, 24); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb); }
    if (w == 7) break;
    wa = weights<T>(planes, 0, from, 7); wb = weights<T>(planes, 1, from, 7);
    x = v128.load32_splat(c0, 28); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 28); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    if (columnsOf<C>() > 2) { x = v128.load32_splat(c2, 28); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb); }
    if (columnsOf<C>() > 3) { x = v128.load32_splat(c3, 28); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb); }
    if (hasBytes(typeOf<T>())) {
      planes += 128;
      w = planes;
      c0 += 32;
      c1 += 32;
      c2 += 32;
      c3 += 32;
    }
  } while (hasBytes(typeOf<T>()) && planes < end);

  const half: usize = hasHalves(typeOf<T>()) ? span : 0;
  const scaleA = scaleOf<T>(block, blockScale<T>(block, 0), sub, half, 0);
  const scaleB = scaleOf<T>(block, blockScale<T>(block, 1), sub, half, 1);
  addScaled<T>(sums, x0, a0, b0, scaleA, scaleB);
  addScaled<T>(sums + 32, x1, a1, b1, scaleA, scaleB);
  if (columnsOf<C>() > 2) addScaled<T>(sums + 64, x2, a2, b2, scaleA, scaleB);
  if (columnsOf<C>() > 3) addScaled<T>(sums + 96, x3, a3, b3, scaleA, scaleB);
  if (!hasMin(typeOf<T>()) || (span == 1 && !hasHalves(typeOf<T>()))) return;
  const minA = minOf<T>(block, blockMin<T>(block, 0), sub, half, 0);
  const minB = minOf<T>(block, blockMin<T>(block, 1), sub, half, 1);
  const sum = hasHalves(typeOf<T>()) ? HALF_SUM + half * 4 : SUM;
  addMins(sums, x0 + sum, minA, minB);
  addMins(sums + 32, x1 + sum, minA, minB);
  if (columnsOf<C>() > 2) addMins(sums + 64, x2 + sum, minA, minB);
  if (columnsOf<C>() > 3) addMins(sums + 96, x3 + sum, minA, minB);
}

/** Adds integer sums of 4 and 4 rows, scaled, to a token's sums. */
// @ts-ignore: decorator
@inline function addScaled<T>(sums: usize, x: usize, a: v128, b: v128, scaleA: v128, scaleB: v128): void {
  const scale = wide<T>() ? v128.load32_splat(x, SCALE) : v128.load32_splat(x, SCALE_PAIR);
  v128.store(sums, madd(scaled<T>(a, scale), scaleA, v128.load(sums)));
  v128.store(sums, madd(scaled<T>(b, scale), scaleB, v128.load(sums, 16)), 16);
}

// @ts-ignore: decorator
@inline function addMins(sums: usize, sum: usize, minA: v128, minB: v128): void {
  const x = v128.load32_splat(sum);
  v128.store(sums, madd(x, minA, v128.load(sums)));
  v128.store(sums, madd(x, minB, v128.load(sums, 16)), 16);
}
