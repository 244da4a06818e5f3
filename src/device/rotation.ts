/**
 * The rotation of the `rq4` cache format, used by its codec and the devices: R = 2^-h H D on blocks of a head vector. D
 * flips the signs of fixed dims, H is the Walsh-Hadamard matrix (entries +-1, natural order), blocks are the largest
 * power of two that divides the head size (128: one block; 96: three of 32; 80: five of 16). h is an integer,
 * floor(log2(block) / 2), so normalizing rounds no number. R times its transpose is then 1 or, for blocks of an odd
 * power of two, 2; the scales of `rq4` absorb the 2. Butterflies run with strides 1, 2, 4, ... in float32; on integers
 * below 2^24 they are exact in any order.
 */

/** The number of adjacent dims that are mixed. headDim is a multiple of 16. */
export function rotationBlock(headDim: number): number {
  return headDim & -headDim;
}

/** 2^-h. */
export function rotationFactor(block: number): number {
  return 2 ** -Math.floor(Math.log2(block) / 2);
}

/** Whether D flips the sign of a dim: the top bit of a hash, in 32-bit arithmetic that any device has. */
function flipsSign(dim: number): boolean {
  let hash = Math.imul(dim + 0x51ed, 0x9e3779b1);
  hash ^= hash >>> 16;
  return Math.imul(hash, 0x85ebca6b) < 0;
}

/** H on each block of x, in place. */
export function hadamard(x: Float32Array, block: number): void {
  for (let stride = 1; stride < block; stride *= 2)
    for (let i = 0; i < x.length; i++) {
      if (i & stride) continue;
      const a = x[i];
      const b = x[i + stride];
      x[i] = a + b;
      x[i + stride] = a - b;
    }
}

/** x = R transposed x, in place, for the output. R itself is `flipSigns`, then `hadamard`. */
export function rotateBack(x: Float32Array): void {
  const block = rotationBlock(x.length);
  hadamard(x, block);
  flipSigns(x, rotationFactor(block));
}

/** D times a factor. */
export function flipSigns(x: Float32Array, factor: number): void {
  for (let i = 0; i < x.length; i++) x[i] *= flipsSign(i) ? -factor : factor;
}
