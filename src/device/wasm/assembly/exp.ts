// Vector functions for attention and activations: fused multiply-add if this binary has it, powers of two, tanh. exp2
// returns 0 for results below 2^-48: such softmax weights vanish next to 1 in float32, and none becomes denormal.
import { RELAXED } from "./build";

/** 1.5 * 2^23: added to |x| < 2^22 it leaves round-to-nearest-even(x) in the low bits of the sum. */
export const ROUNDER: f32 = 12582912;
/** The bits of ROUNDER: rounded sum as i32 minus this is the integer. */
export const ROUNDER_BITS: i32 = 0x4b400000;

/** Minimax 2^f for |f| <= 0.5, relative error 7.5e-8 (Remez, own fit), then the cutoff, log2(e) and the rounder. */
const EXP2 = memory.data<f32>([
  1.0000000716546849, 0.6931469670647619, 0.2402211972384002, 0.055507132734962675, 0.009675541334453436,
  0.0013276471993007577, 12582912, -48,
]);
// Constants are loaded, not splatted: V8 of Node 24 rebuilds v128.const at every use (measured on Node 24: 20 to 30 %).
const C_ROUNDER: usize = 24;
const C_CUT: usize = 28;

/** a * b + c, with one rounding in the relaxed binary if the machine fuses. */
// @ts-ignore: decorator
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  return RELAXED ? f32x4.relaxed_madd(a, b, c) : f32x4.add(f32x4.mul(a, b), c);
}

/** 2^x per lane for x < 127; 0 below -48, also for -infinity. */
// @ts-ignore: decorator
@inline
export function exp2(x: v128): v128 {
  const rounder = v128.load32_splat(EXP2, C_ROUNDER);
  const rounded = f32x4.add(x, rounder);
  const f = f32x4.sub(x, f32x4.sub(rounded, rounder));
  let p = madd(v128.load32_splat(EXP2, 20), f, v128.load32_splat(EXP2, 16));
  p = madd(p, f, v128.load32_splat(EXP2, 12));
  p = madd(p, f, v128.load32_splat(EXP2, 8));
  p = madd(p, f, v128.load32_splat(EXP2, 4));
  p = madd(p, f, v128.load32_splat(EXP2, 0));
  p = i32x4.add(p, i32x4.shl(rounded, 23));
  return v128.and(p, f32x4.ge(x, v128.load32_splat(EXP2, C_CUT)));
}

/** 2^x of one number, like exp2. */
export function exp2Scalar(x: f32): f32 {
  return f32x4.extract_lane(exp2(f32x4.splat(x)), 0);
}

/** tanh(x) per lane from exp2; absolute error below 2e-7, exactly -1 and 1 in the tails. */
// @ts-ignore: decorator
@inline
export function tanh(x: v128): v128 {
  const one = f32x4.splat(1);
  // e^(2x), limited to where tanh has long been 1.
  const power = exp2(f32x4.pmin(f32x4.splat(60), f32x4.mul(x, f32x4.splat(2.885390081777927))));
  return f32x4.sub(one, f32x4.div(f32x4.splat(2), f32x4.add(power, one)));
}

/** The largest lane, in every lane. */
// @ts-ignore: decorator
@inline
export function maxLanes(x: v128): v128 {
  const pairs = f32x4.pmax(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1));
  return f32x4.pmax(pairs, v128.shuffle<f32>(pairs, pairs, 1, 0, 3, 2));
}

/** The sum of the lanes, in every lane. */
// @ts-ignore: decorator
@inline
export function sumLanes(x: v128): v128 {
  const pairs = f32x4.add(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1));
  return f32x4.add(pairs, v128.shuffle<f32>(pairs, pairs, 1, 0, 3, 2));
}
