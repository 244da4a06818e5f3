// The rotation of rq4 (host side and definition: ../../rotation.ts): the Walsh-Hadamard matrix on blocks of a head
// vector and its sign diagonal, in place. Two strides are done in one pass, so that a vector of 128 dims is read and
// written four times instead of seven.

// Signs of the second and fourth, and of the third and fourth lane. Loaded, because V8 rebuilds constants at each use.
const SIGNS = memory.data<u32>([0, 0x80000000, 0, 0x80000000, 0, 0, 0x80000000, 0x80000000]);

/** Adjacent dims that are mixed: the largest power of two that divides headDim, a multiple of 16. */
// @ts-ignore: decorator
@inline
function rotationBlock(headDim: i32): i32 {
  return headDim & -headDim;
}

/** 2^-floor(log2(block) / 2). */
// @ts-ignore: decorator
@inline
export function rotationFactor(headDim: i32): f32 {
  return reinterpret<f32>((127 - ctz(headDim) / 2) << 23);
}

/** block * factor: applying H D to x and then R transposed gives x times this. */
// @ts-ignore: decorator
@inline
export function rotationNorm(headDim: i32): f32 {
  return f32(rotationBlock(headDim)) * rotationFactor(headDim);
}

/** The sign bits that D flips in the dims of four lanes. */
// @ts-ignore: decorator
@inline
function turned(dims: v128): v128 {
  const hash = i32x4.mul(i32x4.add(dims, i32x4.splat(0x51ed)), i32x4.splat(0x9e3779b1));
  const mixed = i32x4.mul(v128.xor(hash, i32x4.shr_u(hash, 16)), i32x4.splat(0x85ebca6b));
  return v128.and(mixed, i32x4.splat(0x80000000));
}

/** out = D x times a factor, [headDim] f32. */
export function flipSigns(x: usize, out: usize, headDim: i32, factor: f32): void {
  const factors = f32x4.splat(factor);
  let dims = i32x4(0, 1, 2, 3);
  for (let i: usize = 0; i < usize(headDim) * 4; i += 16) {
    v128.store(out + i, v128.xor(f32x4.mul(v128.load(x + i), factors), turned(dims)));
    dims = i32x4.add(dims, i32x4.splat(4));
  }
}

/** x = H x on each block, [headDim] f32. */
export function hadamard(x: usize, headDim: i32): void {
  const bytes = usize(rotationBlock(headDim)) * 4;
  const end = x + usize(headDim) * 4;
  const odd = v128.load(SIGNS);
  const upper = v128.load(SIGNS, 16);
  for (let at = x; at < end; at += 16) {
    let four = v128.load(at);
    four = f32x4.add(v128.shuffle<f32>(four, four, 1, 0, 3, 2), v128.xor(four, odd));
    four = f32x4.add(v128.shuffle<f32>(four, four, 2, 3, 0, 1), v128.xor(four, upper));
    v128.store(at, four);
  }
  let stride: usize = 16;
  for (; stride * 4 <= bytes; stride *= 4) {
    for (let block = x; block < end; block += stride * 4) {
      for (let at = block; at < block + stride; at += 16) {
        const a = v128.load(at);
        const b = v128.load(at + stride);
        const c = v128.load(at + 2 * stride);
        const d = v128.load(at + 3 * stride);
        const ab = f32x4.add(a, b);
        const cd = f32x4.add(c, d);
        const aMinusB = f32x4.sub(a, b);
        const cMinusD = f32x4.sub(c, d);
        v128.store(at, f32x4.add(ab, cd));
        v128.store(at + stride, f32x4.add(aMinusB, cMinusD));
        v128.store(at + 2 * stride, f32x4.sub(ab, cd));
        v128.store(at + 3 * stride, f32x4.sub(aMinusB, cMinusD));
      }
    }
  }
  if (stride * 2 > bytes) return;
  for (let block = x; block < end; block += stride * 2) {
    for (let at = block; at < block + stride; at += 16) {
      const a = v128.load(at);
      const b = v128.load(at + stride);
      v128.store(at, f32x4.add(a, b));
      v128.store(at + stride, f32x4.sub(a, b));
    }
  }
}
