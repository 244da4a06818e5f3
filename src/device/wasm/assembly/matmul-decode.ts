// Decodes packed weights into codes and scales in registers; the layout is in matmul-layout.ts. Everything here is
// inlined with a type argument T, so only that type's branch remains.
//
// There is one function for each thing that a kernel needs (the codes of a group, the scale of a quad of rows), the
// same for generation, prompts and embeddings. `quad` 0 or 1: rows 0..3 or 4..7 of the panel; `group` 0..7: columns 4 *
// group to 4 * group + 3 of the 32; `sub`: which 32 columns of the block; `half`: which 16 of the 32. As literals they
// become offsets inside load instructions.
import { RELAXED } from "./build";
import {
  IQ4_NL, IQ4_XS, MXFP4, NVFP4, Q2_K, codeBytes, hasBytes, hasFives, hasHalves, hasNibbles, hasPairs, hasSingles, hasSixes, hasTable,
  headBytes, isGrid, isGrid4, isMlx, isSuperblock, isWide, typeOf,
} from "./matmul-layout";

// Constants come from memory: V8 rebuilds a v128 constant at each use, and a load costs nothing next to arithmetic.
const MASKS = memory.data<u32>([
  0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f, 0x0f0f0f0f, // 0: nibbles
  0x01010101, 0x01010101, 0x01010101, 0x01010101, // 16: lowest bits
  0x03030303, 0x03030303, 0x03030303, 0x03030303, // 32: lowest pairs
  0x0fffffff, 0x0fffffff, 0x0fffffff, 0x0fffffff, // 48: exponent and mantissa of a shifted f16
  0x38000000, 0x38000000, 0x38000000, 0x38000000, // 64: 112 in an f32's exponent
  0x38800000, 0x38800000, 0x38800000, 0x38800000, // 80: 113 there: 2^-14
  0x80000000, 0x80000000, 0x80000000, 0x80000000, // 96: sign
  0x1f1f1f1f, 0x1f1f1f1f, 0x1f1f1f1f, 0x1f1f1f1f, // 112: lowest five bits
  0x3f3f3f3f, 0x3f3f3f3f, 0x3f3f3f3f, 0x3f3f3f3f, // 128: lowest six bits
  0x04040404, 0x04040404, 0x04040404, 0x04040404, // 144: third bits
  0xbfad9881, 0xf6eaddcf, 0x26190d01, 0x71594535, // 160: iq4_nl's 16 values, i8 (ggml's kvalues_iq4nl)
  0x13121110, 0x1c181614, 0x0d0e0f10, 0x04080a0c, // 176: twice e2m1's 16 values, plus 16
  0x8fffffff, 0x8fffffff, 0x8fffffff, 0x8fffffff, // 192: sign, exponent and mantissa of a shifted f16
  0xf7f5f3f1, 0xfffdfbf9, 0x07050301, 0x0f0d0b09, // 208: iq3_s
  0xdcd4ccc2, 0xfcf4ece4, 0x1c140c04, 0x3e342c24, // 224: iq3_xxs
  0x002b1908, 0x00d5e7f8, 0, 0, // 240: iq2
  0x000901f9, 0x0007fff7, 0, 0, // 256: iq1
  0xe0e0e0e0, 0xe0e0e0e0, 0xe0e0e0e0, 0xe0e0e0e0, // 272: highest three bits
  0xc0c0c0c0, 0xc0c0c0c0, 0xc0c0c0c0, 0xc0c0c0c0, // 288: highest pairs
  0x20202020, 0x20202020, 0x20202020, 0x20202020, // 304: sixth bits
], 16);
/** The offset from MASKS to the table of the current grid type: one class of code serves several (matmul-types.ts). */
let gridTable: usize = 0;
export const IQ3_S_TABLE: usize = 208;
export const IQ3_XXS_TABLE: usize = 224;
export const IQ2_TABLE: usize = 240;
export const IQ1_TABLE: usize = 256;

export function useTable(table: usize): void {
  gridTable = MASKS + table;
}

/** Codes of 4 rows x 4 columns, u8 (i8 for iq4 and byte types); `planes`: address of the 32 columns' codes. */
// @ts-ignore: decorator
@inline export function codes<T>(planes: usize, quad: usize, group: i32): v128 {
  if (hasFives(typeOf<T>())) return fives(planes + quad * 16, group);
  if (hasSixes(typeOf<T>())) return sixes(planes + quad * 16, group);
  if (hasNibbles(typeOf<T>())) {
    const both = vector(planes + quad * 16, group & 3);
    const low = v128.and(group < 4 ? both : i16x8.shr_u(both, 4), v128.load(MASKS, 0));
    if (typeOf<T>() == IQ4_NL || typeOf<T>() == IQ4_XS) return i8x16.swizzle(v128.load(MASKS, 160), low);
    if (isGrid(typeOf<T>())) return i8x16.swizzle(v128.load(gridTable), low);
    if (typeOf<T>() == MXFP4 || typeOf<T>() == NVFP4) return i8x16.swizzle(v128.load(MASKS, 176), low);
    return low;
  }
  if (hasPairs(typeOf<T>())) {
    const pairs = vector(planes + quad * 16, group >> 2);
    const low = v128.and(shifted(pairs, -2 * (group & 3)), v128.load(MASKS, 32));
    if (!hasSingles(typeOf<T>())) return low;
    const singles = v128.load(planes + quad * 16, 64);
    const three = v128.or(low, v128.and(shifted(singles, 2 - group), v128.load(MASKS, 144)));
    return isGrid(typeOf<T>()) ? i8x16.swizzle(v128.load(gridTable), three) : three;
  }
  return vector(planes + quad * 16, group);
}

// @ts-ignore: decorator
@inline function fives(at: usize, group: i32): v128 {
  if (group < 5) return v128.and(vector(at, group), v128.load(MASKS, 112));
  if (group < 7) {
    const three = v128.and(vector(at, 2 * group - 10), v128.load(MASKS, 272));
    const two = v128.and(vector(at, 2 * group - 9), v128.load(MASKS, 288));
    return v128.or(i16x8.shr_u(three, 5), i16x8.shr_u(two, 3));
  }
  const three = v128.and(vector(at, 4), v128.load(MASKS, 272));
  const fourth = v128.and(vector(at, 1), v128.load(MASKS, 304));
  const fifth = v128.and(vector(at, 3), v128.load(MASKS, 304));
  return v128.or(i16x8.shr_u(three, 5), v128.or(i16x8.shr_u(fourth, 2), i16x8.shr_u(fifth, 1)));
}

// @ts-ignore: decorator
@inline function sixes(at: usize, group: i32): v128 {
  const first = 3 * (group >> 2);
  if ((group & 3) < 3) return v128.and(vector(at, first + (group & 3)), v128.load(MASKS, 128));
  const low = v128.and(vector(at, first), v128.load(MASKS, 288));
  const middle = v128.and(vector(at, first + 1), v128.load(MASKS, 288));
  const high = v128.and(vector(at, first + 2), v128.load(MASKS, 288));
  return i16x8.shr_u(v128.or(i16x8.shr_u(v128.or(i16x8.shr_u(low, 2), middle), 2), high), 2);
}

/** The n-th vector of a quad. Written out because only a literal becomes part of the load instruction. */
// @ts-ignore: decorator
@inline function vector(at: usize, n: i32): v128 {
  if (n == 0) return v128.load(at);
  if (n == 1) return v128.load(at, 32);
  if (n == 2) return v128.load(at, 64);
  if (n == 3) return v128.load(at, 96);
  if (n == 4) return v128.load(at, 128);
  if (n == 5) return v128.load(at, 160);
  if (n == 6) return v128.load(at, 192);
  return v128.load(at, 224);
}

/** Bits shifted up by `by` (down if negative) in 16-bit lanes; a mask must follow. */
// @ts-ignore: decorator
@inline function shifted(x: v128, by: i32): v128 {
  if (by > 0) return i16x8.shl(x, by);
  if (by < 0) return i16x8.shr_u(x, -by);
  return x;
}

/** Codes as i16 of the even (0, 2) or odd (1, 3) columns of a group, 4 rows x 2 columns. */
// @ts-ignore: decorator
@inline export function wideCodes<T>(planes: usize, quad: usize, group: i32, odd: bool): v128 {
  // Byte planes hold the even columns of 4 rows, then the odd ones, which the load widens.
  if (hasBytes(typeOf<T>())) {
    if (odd) return v128.load8x8_s(planes + group * 32 + quad * 16 + 8);
    return v128.load8x8_s(planes + group * 32 + quad * 16);
  }
  const c = codes<T>(planes, quad, group);
  if (hasTable(typeOf<T>())) return i16x8.shr_s(odd ? c : i16x8.shl(c, 8), 8);
  return odd ? i16x8.shr_u(c, 8) : i16x8.shr_u(i16x8.shl(c, 8), 8);
}

/** Sums of pairs of products, i16: activations (a broadcast group) times codes of at most 7 bits. */
// @ts-ignore: decorator
@inline export function narrowProduct(x: v128, codes: v128): v128 {
  if (RELAXED) return i16x8.relaxed_dot_i8x16_i7x16_s(x, codes);
  return x;
}

/** Whether a type's products are of 16-bit numbers: for 8-bit codes, and for all if there is no relaxed SIMD. */
// @ts-ignore: decorator
@inline export function wide<T>(): bool {
  return !RELAXED || isWide(typeOf<T>());
}

/** Address of the codes of 32 columns. */
// @ts-ignore: decorator
@inline export function planesAt<T>(block: usize, sub: i32): usize {
  return block + headBytes(typeOf<T>()) + usize(sub) * codeBytes(typeOf<T>());
}

/** The block's scale of 4 rows, f32x4, to be multiplied by the panel's factor. */
// @ts-ignore: decorator
@inline export function blockScale<T>(block: usize, quad: usize): v128 {
  if (isMlx(typeOf<T>())) return v128.load(block + quad * 16);
  if (typeOf<T>() == MXFP4) return halfPowers(block + quad * 4);
  if (typeOf<T>() == NVFP4) return f32x4.splat(1);
  return shiftedF16x4(block + quad * 8);
}

/** The min of 4 rows, to be added; in K types the unit of the mins. Only for types that have one. */
// @ts-ignore: decorator
@inline export function blockMin<T>(block: usize, quad: usize): v128 {
  if (isMlx(typeOf<T>())) return v128.load(block + 32 + quad * 16);
  const min = shiftedF16x4(block + 16 + quad * 8);
  return isSuperblock(typeOf<T>()) ? f32x4.neg(min) : min; // K types subtract their mins.
}

/**
 * The scale of a half of 32 columns: d times a small integer; both and their product (17 bits) are exact; nvfp4:
 * rounded once.
 */
// @ts-ignore: decorator
@inline export function scaleOf<T>(block: usize, d: v128, sub: usize, half: usize, quad: usize): v128 {
  if (typeOf<T>() == NVFP4) return f32x4.mul(d, e4m3x4(block + (sub * 2 + half) * 8 + quad * 4));
  if (!isSuperblock(typeOf<T>())) return d;
  return f32x4.mul(d, f32x4.convert_i32x4_s(smallScale<T>(block, sub, half, quad)));
}

/** The min of a half of 32 columns, to be added. dMin: from blockMin. */
// @ts-ignore: decorator
@inline export function minOf<T>(block: usize, dMin: v128, sub: usize, half: usize, quad: usize): v128 {
  if (!isSuperblock(typeOf<T>())) return dMin;
  let small: v128;
  if (typeOf<T>() == Q2_K) small = i32x4.shr_u(bytes4(block + 32 + (sub * 2 + half) * 8 + quad * 4), 4);
  else small = bytes4(block + 32 + sub * 16 + 8 + quad * 4);
  return f32x4.mul(dMin, f32x4.convert_i32x4_s(small));
}

// @ts-ignore: decorator
@inline function smallScale<T>(block: usize, sub: usize, half: usize, quad: usize): v128 {
  if (typeOf<T>() == Q2_K) return v128.and(bytes4(block + 32 + (sub * 2 + half) * 8 + quad * 4), i32x4.splat(15));
  if (typeOf<T>() == IQ4_XS || isGrid4(typeOf<T>())) return signedBytes4(block + 16 + sub * 8 + quad * 4);
  if (hasHalves(typeOf<T>())) return signedBytes4(block + 16 + (sub * 2 + half) * 8 + quad * 4);
  return bytes4(block + 32 + sub * 16 + quad * 4);
}

// @ts-ignore: decorator
@inline function bytes4(at: usize): v128 {
  return i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(at)));
}
// @ts-ignore: decorator
@inline function signedBytes4(at: usize): v128 {
  return i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(at)));
}

/** Four packed f16 scales -> f32 times 2^-112: their bits are moved to f32's positions. */
// @ts-ignore: decorator
@inline function shiftedF16x4(at: usize): v128 {
  return v128.and(i32x4.shl(v128.load16x4_s(at), 13), v128.load(MASKS, 192));
}

/**
 * Four f16 -> f32, exact for every finite value. Not by shifting the bits and scaling by 2^112: the many subnormal f16
 * of small weights would be subnormal f32 on the way, and Intel takes 120 cycles for a product with one. Instead the
 * exponent is corrected as an integer (right for normal numbers, too large for others) and as an integer with a
 * subtraction of 2^-14 (right for subnormal numbers, too large for others): the smaller result is right.
 */
// @ts-ignore: decorator
@inline export function f16x4(at: usize): v128 {
  const h = v128.load16x4_s(at);
  const magnitude = v128.and(i32x4.shl(h, 13), v128.load(MASKS, 48));
  const normal = i32x4.add(magnitude, v128.load(MASKS, 64));
  const tiny = v128.load(MASKS, 80);
  const subnormal = f32x4.sub(i32x4.add(magnitude, tiny), tiny);
  return v128.or(f32x4.pmin(normal, subnormal), v128.and(h, v128.load(MASKS, 96)));
}

/** Four unsigned e4m3 -> f32, like f16x4: exponents corrected as integers, subnormal ones by a subtraction. */
// @ts-ignore: decorator
@inline function e4m3x4(at: usize): v128 {
  const magnitude = i32x4.shl(bytes4(at), 20);
  const normal = i32x4.add(magnitude, i32x4.splat(120 << 23));
  const tiny = i32x4.splat(121 << 23);
  return f32x4.pmin(normal, f32x4.sub(i32x4.add(magnitude, tiny), tiny));
}

/** Four exponents e -> 2^(e - 128); 0 and 1 give the corresponding subnormal f32. */
// @ts-ignore: decorator
@inline function halfPowers(at: usize): v128 {
  const e = bytes4(at);
  const one = i32x4.splat(1);
  return i32x4.max_s(i32x4.shl(i32x4.sub(e, one), 23), i32x4.shl(i32x4.add(e, one), 21));
}
