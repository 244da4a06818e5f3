// Converts activations to 8-bit codes for integer dot products. The layout of a quantized row (size mirrored in
// ../packing.ts) contains everything that a kernel would otherwise recompute for every panel of weights.
//
// The scale of 32 values is a 14-bit integer times one f32 of the row. So the kernel scales sums of products by an
// integer dot product that it needs anyway, and the row's f32 is applied once, to the finished output.
//
// A row of `cols` (blocks = cols / 32) is
// [unit f32, 60 unused bytes, so that rows do not all begin in the same cache set]
// blocks x [32 bytes of facts below][32 codes i8]
// blocks x [8 groups x (i16 codes 0, 2, 1, 3)]: the same codes for products of 16-bit numbers
// value = unit * s * code, where s is the block's integer scale. An infinity or a NaN in the row becomes the unit, so
// that it appears in every product.

/** Bytes before the blocks, and of one block. */
export const ROW_HEAD: usize = 64;
export const BLOCK: usize = 64;
/** In a block: s twice, i16 (to scale pairs of i16 sums). */
export const SCALE_PAIR: usize = 0;
/** s as f32. */
export const SCALE: usize = 4;
/**
 * -16 * (sums of codes at columns 0, 1 modulo 4; at 2, 3 modulo 4), 2 x i16: the initial value of sums if codes have
 * zero 16.
 */
export const ZERO: usize = 8;
/** The same for each half of 16 columns, times -32. */
export const HALF_ZERO: usize = 12;
/** s * sum of codes, f32, the factor of a min; then for each half. */
export const SUM: usize = 20;
export const HALF_SUM: usize = 24;
export const CODES: usize = 32;

/** 4 x 31496 (the largest sum of unsigned 5-bit codes) times this still fits 31 bits. */
const LARGEST_SCALE: f32 = 16383;
/** The smallest normal f32: a unit below it would have no inverse. */
const SMALLEST_UNIT: f32 = 1.17549435e-38;

/** Bytes of a quantized row. */
export function quantizedBytes(cols: i32): usize {
  return ROW_HEAD + usize(cols / 32) * 2 * BLOCK;
}

/** Rows [first, last) of x [tokens, cols] f32 -> q; cols is a multiple of 32. */
export function quantizeRows(x: usize, q: usize, cols: i32, first: i32, last: i32): void {
  const stride = quantizedBytes(cols);
  const blocks = cols / 32;
  for (let t = first; t < last; t++) {
    const from = x + usize(t) * usize(cols) * 4;
    const row = q + usize(t) * stride;
    const largest = largestMagnitude(from, blocks);
    const unit = max<f32>(largest / (127 * LARGEST_SCALE), SMALLEST_UNIT);
    store<f32>(row, unit);
    let at = row + ROW_HEAD;
    let wide = at + usize(blocks) * BLOCK;
    for (let b = 0; b < blocks; b++, at += BLOCK, wide += BLOCK) {
      quantizeBlock(from + usize(b) * 128, at, wide, unit);
    }
  }
}

function quantizeBlock(x: usize, at: usize, wide: usize, unit: f32): void {
  // A NaN has no integer part.
  const ratio = largestMagnitude(x, 1) / (127 * unit);
  const scale = min<f32>(max<f32>(Mathf.ceil(ratio == ratio ? ratio : 0), 1), LARGEST_SCALE);
  const inverse = f32x4.splat(1 / (scale * unit));
  const a = sixteenCodes(x, inverse);
  const b = sixteenCodes(x + 64, inverse);
  v128.store(at, a, CODES);
  v128.store(at, b, CODES + 16);
  storeWide(wide, a);
  storeWide(wide + 32, b);
  const sumsA = columnSums(a);
  const sumsB = columnSums(b);
  const sumA = f32(lane(sumsA, 0) + lane(sumsA, 1));
  const sumB = f32(lane(sumsB, 0) + lane(sumsB, 1));
  const s = <i32>scale;
  store<i32>(at, s | (s << 16), SCALE_PAIR);
  store<f32>(at, scale, SCALE);
  store<i32>(at, pair(sumsA, -32), HALF_ZERO);
  store<i32>(at, pair(sumsB, -32), HALF_ZERO + 4);
  store<i32>(at, pair(i32x4.add(sumsA, sumsB), -16), ZERO);
  store<f32>(at, scale * (sumA + sumB), SUM);
  store<f32>(at, scale * sumA, HALF_SUM);
  store<f32>(at, scale * sumB, HALF_SUM + 4);
}

/** Sixteen f32 -> rounded i8, at most 127 in magnitude because the scale was rounded up. */
// @ts-ignore: decorator
@inline function sixteenCodes(x: usize, inverse: v128): v128 {
  return i8x16.narrow_i16x8_s(
    i16x8.narrow_i32x4_s(rounded(v128.load(x), inverse), rounded(v128.load(x, 16), inverse)),
    i16x8.narrow_i32x4_s(rounded(v128.load(x, 32), inverse), rounded(v128.load(x, 48), inverse)),
  );
}

// @ts-ignore: decorator
@inline function rounded(x: v128, inverse: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(x, inverse)));
}

/**
 * Codes as i16, in each group of four the even ones first: the order that results from shifting out the even and odd
 * bytes of weights.
 */
// @ts-ignore: decorator
@inline function storeWide(at: usize, c: v128): void {
  const even = i16x8.shr_s(i16x8.shl(c, 8), 8);
  const odd = i16x8.shr_s(c, 8);
  v128.store(at, v128.shuffle<i32>(even, odd, 0, 4, 1, 5));
  v128.store(at, v128.shuffle<i32>(even, odd, 2, 6, 3, 7), 16);
}

/** Lane 0: sum of the codes at columns 0, 1 modulo 4; lane 1: of those at 2, 3 modulo 4. */
// @ts-ignore: decorator
@inline function columnSums(c: v128): v128 {
  const pairs = i16x8.extadd_pairwise_i8x16_s(c); // lanes (0,1)(2,3)(4,5)(6,7)...
  const low = i32x4.extend_low_i16x8_s(pairs);
  const sums = i32x4.add(low, i32x4.extend_high_i16x8_s(pairs));
  return i32x4.add(sums, v128.shuffle<i32>(sums, sums, 2, 3, 0, 1));
}

// @ts-ignore: decorator
@inline function lane(x: v128, i: u8): i32 {
  return i == 0 ? i32x4.extract_lane(x, 0) : i32x4.extract_lane(x, 1);
}

/** Two lanes times `by`, as two i16 in a word. */
// @ts-ignore: decorator
@inline function pair(x: v128, by: i32): i32 {
  return ((lane(x, 0) * by) & 0xffff) | ((lane(x, 1) * by) << 16);
}

/** The bits of magnitudes are ordered like the magnitudes, infinity and NaN last. */
function largestMagnitude(x: usize, blocks: i32): f32 {
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  for (let n = 0; n < blocks; n++, x += 128) {
    for (let i: usize = 0; i < 128; i += 32) {
      a = i32x4.max_s(a, f32x4.abs(v128.load(x + i)));
      b = i32x4.max_s(b, f32x4.abs(v128.load(x + i, 16)));
    }
  }
  a = i32x4.max_s(a, b);
  a = i32x4.max_s(a, v128.shuffle<i32>(a, a, 2, 3, 0, 1));
  return reinterpret<f32>(max(i32x4.extract_lane(a, 0), i32x4.extract_lane(a, 1)));
}
