// The small operations: norms, RoPE, slices, sums, factors, softcap. Each works on one thread's range, chosen by its
// caller; defined in device/reference/ops.ts. Sizes are multiples of 4 (head sizes are multiples of 16).
import { madd, sumLanes, tanh } from "./exp";

/** x, out: `count` vectors of `size`; weight [size] f32 or 0. */
export function rmsNorm(out: usize, x: usize, weight: usize, size: i32, epsilon: f32, count: i32): void {
  const bytes = usize(size) * 4;
  for (let n = 0; n < count; n++) {
    let sums = f32x4.splat(0);
    let more = f32x4.splat(0);
    let i: usize = 0;
    for (; i + 32 <= bytes; i += 32) {
      const a = v128.load(x + i);
      const b = v128.load(x + i, 16);
      sums = madd(a, a, sums);
      more = madd(b, b, more);
    }
    for (; i < bytes; i += 16) {
      const a = v128.load(x + i);
      sums = madd(a, a, sums);
    }
    const sum = f32x4.extract_lane(sumLanes(f32x4.add(sums, more)), 0);
    const inverse = f32x4.splat(1 / Mathf.sqrt(sum / f32(size) + epsilon));
    for (i = 0; i < bytes; i += 16) {
      let y = f32x4.mul(v128.load(x + i), inverse);
      if (weight != 0) y = f32x4.mul(y, v128.load(weight + i));
      v128.store(out + i, y);
    }
    x += bytes;
    out += bytes;
  }
}

/**
 * x, out: `tokens` rows of [heads, headDim]; turns: [tokens, 2, pairs] f32, cosines then sines, computed by the host in
 * float64. Pairs are (i, i + pairs); dims from 2 * pairs on are copied.
 */
export function rope(
  out: usize,
  x: usize,
  turns: usize,
  heads: i32,
  headDim: i32,
  pairs: i32,
  tokens: i32,
): void {
  const half = usize(pairs) * 4;
  const whole = usize(headDim) * 4;
  for (let t = 0; t < tokens; t++, turns += half * 2) {
    for (let h = 0; h < heads; h++, x += whole, out += whole) {
      let i: usize = 0;
      for (; i + 16 <= half; i += 16) {
        const cos = v128.load(turns + i);
        const sin = v128.load(turns + half + i);
        const a = v128.load(x + i);
        const b = v128.load(x + half + i);
        v128.store(out + i, f32x4.sub(f32x4.mul(a, cos), f32x4.mul(b, sin)));
        v128.store(out + half + i, f32x4.add(f32x4.mul(b, cos), f32x4.mul(a, sin)));
      }
      for (; i < half; i += 4) {
        const cos = load<f32>(turns + i);
        const sin = load<f32>(turns + half + i);
        const a = load<f32>(x + i);
        const b = load<f32>(x + half + i);
        store<f32>(out + i, a * cos - b * sin);
        store<f32>(out + half + i, b * cos + a * sin);
      }
      if (out != x && half * 2 < whole) memory.copy(out + half * 2, x + half * 2, whole - half * 2);
    }
  }
}

export function add(out: usize, a: usize, b: usize, count: i32): void {
  for (let i: usize = 0; i < usize(count) * 4; i += 16)
    v128.store(out + i, f32x4.add(v128.load(a + i), v128.load(b + i)));
}

/** out = x * factor. */
export function scale(out: usize, x: usize, factor: f32, count: i32): void {
  const factors = f32x4.splat(factor);
  for (let i: usize = 0; i < usize(count) * 4; i += 16) v128.store(out + i, f32x4.mul(v128.load(x + i), factors));
}

/** Copies columns: x has `count` vectors of `width`, out the same number of `size`, each from x's first column on. */
export function slice(out: usize, x: usize, size: i32, width: i32, count: i32): void {
  const bytes = usize(size) * 4;
  for (let n = 0; n < count; n++, out += bytes, x += usize(width) * 4) {
    let i: usize = 0;
    for (; i + 16 <= bytes; i += 16) v128.store(out + i, v128.load(x + i));
    for (; i < bytes; i += 4) store<f32>(out + i, load<f32>(x + i));
  }
}

/**
 * x: `count` vectors of headDim; out: for each, the first dims of the `turning` rotary pairs (i, i + pairs), then the
 * second ones, and with a weight [headDim] all dims times it, with 0 for the rotary ones.
 */
export function takeTurned(
  out: usize, x: usize, weight: usize, headDim: i32, pairs: i32, turning: i32, count: i32,
): void {
  const half = usize(turning) * 4;
  const second = usize(pairs) * 4;
  for (let n = 0; n < count; n++, x += usize(headDim) * 4) {
    memory.copy(out, x, half);
    memory.copy(out + half, x + second, half);
    out += 2 * half;
    if (weight == 0) continue;
    for (let i: usize = 0; i < usize(headDim) * 4; i += 16)
      v128.store(out + i, f32x4.mul(v128.load(x + i), v128.load(weight + i)));
    memory.fill(out, 0, half);
    memory.fill(out + second, 0, half);
    out += usize(headDim) * 4;
  }
}

/** out = cap * tanh(x / cap). */
export function softcap(out: usize, x: usize, cap: f32, count: i32): void {
  const caps = f32x4.splat(cap);
  const inverse = f32x4.splat(1 / cap);
  for (let i: usize = 0; i < usize(count) * 4; i += 16)
    v128.store(out + i, f32x4.mul(caps, tanh(f32x4.mul(v128.load(x + i), inverse))));
}
