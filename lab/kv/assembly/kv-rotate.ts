// In place of src/device/wasm/assembly/kv-rotate.ts: no rotation at all, to see what it is worth.

// @ts-ignore: decorator
@inline
export function rotationFactor(headDim: i32): f32 {
  return 1;
}

// @ts-ignore: decorator
@inline
export function rotationNorm(headDim: i32): f32 {
  return 1;
}

/** out = x times a factor, [headDim] f32. */
export function flipSigns(x: usize, out: usize, headDim: i32, factor: f32): void {
  const factors = f32x4.splat(factor);
  for (let i: usize = 0; i < usize(headDim) * 4; i += 16) {
    v128.store(out + i, f32x4.mul(v128.load(x + i), factors));
  }
}

export function hadamard(x: usize, headDim: i32): void {}
