// One token: a panel of packed weights times a quantized activation, codes decoded on the way. This is the inner loop
// of generation, which should take no longer than reading the weights. The plainest form of it, for types with small
// scales whose codes are multiplied as 16-bit numbers, and nvfp4; the common types have matmul-quads.ts and, with
// relaxed SIMD, matmul-super.ts.
//
// The product of a group's codes (4 rows x 4 columns) and the broadcast 4 activations leaves row r's sums in lanes 2r
// and 2r + 1 of i16; eight such products (four, if codes have 6 bits) fit 16 bits if the sums begin at -zero * (sum of
// activations). One more integer product, with the activation's integer scale, makes them i32.
import { madd } from "./exp";
import {
  blockMin, blockScale, codes, minOf, narrowProduct, planesAt, scaleOf, wide, wideCodes,
} from "./matmul-decode";
import {
  PANEL_HEAD, blockBytes, blockCols, hasHalves, hasMin, typeOf, zero,
} from "./matmul-layout";
import { BLOCK, CODES, HALF_SUM, HALF_ZERO, SCALE, SCALE_PAIR, SUM, ZERO } from "./quantize";

/** Bytes of a panel's sums [4, 8]: for up to 4 tokens (matmul-few.ts). */
export const PANEL_SUMS: usize = 128;

/**
 * sums [2, 4, 8] f32; the first 8 of each panel are written: the products of panels a and b (which may be the same), to
 * be multiplied by the activation row's unit. x: the row's blocks, followed by those of its i16 codes; cols: columns.
 *
 * Two panels at once, far apart in memory, because the hardware's prefetcher runs only so far ahead of one address:
 * with one, the times to read and to compute added up. q4_0 6.8 -> 10.3 GB/s per thread, of 12 that a plain loop reads
 * (Xeon, Node 20, 2026-11-23; lab/LOG.md).
 */
export function vectorPanels<T>(sums: usize, a: usize, b: usize, x: usize, cols: i32): void {
  const wide = usize(cols / 32) * BLOCK;
  const end = x + wide;
  let w = a + PANEL_HEAD;
  let v = b + PANEL_HEAD;
  let y0 = f32x4.splat(0), y1 = f32x4.splat(0);
  let z0 = f32x4.splat(0), z1 = f32x4.splat(0);
  while (x < end) {
    const d0 = blockScale<T>(w, 0), d1 = blockScale<T>(w, 1);
    const e0 = blockScale<T>(v, 0), e1 = blockScale<T>(v, 1);
    const m0 = minOrNone<T>(w, 0), m1 = minOrNone<T>(w, 1);
    const n0 = minOrNone<T>(v, 0), n1 = minOrNone<T>(v, 1);
    let sub = 0;
    do {
      // The breaks are never taken; see matmul-tile.ts.
      y0 = addColumns<T>(y0, w, d0, m0, sub, 0, x, x + wide);
      if (w == 1) break;
      y1 = addColumns<T>(y1, w, d1, m1, sub, 1, x, x + wide);
      if (w == 2) break;
      z0 = addColumns<T>(z0, v, e0, n0, sub, 0, x, x + wide);
      if (w == 3) break;
      z1 = addColumns<T>(z1, v, e1, n1, sub, 1, x, x + wide);
      x += BLOCK;
    } while (++sub < blockCols(typeOf<T>()) / 32);
    w += blockBytes(typeOf<T>());
    v += blockBytes(typeOf<T>());
  }
  storeSums(sums, a, b, y0, y1, z0, z1);
}

/** Stores two panels' sums of 8 rows, times the factors that panels a and b begin with. */
// @ts-ignore: decorator
@inline export function storeSums(sums: usize, a: usize, b: usize, y0: v128, y1: v128, z0: v128, z1: v128): void {
  const factor = v128.load32_splat(a);
  v128.store(sums, f32x4.mul(y0, factor));
  v128.store(sums, f32x4.mul(y1, factor), 16);
  const other = v128.load32_splat(b);
  v128.store(sums, f32x4.mul(z0, other), PANEL_SUMS);
  v128.store(sums, f32x4.mul(z1, other), PANEL_SUMS + 16);
}

// @ts-ignore: decorator
@inline function minOrNone<T>(block: usize, quad: usize): v128 {
  return hasMin(typeOf<T>()) ? blockMin<T>(block, quad) : f32x4.splat(0);
}

/** y plus the part of 32 columns, for 4 rows. */
// @ts-ignore: decorator
@inline function addColumns<T>(
  y: v128, block: usize, d: v128, dMin: v128, sub: i32, quad: usize, x: usize, wideX: usize,
): v128 {
  const planes = planesAt<T>(block, sub);
  if (hasHalves(typeOf<T>())) {
    y = madd(sum<T>(planes, quad, 0, 4, x, wideX), scaleOf<T>(block, d, sub, 0, quad), y);
    y = madd(sum<T>(planes, quad, 4, 8, x, wideX), scaleOf<T>(block, d, sub, 1, quad), y);
    if (hasMin(typeOf<T>())) {
      y = madd(v128.load32_splat(x, HALF_SUM), minOf<T>(block, dMin, sub, 0, quad), y);
      y = madd(v128.load32_splat(x, HALF_SUM + 4), minOf<T>(block, dMin, sub, 1, quad), y);
    }
    return y;
  }
  y = madd(sum<T>(planes, quad, 0, 8, x, wideX), scaleOf<T>(block, d, sub, 0, quad), y);
  if (hasMin(typeOf<T>())) y = madd(v128.load32_splat(x, SUM), minOf<T>(block, dMin, sub, 0, quad), y);
  return y;
}

/** Sum over groups [from, to) of (code - zero) * activation, in f32 and units of the activation's row; 4 rows. */
// @ts-ignore: decorator
@inline function sum<T>(planes: usize, quad: usize, from: i32, to: i32, x: usize, wideX: usize): v128 {
  if (wide<T>()) {
    let sums = wideGroups<T>(beginWide<T>(x, from, to), planes, quad, from, wideX);
    if (to - from == 8) sums = wideGroups<T>(sums, planes, quad, from + 4, wideX);
    return f32x4.mul(f32x4.convert_i32x4_s(sums), v128.load32_splat(x, SCALE));
  }
  // Only halves (nvfp4) come here with codes of 7 bits.
  const sums = narrowGroups<T>(begin<T>(x, from, to), planes, quad, from, x);
  return f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(sums, v128.load32_splat(x, SCALE_PAIR)));
}

/** The initial value of i16 sums: minus zero times the activations' sums, from the block's facts. */
// @ts-ignore: decorator
@inline export function begin<T>(x: usize, from: i32, to: i32): v128 {
  if (zero(typeOf<T>()) == 0) return i64x2.splat(0);
  if (to - from == 4) {
    const sums = v128.load32_splat(x + (from == 0 ? 0 : 4), HALF_ZERO);
    if (zero(typeOf<T>()) == 4) return i16x8.shr_s(sums, 3);
    return zero(typeOf<T>()) == 16 ? i16x8.shr_s(sums, 1) : sums;
  }
  const sums = v128.load32_splat(x, ZERO);
  if (zero(typeOf<T>()) == 1) return i16x8.shr_s(sums, 4);
  return zero(typeOf<T>()) == 8 ? i16x8.shr_s(sums, 1) : sums;
}

/** The same for i32 sums. */
// @ts-ignore: decorator
@inline export function beginWide<T>(x: usize, from: i32, to: i32): v128 {
  if (zero(typeOf<T>()) == 0) return i64x2.splat(0);
  if (zero(typeOf<T>()) > 0) return i32x4.extadd_pairwise_i16x8_s(begin<T>(x, from, to));
  return i32x4.neg(i32x4.shl(i32x4.extadd_pairwise_i16x8_s(v128.load32_splat(x, ZERO)), 3));
}

/**
 * sums plus products of four groups from group `from` on. Offsets are literals: only those become part of the load
 * itself.
 */
// @ts-ignore: decorator
@inline function narrowGroups<T>(sums: v128, planes: usize, quad: usize, from: i32, x: usize): v128 {
  const at = x + CODES + from * 4;
  sums = i16x8.add(sums, narrowProduct(v128.load32_splat(at), codes<T>(planes, quad, from)));
  sums = i16x8.add(sums, narrowProduct(v128.load32_splat(at, 4), codes<T>(planes, quad, from + 1)));
  sums = i16x8.add(sums, narrowProduct(v128.load32_splat(at, 8), codes<T>(planes, quad, from + 2)));
  return i16x8.add(sums, narrowProduct(v128.load32_splat(at, 12), codes<T>(planes, quad, from + 3)));
}

/** The same as 16-bit numbers: even columns, then odd ones. */
// @ts-ignore: decorator
@inline function wideGroups<T>(sums: v128, planes: usize, quad: usize, from: i32, wideX: usize): v128 {
  const at = wideX + from * 8;
  sums = addWide(sums, v128.load32_splat(at), wideCodes<T>(planes, quad, from, false));
  sums = addWide(sums, v128.load32_splat(at, 4), wideCodes<T>(planes, quad, from, true));
  sums = addWide(sums, v128.load32_splat(at, 8), wideCodes<T>(planes, quad, from + 1, false));
  sums = addWide(sums, v128.load32_splat(at, 12), wideCodes<T>(planes, quad, from + 1, true));
  sums = addWide(sums, v128.load32_splat(at, 16), wideCodes<T>(planes, quad, from + 2, false));
  sums = addWide(sums, v128.load32_splat(at, 20), wideCodes<T>(planes, quad, from + 2, true));
  sums = addWide(sums, v128.load32_splat(at, 24), wideCodes<T>(planes, quad, from + 3, false));
  return addWide(sums, v128.load32_splat(at, 28), wideCodes<T>(planes, quad, from + 3, true));
}

// @ts-ignore: decorator
@inline function addWide(sums: v128, x: v128, w: v128): v128 {
  return i32x4.add(sums, i32x4.dot_i16x8_s(w, x));
}
