/** Random signs, rotations and Gaussian matrices out of a seed: the same on every machine, another for each seed. */
import { hadamard, rotationBlock } from "../../device/rotation.ts";

/** Uniform numbers in [0, 1): mulberry32. */
export function uniforms(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Numbers of a Gaussian of variance 1. */
export function gaussians(seed: number): () => number {
  const next = uniforms(seed);
  return () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

const SIGNS = new Map<string, Float32Array>();

/** +-1 for each of `count` dims. */
export function signs(count: number, seed: number): Float32Array {
  const key = `${count} ${seed}`;
  let found = SIGNS.get(key);
  if (!found) {
    const next = uniforms(seed * 7919 + 17);
    found = Float32Array.from({ length: count }, () => (next() < 0.5 ? -1 : 1));
    SIGNS.set(key, found);
  }
  return found;
}

/** An orthogonal transform of one vector, in place: random signs, then Hadamard over blocks of the largest power of two. */
export function rotate(vector: Float32Array, seed: number): void {
  const sign = signs(vector.length, seed);
  const block = rotationBlock(vector.length);
  const factor = 1 / Math.sqrt(block);
  for (let i = 0; i < vector.length; i++) vector[i] *= sign[i];
  hadamard(vector, block);
  for (let i = 0; i < vector.length; i++) vector[i] *= factor;
}

/** Its inverse. */
export function rotateBack(vector: Float32Array, seed: number): void {
  const sign = signs(vector.length, seed);
  const block = rotationBlock(vector.length);
  const factor = 1 / Math.sqrt(block);
  hadamard(vector, block);
  for (let i = 0; i < vector.length; i++) vector[i] *= sign[i] * factor;
}

const MATRICES = new Map<string, Float32Array>();

/** [rows, cols] of Gaussian numbers. */
export function gaussianMatrix(rows: number, cols: number, seed: number): Float32Array {
  const key = `${rows} ${cols} ${seed}`;
  let found = MATRICES.get(key);
  if (!found) {
    const next = gaussians(seed * 104_729 + 3);
    found = Float32Array.from({ length: rows * cols }, next);
    MATRICES.set(key, found);
  }
  return found;
}

export function norm(vector: Float32Array): number {
  let sum = 0;
  for (const x of vector) sum += x * x;
  return Math.sqrt(sum);
}
