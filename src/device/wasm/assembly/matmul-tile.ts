// Several tokens: an unpacked slice of a panel times a chunk of a prompt. Owns the tile of 8 rows x 4 tokens.
//
// One idea: eight sums of 16 bits stay in registers; a step is two vectors of codes, four broadcast groups of
// activations, eight products, eight sums. Scaling happens once in 32 columns.
import { hasHalves, hasMin, typeOf } from "./matmul-layout";
import { madd, narrowProduct, wide } from "./matmul-decode";
import { scaleBytes, stepBytes } from "./matmul-unpack";
import { BLOCK, CODES, HALF_SUM, HALF_ZERO, SCALE, SCALE_PAIR, SUM, ZERO } from "./quantize";

/**
 * sums [4, 8] f32 += an unpacked slice of `cols` columns, 8 rows times 4 tokens, in units of the tokens' rows. x0..x3:
 * the tokens' blocks; wideOffset: from there to their i16 codes. T stands for all types of its kind (wide, halves, min).
 */
export function tile<T>(
  sums: usize, w: usize, cols: i32, x0: usize, x1: usize, x2: usize, x3: usize, wideOffset: usize,
): void {
  const codeOffset = wide<T>() ? wideOffset : CODES;
  for (let left = cols; left > 0; left -= 32) {
    for (let half: usize = 0; half < (hasHalves(typeOf<T>()) ? 2 : 1); half++) {
      let a0 = begin<T>(x0, half), b0 = a0;
      let a1 = begin<T>(x1, half), b1 = a1;
      let a2 = begin<T>(x2, half), b2 = a2;
      let a3 = begin<T>(x3, half), b3 = a3;
      let c0 = x0 + codeOffset + half * codesOfHalf<T>();
      let c1 = x1 + codeOffset + half * codesOfHalf<T>();
      let c2 = x2 + codeOffset + half * codesOfHalf<T>();
      let c3 = x3 + codeOffset + half * codesOfHalf<T>();
      const end = w + stepBytes<T>();
      for (; w < end; w += 32) {
        const wa = v128.load(w);
        const wb = v128.load(w, 16);
        let x = v128.load32_splat(c0);
        a0 = step<T>(a0, x, wa);
        b0 = step<T>(b0, x, wb);
        x = v128.load32_splat(c1);
        a1 = step<T>(a1, x, wa);
        b1 = step<T>(b1, x, wb);
        x = v128.load32_splat(c2);
        a2 = step<T>(a2, x, wa);
        b2 = step<T>(b2, x, wb);
        x = v128.load32_splat(c3);
        a3 = step<T>(a3, x, wa);
        b3 = step<T>(b3, x, wb);
        c0 += 4;
        c1 += 4;
        c2 += 4;
        c3 += 4;
      }
      const scales = hasHalves(typeOf<T>()) && half == 0 ? w + stepBytes<T>() : w + half * 32;
      const sa = v128.load(scales);
      const sb = v128.load(scales, 16);
      addScaled<T>(sums, x0, a0, b0, sa, sb);
      addScaled<T>(sums + 32, x1, a1, b1, sa, sb);
      addScaled<T>(sums + 64, x2, a2, b2, sa, sb);
      addScaled<T>(sums + 96, x3, a3, b3, sa, sb);
      if (hasMin(typeOf<T>())) {
        const mins = scales + (hasHalves(typeOf<T>()) ? 64 : 32);
        const ma = v128.load(mins);
        const mb = v128.load(mins, 16);
        addMin<T>(sums, x0, half, ma, mb);
        addMin<T>(sums + 32, x1, half, ma, mb);
        addMin<T>(sums + 64, x2, half, ma, mb);
        addMin<T>(sums + 96, x3, half, ma, mb);
      }
    }
    w += scaleBytes<T>();
    x0 += BLOCK;
    x1 += BLOCK;
    x2 += BLOCK;
    x3 += BLOCK;
  }
}

/** Bytes of activation codes of 16 columns. */
// @ts-ignore: decorator
@inline function codesOfHalf<T>(): usize {
  return wide<T>() ? 32 : 16;
}

// @ts-ignore: decorator
@inline function begin<T>(x: usize, half: usize): v128 {
  if (wide<T>()) return i64x2.splat(0);
  if (hasHalves(typeOf<T>())) return v128.load32_splat(x + half * 4, HALF_ZERO);
  return v128.load32_splat(x, ZERO);
}

// @ts-ignore: decorator
@inline function step<T>(sums: v128, x: v128, w: v128): v128 {
  if (wide<T>()) return i32x4.add(sums, i32x4.dot_i16x8_s(w, x));
  return i16x8.add(sums, narrowProduct(x, w));
}

// @ts-ignore: decorator
@inline function addScaled<T>(sums: usize, x: usize, a: v128, b: v128, sa: v128, sb: v128): void {
  v128.store(sums, madd(scaled<T>(a, x), sa, v128.load(sums)));
  v128.store(sums, madd(scaled<T>(b, x), sb, v128.load(sums, 16)), 16);
}

/** Integer sums times the activation's integer scale. */
// @ts-ignore: decorator
@inline function scaled<T>(a: v128, x: usize): v128 {
  if (wide<T>()) return f32x4.mul(f32x4.convert_i32x4_s(a), v128.load32_splat(x, SCALE));
  return f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(a, v128.load32_splat(x, SCALE_PAIR)));
}

// @ts-ignore: decorator
@inline function addMin<T>(sums: usize, x: usize, half: usize, ma: v128, mb: v128): void {
  const sum = hasHalves(typeOf<T>()) ? v128.load32_splat(x + half * 4, HALF_SUM) : v128.load32_splat(x, SUM);
  v128.store(sums, madd(sum, ma, v128.load(sums)));
  v128.store(sums, madd(sum, mb, v128.load(sums, 16)), 16);
}
