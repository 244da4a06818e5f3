/**
 * `rq4`: rotated 4-bit codes with one scale for each head vector, 4.125 bits a value at head size 128. A vector x is held
 * as x = scale * R' c, where R is the rotation of device/rotation.ts, R' its transpose and c = code - 7.5. Attention
 * needs no x: it rotates the query, works on codes and rotates the sum of values back.
 *
 * Bytes: scale f16; then codes as in `int4`: by groups of 32 dims (a last one may have 16), dim i in the low half of
 * byte i and dim i + half in its high half.
 * One idea: after the first rounding all is integers below 2^24, exact in float32 in any order and with or without fused
 * multiply-adds, so that every device finds the same codes:
 *   1. x, clamped to +-65504, times the power of two that brings its largest magnitude into [2^13, 2^14), rounded to
 *      integers (ties to even, as everywhere here); D, then H.
 *   2. Times the power of two that brings the largest magnitude into [2^10, 2^11), rounded again: w. S = sum of w^2.
 *   3. r = floor(sqrt(floor(S / headDim))). For each of five STEPS, step = max(1, floor(r * STEPS / 1024)) and
 *      code = 8 + floor(w / step), clamped to 0..15. A device may compute floor((w + 0.5) / step) as inexactly as it
 *      likes: it is never near an integer. P = sum of w * 2c, Q = sum of (2c)^2; the first step of largest P^2 / Q wins,
 *      compared as (P * P) * Q' in float32, multiplications only.
 *   4. Keys: scale = 2S / P, so that q.k is unbiased for queries along k (KV.md); values: scale = 2P / Q, least squares.
 *      In float32, times powers of two, rounded to float16, at most 4364: then 15 * scale is a finite float16 too, in
 *      which fast kernels expand codes. Vectors of a root mean square above 13,000 come back smaller.
 * A vector whose largest magnitude is below 2^-40 is zero: scale 0, codes 8.
 */
import type { KvCodec } from "../device/contract.ts";
import { INT4_GROUP } from "../device/int4.ts";
import { hadamard, rotateBack, rotationBlock, rotationFactor, turnSigns } from "../device/rotation.ts";
import { f16ToF32 } from "../format/float16.ts";
import { finiteF16 } from "./codec-f16.ts";

const SCALE_BYTES = 2;
const LARGEST = 65_504;
const LARGEST_SCALE = 4364;
const SMALLEST = 2 ** -40;
/** 1024 times 0.3352 (the step of least error on a Gaussian of variance 1) times 0.7, 0.8, 0.9, 1.0, 1.1. */
const STEPS = [240, 275, 309, 343, 378];
/** Added to a number below 2^22 it leaves an integer, ties to even. */
const ROUNDER = 1.5 * 2 ** 23;
const fround = Math.fround;

export const rq4: KvCodec = {
  name: "rq4",
  vectorBytes: (headDim) => headDim / 2 + SCALE_BYTES,
  encode(vector, bytes, part) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const headDim = vector.length;
    const block = rotationBlock(headDim);
    const w = vector.map((x) => Math.min(LARGEST, Math.max(-LARGEST, x)));
    if (largestMagnitude(w) < SMALLEST) {
      bytes.fill(0x88);
      view.setUint16(0, 0, true);
      return;
    }
    const first = toIntegers(w, 13);
    turnSigns(w, 1);
    hadamard(w, block);
    const second = toIntegers(w, 10);

    const squares = w.reduce((sum, x) => sum + x * x, 0);
    const r = Math.floor(Math.sqrt(Math.floor(squares / headDim)));
    let best = { step: 0, products: 0, codeSquares: 1 };
    for (const multiplier of STEPS) {
      const step = Math.max(1, (r * multiplier) >> 10);
      let products = 0;
      let codeSquares = 0;
      for (const x of w) {
        const code = 2 * codeOf(x, step) - 15;
        products += x * code;
        codeSquares += code * code;
      }
      const found = fround(fround(products * products) * best.codeSquares);
      if (found > fround(fround(best.products * best.products) * codeSquares))
        best = { step, products, codeSquares };
    }
    const { step, products, codeSquares } = best;
    const ratio =
      part === "keys" ? fround((2 * fround(squares)) / products) : fround((2 * products) / codeSquares);
    // x = first second / block D H w, and R' = factor D H.
    const scale = (ratio * first * second) / (block * rotationFactor(block));
    view.setUint16(0, finiteF16(Math.min(scale, LARGEST_SCALE)), true);
    let at = SCALE_BYTES;
    for (let dim = 0; dim < headDim; dim += INT4_GROUP) {
      const half = Math.min(INT4_GROUP, headDim - dim) / 2;
      for (let i = dim; i < dim + half; i++)
        bytes[at++] = codeOf(w[i], step) | (codeOf(w[i + half], step) << 4);
    }
  },
  decode(bytes, vector) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const scale = f16ToF32(view.getUint16(0, true));
    let at = SCALE_BYTES;
    for (let dim = 0; dim < vector.length; dim += INT4_GROUP) {
      const half = Math.min(INT4_GROUP, vector.length - dim) / 2;
      for (let i = dim; i < dim + half; i++, at++) {
        vector[i] = scale * ((bytes[at] & 15) - 7.5);
        vector[i + half] = scale * ((bytes[at] >> 4) - 7.5);
      }
    }
    rotateBack(vector);
  },
};

function codeOf(x: number, step: number): number {
  return Math.min(15, Math.max(0, 8 + Math.floor(x / step)));
}

function largestMagnitude(x: Float32Array): number {
  return x.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
}

/** x as integers in a unit, the power of two by which the largest magnitude is in [2^bits, 2^(bits + 1)); returns it. */
function toIntegers(x: Float32Array, bits: number): number {
  const largest = new Uint32Array(Float32Array.of(largestMagnitude(x)).buffer)[0];
  const unit = 2 ** ((largest >>> 23) - 127 - bits);
  for (let i = 0; i < x.length; i++) x[i] = fround(x[i] / unit + ROUNDER) - ROUNDER;
  return unit;
}
