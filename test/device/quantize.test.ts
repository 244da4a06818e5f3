/** Quantized activations: how close the codes come, what the facts beside them say, and the edges of f32. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { quantizedBytes } from "../../src/device/wasm/packing.ts";
import { KernelBench } from "./kernels.ts";

const COLS = 96;

describe.each(["auto", "plain"] as const)("quantizeRows, %s SIMD", (simd) => {
  let bench: KernelBench;
  beforeAll(async () => {
    bench = await KernelBench.open(simd, 2);
  });

  function quantize(values: Float32Array): { q: number; seen: Float64Array } {
    bench.clear();
    const tokens = values.length / COLS;
    const q = bench.quantize(bench.placeFloats(values), COLS, tokens);
    return { q, seen: bench.dequantizedRows(q, COLS, tokens) };
  }

  it("rounds to 1/254 of the largest of 32, whatever the other blocks' sizes", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: COLS, maxLength: COLS }),
        fc.array(fc.integer({ min: -12, max: 4 }), { minLength: 3, maxLength: 3 }),
        (parts, exponents) => {
          const values = Float32Array.from(parts, (v, i) => v * 10 ** exponents[i >> 5]);
          const largest = Math.max(...values.map(Math.abs));
          const { seen } = quantize(values);
          for (let i = 0; i < COLS; i++) {
            const ofBlock = Math.max(...values.subarray(i & ~31, (i & ~31) + 32).map(Math.abs));
            // The scale is a whole number of units, so at worst one unit (largest / (127 * 16383)) a code larger.
            const allowed = (ofBlock / 127 + largest / (127 * 16383)) * 0.5 * 1.0001 + 1e-38;
            expect(Math.abs(seen[i] - values[i])).toBeLessThanOrEqual(allowed);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it("keeps the facts that kernels use in place of sums", () => {
    const values = Float32Array.from({ length: COLS }, (_, i) => Math.sin(i * 2.3) * (1 + (i >> 5)));
    const { q } = quantize(values);
    const view = new DataView(bench.memory.buffer, q, quantizedBytes(COLS));
    for (let block = 0; block < 3; block++) {
      const at = 64 + block * 64;
      const codes = Array.from({ length: 32 }, (_, i) => view.getInt8(at + 32 + i));
      const sum = (of: number[]) => of.reduce((a, b) => a + b, 0);
      const paired = (of: number[], odd: boolean) => sum(of.filter((_, i) => (i & 2) === (odd ? 2 : 0)));
      const halves = [codes.slice(0, 16), codes.slice(16)];
      const s = view.getInt16(at, true);
      expect(view.getInt16(at + 2, true)).toBe(s);
      expect(view.getFloat32(at + 4, true)).toBe(s);
      expect(view.getFloat32(at + 20, true)).toBe(Math.fround(s * sum(codes)));
      for (const odd of [false, true]) {
        expect(view.getInt16(at + 8 + (odd ? 2 : 0), true)).toBe(-16 * paired(codes, odd));
        for (const half of [0, 1]) {
          expect(view.getInt16(at + 12 + half * 4 + (odd ? 2 : 0), true)).toBe(
            -32 * paired(halves[half], odd),
          );
          expect(view.getFloat32(at + 24 + half * 4, true)).toBe(Math.fround(s * sum(halves[half])));
        }
      }
      const wide = Array.from({ length: 32 }, (_, i) =>
        view.getInt16(64 + 3 * 64 + block * 64 + i * 2, true),
      );
      const order = Array.from({ length: 32 }, (_, i) => codes[(i & ~3) + [0, 2, 1, 3][i & 3]]);
      expect(wide).toEqual(order);
    }
  });

  it.each([0, 1e-45, 1e-38, 1e-30, 1e30, 3.4e38])("stays finite at %f", (size) => {
    const values = Float32Array.from({ length: COLS }, (_, i) => (i % 3 === 0 ? -size : size));
    const { seen } = quantize(values);
    for (let i = 0; i < COLS; i++) {
      expect(Math.abs(seen[i] - values[i])).toBeLessThanOrEqual(Math.max(size / 250, 1.2e-38));
    }
  });

  it("touches only the rows it is given", () => {
    bench.clear();
    const x = bench.placeFloats(new Float32Array(3 * COLS).fill(1));
    const q = bench.place(3 * quantizedBytes(COLS));
    const bytes = new Uint8Array(bench.memory.buffer, q, 3 * quantizedBytes(COLS)).fill(0xaa);
    bench.call.quantizeRows(x, q, COLS, 1, 2);
    expect(bytes.subarray(0, quantizedBytes(COLS)).every((b) => b === 0xaa)).toBe(true);
    expect(bytes.subarray(2 * quantizedBytes(COLS)).every((b) => b === 0xaa)).toBe(true);
    expect(bytes[quantizedBytes(COLS) + 96]).toBe(127);
  });
});
