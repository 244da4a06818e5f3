// One token, types with one scale for 32 columns or more and no integer scales (q4_0, q8_0, mlx): two panels of packed
// weights times a quantized activation, as in matmul-vector.ts, but the four quads of rows share every broadcast group
// of activations, and their sums are the only values that live longer than a step.
import { madd } from "./exp";
import { blockMin, blockScale, codes, narrowProduct, planesAt, wide, wideCodes } from "./matmul-decode";
import {
  PANEL_HEAD, Q5_1, blockBytes, blockCols, hasHalves, hasMin, isSuperblock, typeOf,
} from "./matmul-layout";
import { begin, beginWide, storeSums } from "./matmul-vector";
import { BLOCK, CODES, SCALE, SCALE_PAIR, SUM, ZERO } from "./quantize";

/** Whether quadPanels is for this type. */
// @ts-ignore: decorator
@inline export function hasWholeScales<T>(): bool {
  return !isSuperblock(typeOf<T>()) && !hasHalves(typeOf<T>());
}

/** Like vectorPanels. */
export function quadPanels<T>(sums: usize, a: usize, b: usize, x: usize, cols: i32): void {
  const wideOffset = usize(cols / 32) * BLOCK;
  const end = x + wideOffset;
  let w = a + PANEL_HEAD;
  let v = b + PANEL_HEAD;
  let y0 = f32x4.splat(0), y1 = y0, z0 = y0, z1 = y0;
  while (x < end) {
    let sub = 0;
    do {
      const p = planesAt<T>(w, sub), q = planesAt<T>(v, sub);
      const codes = wide<T>() ? x + wideOffset : x + CODES;
      let s0 = beginSums<T>(x), s1 = s0, t0 = s0, t1 = s0;
      // The breaks are never taken; see matmul-tile.ts.
      do {
        s0 = step<T>(s0, p, 0, 0, codes); s1 = step<T>(s1, p, 1, 0, codes);
        t0 = step<T>(t0, q, 0, 0, codes); t1 = step<T>(t1, q, 1, 0, codes);
        if (p == 1) break;
        s0 = step<T>(s0, p, 0, 1, codes); s1 = step<T>(s1, p, 1, 1, codes);
        t0 = step<T>(t0, q, 0, 1, codes); t1 = step<T>(t1, q, 1, 1, codes);
        if (p == 2) break;
        s0 = step<T>(s0, p, 0, 2, codes); s1 = step<T>(s1, p, 1, 2, codes);
        t0 = step<T>(t0, q, 0, 2, codes); t1 = step<T>(t1, q, 1, 2, codes);
        if (p == 3) break;
        s0 = step<T>(s0, p, 0, 3, codes); s1 = step<T>(s1, p, 1, 3, codes);
        t0 = step<T>(t0, q, 0, 3, codes); t1 = step<T>(t1, q, 1, 3, codes);
      } while (false);
      const scale = wide<T>() ? v128.load32_splat(x, SCALE) : v128.load32_splat(x, SCALE_PAIR);
      y0 = madd(scaled<T>(s0, scale), blockScale<T>(w, 0), y0);
      y1 = madd(scaled<T>(s1, scale), blockScale<T>(w, 1), y1);
      z0 = madd(scaled<T>(t0, scale), blockScale<T>(v, 0), z0);
      z1 = madd(scaled<T>(t1, scale), blockScale<T>(v, 1), z1);
      if (hasMin(typeOf<T>())) {
        const sum = v128.load32_splat(x, SUM);
        y0 = madd(sum, minOf<T>(w, 0), y0);
        y1 = madd(sum, minOf<T>(w, 1), y1);
        z0 = madd(sum, minOf<T>(v, 0), z0);
        z1 = madd(sum, minOf<T>(v, 1), z1);
      }
      x += BLOCK;
    } while (++sub < blockCols(typeOf<T>()) / 32);
    w += blockBytes(typeOf<T>());
    v += blockBytes(typeOf<T>());
  }
  storeSums(sums, a, b, y0, y1, z0, z1);
}

/**
 * Unsigned 5-bit codes are taken as if their zero were 16, which their min compensates for: eight products then fit 16
 * bits.
 */
// @ts-ignore: decorator
@inline function isBiased<T>(): bool {
  return !wide<T>() && typeOf<T>() == Q5_1;
}

// @ts-ignore: decorator
@inline function beginSums<T>(x: usize): v128 {
  if (wide<T>()) return beginWide<T>(x, 0, 8);
  return isBiased<T>() ? v128.load32_splat(x, ZERO) : begin<T>(x, 0, 8);
}

// @ts-ignore: decorator
@inline function minOf<T>(block: usize, quad: usize): v128 {
  const min = blockMin<T>(block, quad);
  return isBiased<T>() ? madd(blockScale<T>(block, quad), f32x4.splat(16), min) : min;
}

/** Sums plus the products of groups n and n + 4. */
// @ts-ignore: decorator
@inline function step<T>(sums: v128, planes: usize, quad: usize, n: i32, x: usize): v128 {
  if (wide<T>()) return wideGroup<T>(wideGroup<T>(sums, planes, quad, n, x), planes, quad, n + 4, x);
  return narrowGroup<T>(narrowGroup<T>(sums, planes, quad, n, x), planes, quad, n + 4, x);
}

// @ts-ignore: decorator
@inline function narrowGroup<T>(sums: v128, planes: usize, quad: usize, group: i32, x: usize): v128 {
  return i16x8.add(sums, narrowProduct(word(x, group), codes<T>(planes, quad, group)));
}

// @ts-ignore: decorator
@inline function wideGroup<T>(sums: v128, planes: usize, quad: usize, group: i32, x: usize): v128 {
  sums = i32x4.add(sums, i32x4.dot_i16x8_s(wideCodes<T>(planes, quad, group, false), word(x, 2 * group)));
  return i32x4.add(sums, i32x4.dot_i16x8_s(wideCodes<T>(planes, quad, group, true), word(x, 2 * group + 1)));
}

/** The n-th broadcast word. Written out because only a literal becomes part of the load instruction. */
// @ts-ignore: decorator
@inline function word(at: usize, n: i32): v128 {
  if (n == 0) return v128.load32_splat(at);
  if (n == 1) return v128.load32_splat(at, 4);
  if (n == 2) return v128.load32_splat(at, 8);
  if (n == 3) return v128.load32_splat(at, 12);
  if (n == 4) return v128.load32_splat(at, 16);
  if (n == 5) return v128.load32_splat(at, 20);
  if (n == 6) return v128.load32_splat(at, 24);
  if (n == 7) return v128.load32_splat(at, 28);
  if (n == 8) return v128.load32_splat(at, 32);
  if (n == 9) return v128.load32_splat(at, 36);
  if (n == 10) return v128.load32_splat(at, 40);
  if (n == 11) return v128.load32_splat(at, 44);
  if (n == 12) return v128.load32_splat(at, 48);
  if (n == 13) return v128.load32_splat(at, 52);
  if (n == 14) return v128.load32_splat(at, 56);
  return v128.load32_splat(at, 60);
}

/** Integer sums times the activation's integer scale. */
// @ts-ignore: decorator
@inline function scaled<T>(sums: v128, scale: v128): v128 {
  if (wide<T>()) return f32x4.mul(f32x4.convert_i32x4_s(sums), scale);
  return f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(sums, scale));
}
