// Four float16 numbers at a time, to and from float32, in plain SIMD128. Reading moves the bits into place and leaves
// the exponent 112 too small: "tiny" floats, value * 2^-112. The factor 2^112 is included in whatever the numbers are
// multiplied with.

/** 2^112: the factor that tiny floats need. */
export const TINY: f32 = 5.192296858534828e33;
/** 65504, the largest finite float16: larger values are clamped, so that no cache holds an infinity. NaN stays NaN. */
const LARGEST: f32 = 65504;

/** The float16 in the low half of each 32-bit lane, as tiny floats. */
// @ts-ignore: decorator
@inline
export function tinyLow(pairs: v128): v128 {
  return tinyHigh(i32x4.shl(pairs, 16));
}

/** The float16 in the high half of each 32-bit lane, as tiny floats. */
// @ts-ignore: decorator
@inline
export function tinyHigh(pairs: v128): v128 {
  return v128.and(i32x4.shr_s(pairs, 3), i32x4.splat(0x8fffe000));
}

/** float32 lanes to float16 bits in the low half of each lane, to nearest even, clamped to +-65504, NaN kept. */
// @ts-ignore: decorator
@inline
export function halfBits(x: v128): v128 {
  const sign = v128.and(i32x4.shr_u(x, 16), i32x4.splat(0x8000));
  const magnitude = f32x4.pmin(f32x4.splat(LARGEST), f32x4.abs(x));
  // Normal: subtract 112 from the exponent, then drop 13 bits, half-way cases to even.
  const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
  const biased = i32x4.add(i32x4.add(magnitude, i32x4.splat(0xfff - (112 << 23))), odd);
  // Subnormal (below 2^-14): added to 0.5, a float32 counts in steps of 2^-24, the float16 step.
  const stepped = i32x4.sub(f32x4.add(magnitude, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
  const small = f32x4.lt(magnitude, f32x4.splat(6.103515625e-5));
  const nan = v128.and(f32x4.ne(x, x), i32x4.splat(0x7e00));
  return v128.or(v128.or(sign, nan), v128.bitselect(stepped, i32x4.shr_u(biased, 13), small));
}

/** float16 bits in the low half of each lane to true float32. */
// @ts-ignore: decorator
@inline
export function halfValue(bits: v128): v128 {
  return f32x4.mul(tinyLow(bits), f32x4.splat(TINY));
}
