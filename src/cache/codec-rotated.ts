/**
 * Rotated codes with one scale for each head vector: `rq4` has 4 bits, 4.125 a value at head size 128; packings also use 2, 3
 * and 8. A vector x is held as x = scale * R' c, where R is the rotation of device/rotation.ts, R' its transpose and
 * c = code - (2^bits - 1) / 2. Attention needs no x: it rotates the query, works on codes and rotates the sum of values back.
 *
 * Bytes: scale f16; then codes in the order of codes.ts.
 * One idea: after the first rounding all is integers below 2^24, exact in float32 in any order and with or without fused
 * multiply-adds, so that every device finds the same codes:
 *   1. x, clamped to +-65504, times the power of two that brings its largest magnitude into [2^13, 2^14), rounded to
 *      integers (ties to even, as everywhere here); D, then H.
 *   2. Times the power of two that brings the largest magnitude into [2^10, 2^11), rounded again: w. S = sum of w^2.
 *   3. r = floor(sqrt(floor(S / headDim))). For each of five steps, step = max(1, floor(r * steps / 1024)) and
 *      code = 2^bits / 2 + floor(w / step), clamped. A device may compute floor((w + 0.5) / step) as inexactly as it
 *      likes: it is never near an integer. P = sum of w * 2c, Q = sum of (2c)^2; the first step of largest P^2 / Q wins,
 *      compared as (P * P) * Q' in float32, multiplications only.
 *   4. Keys: scale = 2S / P, so that q.k is unbiased for queries along k; values: scale = 2P / Q, least squares.
 *      In float32, times powers of two, rounded to float16, at most 65,460 / (2^bits - 1): then the largest code times scale
 *      is a finite float16 too, in which fast kernels expand codes. 4 bits: vectors of a root mean square above 13,000 come
 *      back smaller.
 * A vector whose largest magnitude is below 2^-40 is zero: scale 0, codes 2^bits / 2.
 */
import type { KvCodec, KvPart } from "../device/contract.ts";
import type { CodeBits } from "../device/kv.ts";
import { flipSigns, hadamard, rotateBack, rotationBlock, rotationFactor } from "../device/rotation.ts";
import { f16ToF32 } from "../format/float16.ts";
import { finiteF16 } from "./codec-f16.ts";
import { codeBytes, packCodes, unpackCodes } from "./codes.ts";
import type { VectorCodec } from "./part-codec.ts";

const SCALE_BYTES = 2;
const LARGEST = 65_504;
const LARGEST_PRODUCT = 65_460;
const SMALLEST = 2 ** -40;
/** Steps of least error on a Gaussian of variance 1. */
const BEST_STEP: { readonly [Bits in CodeBits]: number } = { 2: 0.9957, 3: 0.586, 4: 0.3352, 8: 0.0308 };
const AROUND = [0.7, 0.8, 0.9, 1, 1.1];
/** Added to a number below 2^22 it leaves an integer, ties to even. */
const ROUNDER = 1.5 * 2 ** 23;
const fround = Math.fround;

export function rotatedCodec(bits: CodeBits, part: KvPart): VectorCodec {
  const levels = 2 ** bits;
  const middle = levels / 2;
  const steps = AROUND.map((factor) => Math.round(1024 * BEST_STEP[bits] * factor));
  const codeOf = (x: number, step: number) =>
    Math.min(levels - 1, Math.max(0, middle + Math.floor(x / step)));
  return {
    vectorBytes: (headDim) => SCALE_BYTES + codeBytes(headDim, bits),
    encode(vector, bytes) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const headDim = vector.length;
      const block = rotationBlock(headDim);
      const w = vector.map((x) => Math.min(LARGEST, Math.max(-LARGEST, x)));
      const store = (scaleBits: number, codes: Uint8Array) => {
        view.setUint16(0, scaleBits, true);
        packCodes(codes, bits, bytes.subarray(SCALE_BYTES));
      };
      if (largestMagnitude(w) < SMALLEST) return store(0, new Uint8Array(headDim).fill(middle));
      const first = toIntegers(w, 13);
      flipSigns(w, 1);
      hadamard(w, block);
      const second = toIntegers(w, 10);

      const squares = w.reduce((sum, x) => sum + x * x, 0);
      const r = Math.floor(Math.sqrt(Math.floor(squares / headDim)));
      let best = { step: 0, products: 0, codeSquares: 1 };
      for (const multiplier of steps) {
        const step = Math.max(1, (r * multiplier) >> 10);
        let products = 0;
        let codeSquares = 0;
        for (const x of w) {
          const code = 2 * codeOf(x, step) - (levels - 1);
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
      const largest = Math.floor(LARGEST_PRODUCT / (levels - 1));
      store(
        finiteF16(Math.min(scale, largest)),
        Uint8Array.from(w, (x) => codeOf(x, step)),
      );
    },
    decode(bytes, vector) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const scale = f16ToF32(view.getUint16(0, true));
      const codes = new Uint8Array(vector.length);
      unpackCodes(bytes.subarray(SCALE_BYTES), bits, codes);
      for (let i = 0; i < vector.length; i++) vector[i] = scale * (codes[i] - (levels - 1) / 2);
      rotateBack(vector);
    },
  };
}

const rotated = { keys: rotatedCodec(4, "keys"), values: rotatedCodec(4, "values") };

export const rq4: KvCodec = {
  name: "rq4",
  packed: null,
  vectorBytes: rotated.keys.vectorBytes,
  encode: (vector, bytes, part) => rotated[part].encode(vector, bytes),
  decode: rotated.keys.decode,
};

function largestMagnitude(x: Float32Array): number {
  return x.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
}

/**
 * Converts x to integers, in a unit that is a power of two and brings the largest magnitude into [2^bits, 2^(bits +
 * 1)); returns the unit.
 */
function toIntegers(x: Float32Array, bits: number): number {
  const largest = new Uint32Array(Float32Array.of(largestMagnitude(x)).buffer)[0];
  const unit = 2 ** ((largest >>> 23) - 127 - bits);
  for (let i = 0; i < x.length; i++) x[i] = fround(x[i] / unit + ROUNDER) - ROUNDER;
  return unit;
}
