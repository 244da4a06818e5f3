// One token, types with integer scales (q2_k to q6_k): two panels of packed weights times a quantized activation, as in
// matmul-vector.ts, with another order of scaling. The sums of 32 columns are multiplied by their small scale as
// integers, then by the activation's scale, and only those of 256 columns by the block's f32 scale.
//
// A block of one panel, then of the other: a block's sums are all in registers (one or two of 16 bits, an f32 and a min
// for each quad of rows), and both quads share the broadcast activations. Longer and shorter turns are slower from memory
// (EPYC, Zen 4: whole panels 1.4 times the time, four blocks 1.2, half a block 1.15; lab/LOG.md, 2026-11-29).
import { madd } from "./exp";
import { blockMin, blockScale, codes, narrowProduct, wide } from "./matmul-decode";
import {
  PANEL_HEAD, Q2_K, Q5_K, blockBytes, codeBytes, hasHalves, hasMin, headBytes, isSuperblock, typeOf,
} from "./matmul-layout";
import { PANEL_SUMS, begin } from "./matmul-vector";
import { BLOCK, CODES, HALF_SUM, SCALE, SUM } from "./quantize";

/** Whether superPanels is for this type: products of integers with 7-bit codes, and integer scales. */
// @ts-ignore: decorator
@inline export function hasSmallScales<T>(): bool {
  return isSuperblock(typeOf<T>()) && !wide<T>();
}

/** Like vectorPanels. */
export function superPanels<T>(sums: usize, a: usize, b: usize, x: usize, cols: i32): void {
  const end = x + usize(cols / 32) * BLOCK;
  let w = a + PANEL_HEAD;
  let v = b + PANEL_HEAD;
  clear(sums);
  clear(sums + PANEL_SUMS);
  for (; x < end; x += 8 * BLOCK, w += blockBytes(typeOf<T>()), v += blockBytes(typeOf<T>())) {
    let block = w;
    let to = sums;
    for (;;) {
      addBlock<T>(to, block, x);
      if (block == v) break;
      block = v;
      to += PANEL_SUMS;
    }
  }
  multiplySums(sums, a);
  multiplySums(sums + PANEL_SUMS, b);
}

// @ts-ignore: decorator
@inline function clear(sums: usize): void {
  v128.store(sums, f32x4.splat(0));
  v128.store(sums, f32x4.splat(0), 16);
}

// @ts-ignore: decorator
@inline function multiplySums(sums: usize, panel: usize): void {
  const factor = v128.load32_splat(panel);
  v128.store(sums, f32x4.mul(v128.load(sums), factor));
  v128.store(sums, f32x4.mul(v128.load(sums, 16), factor), 16);
}

/** Adds 256 columns to the sums of 8 rows. */
// @ts-ignore: decorator
@inline function addBlock<T>(sums: usize, block: usize, x: usize): void {
  let planes = block + headBytes(typeOf<T>());
  let scales = block + (hasMin(typeOf<T>()) ? 32 : 16);
  const end = planes + 8 * codeBytes(typeOf<T>());
  let a = f32x4.splat(0), b = a, aMin = a, bMin = a;
  do {
    // Groups 0 to 3, and 4 to 7 if those have sums of their own.
    let a0 = begin<T>(x, 0, 4), b0 = a0;
    let a1 = begin<T>(x, 4, 8), b1 = a1;
    let y: v128;
    // The breaks are never taken (matmul-tile.ts). They lead to where the sums are used; from breaks that left the outer
    // loop V8 would move the arithmetic behind the last one, and spill (q4_k 17.6 instead of 21.3 GB/s of a thread).
    do {
      y = v128.load32_splat(x, CODES); a0 = plus<T>(a0, planes, 0, 0, y); b0 = plus<T>(b0, planes, 1, 0, y);
      y = v128.load32_splat(x, CODES + 16);
      if (isSplit<T>()) { a1 = plus<T>(a1, planes, 0, 4, y); b1 = plus<T>(b1, planes, 1, 4, y); }
      else { a0 = plus<T>(a0, planes, 0, 4, y); b0 = plus<T>(b0, planes, 1, 4, y); }
      if (planes == 1) break;
      y = v128.load32_splat(x, CODES + 4); a0 = plus<T>(a0, planes, 0, 1, y); b0 = plus<T>(b0, planes, 1, 1, y);
      y = v128.load32_splat(x, CODES + 20);
      if (isSplit<T>()) { a1 = plus<T>(a1, planes, 0, 5, y); b1 = plus<T>(b1, planes, 1, 5, y); }
      else { a0 = plus<T>(a0, planes, 0, 5, y); b0 = plus<T>(b0, planes, 1, 5, y); }
      if (planes == 2) break;
      y = v128.load32_splat(x, CODES + 8); a0 = plus<T>(a0, planes, 0, 2, y); b0 = plus<T>(b0, planes, 1, 2, y);
      y = v128.load32_splat(x, CODES + 24);
      if (isSplit<T>()) { a1 = plus<T>(a1, planes, 0, 6, y); b1 = plus<T>(b1, planes, 1, 6, y); }
      else { a0 = plus<T>(a0, planes, 0, 6, y); b0 = plus<T>(b0, planes, 1, 6, y); }
      if (planes == 3) break;
      y = v128.load32_splat(x, CODES + 12); a0 = plus<T>(a0, planes, 0, 3, y); b0 = plus<T>(b0, planes, 1, 3, y);
      y = v128.load32_splat(x, CODES + 28);
      if (isSplit<T>()) { a1 = plus<T>(a1, planes, 0, 7, y); b1 = plus<T>(b1, planes, 1, 7, y); }
      else { a0 = plus<T>(a0, planes, 0, 7, y); b0 = plus<T>(b0, planes, 1, 7, y); }
    } while (false);
    const unit = v128.load32_splat(x, SCALE);
    a = madd(f32x4.convert_i32x4_s(scaledLow<T>(a0, a1, scales)), unit, a);
    b = madd(f32x4.convert_i32x4_s(scaledHigh<T>(b0, b1, scales)), unit, b);
    if (hasMin(typeOf<T>())) {
      let mins = smallMins<T>(scales, 0);
      let sum = hasHalves(typeOf<T>()) ? v128.load32_splat(x, HALF_SUM) : v128.load32_splat(x, SUM);
      aMin = madd(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(mins)), sum, aMin);
      bMin = madd(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(mins)), sum, bMin);
      if (hasHalves(typeOf<T>())) {
        mins = smallMins<T>(scales, 8);
        sum = v128.load32_splat(x, HALF_SUM + 4);
        aMin = madd(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(mins)), sum, aMin);
        bMin = madd(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(mins)), sum, bMin);
      }
    }
    x += BLOCK;
    scales += 16;
    planes += codeBytes(typeOf<T>());
  } while (planes < end);
  a = madd(a, blockScale<T>(block, 0), v128.load(sums));
  b = madd(b, blockScale<T>(block, 1), v128.load(sums, 16));
  if (hasMin(typeOf<T>())) {
    a = madd(aMin, blockMin<T>(block, 0), a);
    b = madd(bMin, blockMin<T>(block, 1), b);
  }
  v128.store(sums, a);
  v128.store(sums, b, 16);
}

/** Sums of groups 4 to 7 apart: halves have scales, or sums of eight unsigned 5-bit codes would exceed 16 bits. */
// @ts-ignore: decorator
@inline function isSplit<T>(): bool {
  return hasHalves(typeOf<T>()) || typeOf<T>() == Q5_K;
}

// @ts-ignore: decorator
@inline function plus<T>(sums: v128, planes: usize, quad: usize, group: i32, y: v128): v128 {
  return i16x8.add(sums, narrowProduct(y, codes<T>(planes, quad, group)));
}

/** Sums of 16 bits times the small scales of rows 0 to 3, as i32. */
// @ts-ignore: decorator
@inline function scaledLow<T>(first: v128, second: v128, scales: usize): v128 {
  const scale = smallScales<T>(scales, 0);
  const sums = i32x4.dot_i16x8_s(first, v128.shuffle<i16>(scale, scale, 0, 0, 1, 1, 2, 2, 3, 3));
  if (!isSplit<T>()) return sums;
  const other = hasHalves(typeOf<T>()) ? smallScales<T>(scales, 8) : scale;
  return i32x4.add(sums, i32x4.dot_i16x8_s(second, v128.shuffle<i16>(other, other, 0, 0, 1, 1, 2, 2, 3, 3)));
}

/** Of rows 4 to 7. */
// @ts-ignore: decorator
@inline function scaledHigh<T>(first: v128, second: v128, scales: usize): v128 {
  const scale = smallScales<T>(scales, 0);
  const sums = i32x4.dot_i16x8_s(first, v128.shuffle<i16>(scale, scale, 4, 4, 5, 5, 6, 6, 7, 7));
  if (!isSplit<T>()) return sums;
  const other = hasHalves(typeOf<T>()) ? smallScales<T>(scales, 8) : scale;
  return i32x4.add(sums, i32x4.dot_i16x8_s(second, v128.shuffle<i16>(other, other, 4, 4, 5, 5, 6, 6, 7, 7)));
}

/** Small scales of 8 rows, i16: of 32 columns, or of the half at `half` (0 or 8). */
// @ts-ignore: decorator
@inline function smallScales<T>(scales: usize, half: usize): v128 {
  const at = scales + half;
  if (typeOf<T>() == Q2_K) return v128.and(v128.load8x8_u(at), i16x8.splat(15));
  return hasMin(typeOf<T>()) ? v128.load8x8_u(at) : v128.load8x8_s(at);
}

// @ts-ignore: decorator
@inline function smallMins<T>(scales: usize, half: usize): v128 {
  if (typeOf<T>() == Q2_K) return i16x8.shr_u(v128.load8x8_u(scales + half), 4);
  return v128.load8x8_u(scales, 8);
}
