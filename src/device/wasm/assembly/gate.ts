// Gated activations: out = f(gate) * up, element by element, or one gate value for several columns of up.
import { GELU_TANH, SIGMOID, SILU, SWIGLU_OAI } from "./abi/records";
import { exp2, madd, tanh } from "./exp";

const LOG2_E: f32 = 1.4426950408889634;

/** 1 + e^(-slope x). */
// @ts-ignore: decorator
@inline function onePlusPower(x: v128, slope: f32): v128 {
  const power = exp2(f32x4.pmin(f32x4.splat(126), f32x4.mul(x, f32x4.splat(-slope * LOG2_E))));
  return f32x4.add(f32x4.splat(1), power);
}

/** x / (1 + e^-x) */
// @ts-ignore: decorator
@inline export function silu(x: v128): v128 { return f32x4.div(x, onePlusPower(x, 1)); }

/** f(x). limit: for the clamped gate. */
// @ts-ignore: decorator
@inline function activated(activation: i32, x: v128, limit: f32): v128 {
  if (activation == SILU) return silu(x);
  // exp2 would lose a NaN.
  if (activation == SIGMOID) return v128.or(f32x4.div(f32x4.splat(1), onePlusPower(x, 1)), f32x4.ne(x, x));
  if (activation == SWIGLU_OAI) {
    const clamped = f32x4.pmin(x, f32x4.splat(limit));
    return f32x4.div(clamped, onePlusPower(clamped, 1.702));
  }
  // The tanh form of GELU; 0.797... is sqrt(2 / pi).
  const cubic = f32x4.mul(f32x4.splat(0.044715), f32x4.mul(x, x));
  const inner = f32x4.mul(f32x4.splat(0.7978845608028654), madd(cubic, x, x));
  return f32x4.mul(f32x4.mul(f32x4.splat(0.5), x), f32x4.add(f32x4.splat(1), tanh(inner)));
}

/** The factor of f(gate). */
// @ts-ignore: decorator
@inline function other(activation: i32, up: v128, limit: f32): v128 {
  if (activation != SWIGLU_OAI) return up;
  const clamped = f32x4.pmax(f32x4.pmin(up, f32x4.splat(limit)), f32x4.splat(-limit));
  return f32x4.add(clamped, f32x4.splat(1));
}

/** `count` elements. */
// @ts-ignore: decorator
@inline function elements(activation: i32, out: usize, gate: usize, up: usize, count: i32, limit: f32): void {
  for (let i: usize = 0; i < usize(count) * 4; i += 16) {
    const f = activated(activation, v128.load(gate + i), limit);
    v128.store(out + i, f32x4.mul(f, other(activation, v128.load(up + i), limit)));
  }
}

/** `count` gate values, `width` columns each. */
// @ts-ignore: decorator
@inline function spread(
  activation: i32, out: usize, gate: usize, up: usize, count: i32, width: i32, limit: f32,
): void {
  const bytes = usize(width) * 4;
  for (let n: usize = 0; n < usize(count); n++, out += bytes, up += bytes) {
    const f = activated(activation, v128.load32_splat(gate + n * 4), limit);
    let i: usize = 0;
    for (; i + 16 <= bytes; i += 16) v128.store(out + i, f32x4.mul(f, other(activation, v128.load(up + i), limit)));
    for (; i < bytes; i += 4) {
      v128.store32_lane(out + i, f32x4.mul(f, other(activation, v128.load32_splat(up + i), limit)), 0);
    }
  }
}

// @ts-ignore: decorator
@inline function either(
  activation: i32, out: usize, gate: usize, up: usize, count: i32, width: i32, limit: f32,
): void {
  if (width == 1) elements(activation, out, gate, up, count, limit);
  else spread(activation, out, gate, up, count, width, limit);
}

/**
 * out, up: `count` times `width` f32; gate: `count`. With a width of 1 up to three additional elements are computed:
 * values start at multiples of 256 bytes, and threads' shares are multiples of 16 elements.
 */
export function gated(
  activation: i32, out: usize, gate: usize, up: usize, count: i32, width: i32, limit: f32,
): void {
  if (activation == SILU) either(SILU, out, gate, up, count, width, limit);
  else if (activation == GELU_TANH) either(GELU_TANH, out, gate, up, count, width, limit);
  else if (activation == SIGMOID) either(SIGMOID, out, gate, up, count, width, limit);
  else either(SWIGLU_OAI, out, gate, up, count, width, limit);
}
