/**
 * Packed weights: packing, quantized activations, products and embeddings, both binaries, every type. The definition is
 * format/blocks.ts in float64; the integer kernels must equal it on the quantized activations up to float32 rounding.
 */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { BLOCKS, rowBytes, type TensorType } from "../../src/format/tensor.ts";
import { dequantizeRows, KernelBench } from "./kernels.ts";
import { f16Scales, gaussian, random, randomBytes, setIq1mScale } from "./random-tensor.ts";

const TYPES = Object.keys(BLOCKS) as TensorType[];
/** Float sums of up to a few thousand terms, scales multiplied in another order: relative to the sum of magnitudes. */
const ROUNDING = 2e-6;

function activations(count: number, seed: number): Float32Array {
  const next = random(seed);
  return Float32Array.from({ length: count }, () => gaussian(next));
}

/** Largest error of y over the sum of |w| |x|, with x as the kernel sees it. */
function worstError(
  y: Float32Array,
  weights: Float32Array,
  x: Float64Array,
  shape: { rows: number; cols: number; tokens: number },
  bias?: Float32Array,
): number {
  const { rows, cols, tokens } = shape;
  let worst = 0;
  for (let t = 0; t < tokens; t++) {
    for (let r = 0; r < rows; r++) {
      let sum = bias ? bias[r] : 0;
      let size = Math.abs(sum);
      for (let c = 0; c < cols; c++) {
        const product = weights[r * cols + c] * x[t * cols + c];
        sum += product;
        size += Math.abs(product);
      }
      const error = Math.abs(y[t * rows + r] - sum);
      if (!Number.isFinite(error)) return Infinity;
      if (error > worst * size) worst = size === 0 ? (error === 0 ? worst : Infinity) : error / size;
    }
  }
  return worst;
}

/** Random blocks whose scales are any finite f16 (or e8m0 near 1, or f32 near 1), subnormal and negative ones too. */
function anyBlocks(type: TensorType, rows: number, cols: number, seed: number): Uint8Array {
  const bytes = randomBytes(type, rows, cols, seed);
  const next = random(seed + 1);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += BLOCKS[type].bytes) {
    const scale = () => {
      const bits = Math.floor(next() * 65536);
      return next() < 0.3 ? bits & 0x83ff : bits & 0xfbff;
    };
    for (const offset of f16Scales(type)) view.setUint16(at + offset, scale(), true);
    if (type === "iq1_m") setIq1mScale(bytes, at, scale());
  }
  return bytes;
}

/** Whether byte `i` of a tensor holds codes or small integer scales rather than float scales. */
function isCode(type: TensorType, i: number): boolean {
  if (BLOCKS[type].elements === 1) return false;
  const at = i % BLOCKS[type].bytes;
  if (type === "mxfp4") return at > 0;
  if (type === "iq1_m") return at < 48;
  if (type === "nvfp4") return at >= 4;
  if (type.startsWith("mlx")) return at >= 8;
  return !f16Scales(type).some((offset) => at === offset || at === offset + 1);
}

interface Case {
  rows: number;
  cols: number;
  tokens: number;
  withBias?: boolean;
  ranges?: [number, number][];
  x?: Float32Array;
  bytes?: Uint8Array;
  seed?: number;
}

function matmulError(bench: KernelBench, type: TensorType, at: Case): number {
  const { rows, cols, tokens, seed = 1 } = at;
  bench.clear();
  const bytes = at.bytes ?? randomBytes(type, rows, cols, seed);
  const weights = dequantizeRows(type, bytes, rows * cols);
  const values = at.x ?? activations(tokens * cols, seed + 7);
  const w = bench.pack(type, bytes, rows, cols);
  const x = bench.placeFloats(values);
  const isFloat = BLOCKS[type].elements === 1;
  const q = isFloat ? 0 : bench.quantize(x, cols, tokens);
  const bias = at.withBias ? activations(rows, seed + 9) : undefined;
  const biasAt = bias ? bench.placeFloats(bias) : 0;
  const ranges = at.ranges ?? [[0, Math.ceil(rows / 8)]];
  const y = bench.matmul(type, w, x, q, { rows, cols, tokens }, biasAt, ranges);
  const seen = isFloat ? Float64Array.from(values) : bench.dequantizedRows(q, cols, tokens);
  return worstError(y, weights, seen, at, bias);
}

describe.each(["auto", "plain"] as const)("%s SIMD", (simd) => {
  let bench: KernelBench;
  beforeAll(async () => {
    bench = await KernelBench.open(simd);
  });

  describe.each(TYPES)("%s", (type) => {
    const step = BLOCKS[type].elements;
    const cols = step > 32 ? step * 2 : 96;

    it.each([1, 2, 3, 4, 5, 11, 12, 33])("matmul of %i tokens", (tokens) => {
      expect(matmulError(bench, type, { rows: 24, cols, tokens })).toBeLessThan(ROUNDING);
    });

    it.each([1, 7, 9, 17])("matmul of %i rows", (rows) => {
      for (const tokens of [1, 4, 13])
        expect(matmulError(bench, type, { rows, cols, tokens, withBias: true })).toBeLessThan(ROUNDING);
    });

    it("matmul of more columns than a slice", () => {
      for (const tokens of [1, 6, 13])
        expect(matmulError(bench, type, { rows: 11, cols: 2304, tokens, withBias: true })).toBeLessThan(
          ROUNDING,
        );
    });

    it("units in any split give the same bits", () => {
      const shape = { rows: 35, cols, tokens: 6, withBias: true };
      const split: [number, number][] = [
        [3, 5],
        [0, 1],
        [2, 3],
        [1, 2],
      ];
      expect(matmulError(bench, type, { ...shape, ranges: split })).toBeLessThan(ROUNDING);
      for (const tokens of [1, 13])
        expect(matmulError(bench, type, { ...shape, tokens, ranges: split })).toBeLessThan(ROUNDING);
    });

    it("zeros, and activations of very different sizes", () => {
      for (const tokens of [1, 4, 13]) {
        const x = new Float32Array(tokens * cols);
        expect(matmulError(bench, type, { rows: 8, cols, tokens, x })).toBe(0);
        for (let i = 0; i < x.length; i++) x[i] = Math.cos(i) * 10 ** (((i >> 5) % 5) * 2 - 4);
        expect(matmulError(bench, type, { rows: 8, cols, tokens, x })).toBeLessThan(ROUNDING);
        const bytes = new Uint8Array(8 * rowBytes(type, cols));
        expect(matmulError(bench, type, { rows: 8, cols, tokens, x, bytes })).toBeLessThan(ROUNDING);
      }
    });

    it("largest codes against largest activations", () => {
      // Every sum of products is as large as its 16 bits may have to hold.
      // (MLX weights here are a difference of much larger numbers, which f32 sums feel.)
      const rounding = type.startsWith("mlx") ? 5 * ROUNDING : ROUNDING;
      const extremes: [number, number][] = [
        [255, 3],
        [255, -3],
        [0, 3],
        [0, -3],
      ];
      for (const [byte, value] of extremes) {
        const bytes = randomBytes(type, 8, cols, 4).map((b, i) => (isCode(type, i) ? byte : b));
        for (const tokens of [1, 4, 13]) {
          const x = new Float32Array(tokens * cols).fill(value);
          expect(matmulError(bench, type, { rows: 8, cols, tokens, x, bytes })).toBeLessThan(rounding);
        }
      }
    });

    it("embedRow gives exactly the file's values", () => {
      bench.clear();
      const rows = 13;
      const bytes = randomBytes(type, rows, cols, 3);
      const wanted = dequantizeRows(type, bytes, rows * cols);
      const w = bench.pack(type, bytes, rows, cols);
      const out = bench.place(cols * 4);
      for (let row = 0; row < rows; row++) {
        bench.embed(out, w, type, rows, cols, row, 1);
        expect(bench.floats(out, cols)).toEqual(wanted.subarray(row * cols, (row + 1) * cols));
        bench.embed(out, w, type, rows, cols, row, 1.5);
        expect(bench.floats(out, cols)[5]).toBe(Math.fround(wanted[row * cols + 5] * 1.5));
      }
    });

    it("any bytes at all", () => {
      // Random blocks, scales included, but finite: every code, sign and subnormal scale occurs.
      fc.assert(
        fc.property(fc.integer({ min: 0, max: 1e6 }), fc.constantFrom(1, 2, 3, 4, 13), (seed, tokens) => {
          const bytes = anyBlocks(type, 8, cols, seed);
          expect(matmulError(bench, type, { rows: 8, cols, tokens, bytes, seed })).toBeLessThan(ROUNDING);
        }),
        { numRuns: 15, seed: 5 },
      );
    });
  });
});
