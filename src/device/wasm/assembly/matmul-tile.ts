// Several tokens: an unpacked slice of a panel times a chunk of a prompt, in tiles of 8 rows x 4 tokens.
//
// Eight sums of 16 bits stay in registers; a step is two vectors of codes, four broadcast groups of activations, eight
// products, eight sums. Scaling happens once per 32 columns (16, if halves have scales).
import { hasHalves, hasMin, typeOf } from "./matmul-layout";
import { madd } from "./exp";
import { narrowProduct, wide } from "./matmul-decode";
import { scaleBytes } from "./matmul-unpack";
import { BLOCK, CODES, HALF_SUM, HALF_ZERO, SCALE, SCALE_PAIR, SUM, ZERO } from "./quantize";

/**
 * Adds an unpacked slice of `cols` columns to sums [4, 8] f32: 8 rows times 4 tokens, in units of the tokens' rows.
 * x0..x3: the tokens' blocks; wideOffset: from there to their i16 codes. T stands for all types of its kind (wide,
 * halves, min).
 */
export function tile<T>(
  sums: usize, w: usize, cols: i32, x0: usize, x1: usize, x2: usize, x3: usize, wideOffset: usize,
): void {
  const codes = wide<T>() ? wideOffset : CODES;
  for (let left = cols; left > 0; left -= 32) {
    const scales = w + (wide<T>() ? 512 : 256);
    multiply<T>(sums, w, scales, x0, x1, x2, x3, codes, 0);
    if (hasHalves(typeOf<T>())) {
      multiply<T>(sums, w + stepsOf<T>() * 32, scales, x0, x1, x2, x3, codes + stepsOf<T>() * 4, 1);
    }
    w = scales + scaleBytes<T>();
    x0 += BLOCK;
    x1 += BLOCK;
    x2 += BLOCK;
    x3 += BLOCK;
  }
}

/** Steps between two scalings. */
// @ts-ignore: decorator
@inline function stepsOf<T>(): usize {
  return (wide<T>() ? 16 : 8) / (hasHalves(typeOf<T>()) ? 2 : 1);
}

/** Adds the columns of one scale to sums. codes: from a token's block to its codes of these columns. */
// @ts-ignore: decorator
@inline function multiply<T>(
  sums: usize, w: usize, scales: usize, x0: usize, x1: usize, x2: usize, x3: usize, codes: usize, half: usize,
): void {
  let a0 = begin<T>(x0, half), a1 = begin<T>(x1, half), a2 = begin<T>(x2, half), a3 = begin<T>(x3, half);
  let b0 = a0, b1 = a1, b2 = a2, b3 = a3;
  let c0 = x0 + codes, c1 = x1 + codes, c2 = x2 + codes, c3 = x3 + codes;
  let wa: v128, wb: v128, x: v128;
  // The breaks are never taken (w never has such a value). They end V8's basic blocks, in which it would place all
  // loads first and then spill what does not fit the 16 registers: 78 instead of 96 Gop/s per thread (Node 20, Xeon,
  // 2026-11-23).
  const end = w + stepsOf<T>() * 32;
  do {
    wa = v128.load(w); wb = v128.load(w, 16);
    x = v128.load32_splat(c0); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    x = v128.load32_splat(c2); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb);
    x = v128.load32_splat(c3); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb);
    if (w == 1) break;
    wa = v128.load(w, 32); wb = v128.load(w, 48);
    x = v128.load32_splat(c0, 4); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 4); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    x = v128.load32_splat(c2, 4); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb);
    x = v128.load32_splat(c3, 4); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb);
    if (w == 2) break;
    wa = v128.load(w, 64); wb = v128.load(w, 80);
    x = v128.load32_splat(c0, 8); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 8); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    x = v128.load32_splat(c2, 8); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb);
    x = v128.load32_splat(c3, 8); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb);
    if (w == 3) break;
    wa = v128.load(w, 96); wb = v128.load(w, 112);
    x = v128.load32_splat(c0, 12); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 12); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    x = v128.load32_splat(c2, 12); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb);
    x = v128.load32_splat(c3, 12); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb);
    if (stepsOf<T>() == 4 || w == 4) break;
    wa = v128.load(w, 128); wb = v128.load(w, 144);
    x = v128.load32_splat(c0, 16); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 16); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    x = v128.load32_splat(c2, 16); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb);
    x = v128.load32_splat(c3, 16); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb);
    if (w == 5) break;
    wa = v128.load(w, 160); wb = v128.load(w, 176);
    x = v128.load32_splat(c0, 20); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 20); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    x = v128.load32_splat(c2, 20); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb);
    x = v128.load32_splat(c3, 20); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb);
    if (w == 6) break;
    wa = v128.load(w, 192); wb = v128.load(w, 208);
    x = v128.load32_splat(c0, 24); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 24); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    x = v128.load32_splat(c2, 24); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb);
    x = v128.load32_splat(c3, 24); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb);
    if (w == 7) break;
    wa = v128.load(w, 224); wb = v128.load(w, 240);
    x = v128.load32_splat(c0, 28); a0 = step<T>(a0, x, wa); b0 = step<T>(b0, x, wb);
    x = v128.load32_splat(c1, 28); a1 = step<T>(a1, x, wa); b1 = step<T>(b1, x, wb);
    x = v128.load32_splat(c2, 28); a2 = step<T>(a2, x, wa); b2 = step<T>(b2, x, wb);
    x = v128.load32_splat(c3, 28); a3 = step<T>(a3, x, wa); b3 = step<T>(b3, x, wb);
    w += 256;
    c0 += 32;
    c1 += 32;
    c2 += 32;
    c3 += 32;
  } while (stepsOf<T>() > 8 && w < end);

  const at = scales + half * 32;
  addScaled<T>(sums, at, x0, half, a0, b0);
  addScaled<T>(sums + 32, at, x1, half, a1, b1);
  addScaled<T>(sums + 64, at, x2, half, a2, b2);
  addScaled<T>(sums + 96, at, x3, half, a3, b3);
}

// @ts-ignore: decorator
@inline function begin<T>(x: usize, half: usize): v128 {
  if (wide<T>()) return i64x2.splat(0);
  if (hasHalves(typeOf<T>())) return v128.load32_splat(x + half * 4, HALF_ZERO);
  return v128.load32_splat(x, ZERO);
}

// @ts-ignore: decorator
@inline export function step<T>(sums: v128, x: v128, w: v128): v128 {
  if (wide<T>()) return i32x4.add(sums, i32x4.dot_i16x8_s(w, x));
  return i16x8.add(sums, narrowProduct(x, w));
}

/** Adds integer sums of 4 and 4 rows, scaled, and the mins' part to one token's sums. */
// @ts-ignore: decorator
@inline function addScaled<T>(sums: usize, scales: usize, x: usize, half: usize, a: v128, b: v128): void {
  const scale = wide<T>() ? v128.load32_splat(x, SCALE) : v128.load32_splat(x, SCALE_PAIR);
  let ya = madd(scaled<T>(a, scale), v128.load(scales), v128.load(sums));
  let yb = madd(scaled<T>(b, scale), v128.load(scales, 16), v128.load(sums, 16));
  if (hasMin(typeOf<T>())) {
    const sum = hasHalves(typeOf<T>()) ? v128.load32_splat(x + half * 4, HALF_SUM) : v128.load32_splat(x, SUM);
    const mins = scales + (hasHalves(typeOf<T>()) ? 64 : 32);
    ya = madd(sum, v128.load(mins), ya);
    yb = madd(sum, v128.load(mins, 16), yb);
  }
  v128.store(sums, ya);
  v128.store(sums, yb, 16);
}

/** Integer sums times the activation's integer scale. */
// @ts-ignore: decorator
@inline export function scaled<T>(sums: v128, scale: v128): v128 {
  if (wide<T>()) return f32x4.mul(f32x4.convert_i32x4_s(sums), scale);
  return f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(sums, scale));
}
