/** Packing for the GPU against the definition of every type, and the cutting of blocks into parts. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Weight } from "../../../src/device/contract.ts";
import { packedBytes } from "../../../src/device/wasm/packing.ts";
import { packRows } from "../../../src/device/webgpu/pack.ts";
import { codesRowBytes, partsOf, scalesRowBytes, weightForm } from "../../../src/device/webgpu/weights.ts";
import { dequantize } from "../../../src/format/blocks.ts";
import { BLOCKS, rowBytes, storedRowBytes, type TensorType } from "../../../src/format/tensor.ts";
import { randomBytes } from "../random-tensor.ts";
import { unpackRow } from "./unpack.ts";

const TYPES = Object.keys(BLOCKS) as TensorType[];

/** Products of two scales, and MLX's f32 numbers, are rounded to f16 once: 2^-12 of scale times code and of the offset. */
const ROUNDED: ReadonlySet<TensorType> = new Set(TYPES.filter((t) => /q[23]_k|iq4_xs|mlx/.test(t)));

function packed(type: TensorType, bytes: Uint8Array, rows: number, cols: number) {
  const form = weightForm(type);
  // What was there before must not show.
  const codes = new Uint32Array((rows * codesRowBytes(form, cols)) / 4).fill(0xabababab);
  const scales = new Uint32Array((rows * scalesRowBytes(form, cols)) / 4).fill(0xabababab);
  packRows(type, bytes, rows, cols, codes, scales);
  return { form, codes, scales };
}

describe("packRows", () => {
  it.each(TYPES)("%s unpacks to what its blocks mean", (type) => {
    const { elements } = BLOCKS[type];
    const cols = elements === 1 ? 96 : 3 * elements;
    const rows = 5;
    // One byte in front, so that nothing is aligned.
    const file = new Uint8Array(1 + rows * rowBytes(type, cols));
    file.set(randomBytes(type, rows, cols, 7), 1);
    const bytes = file.subarray(1);
    const wanted = new Float32Array(rows * cols);
    dequantize(type, bytes, wanted);
    const { form, codes, scales } = packed(type, bytes, rows, cols);
    let difference = 0;
    let size = 0;
    for (let row = 0; row < rows; row++) {
      const found = unpackRow(form, codes, scales, row, cols);
      found.forEach((value, i) => {
        difference += (value - wanted[row * cols + i]) ** 2;
        size += wanted[row * cols + i] ** 2;
      });
    }
    expect(Math.sqrt(difference / size)).toBeLessThanOrEqual(ROUNDED.has(type) ? 1.2e-3 : 1e-7);
  });

  it.each<[TensorType, number, number, number]>([
    ["q4_k", 4.625, 4.625, 4.5],
    ["q5_k", 5.625, 5.625, 5.5],
    ["q6_k", 6.625, 6.5625, 6.5625],
    ["q5_0", 5.5, 5.5, 5.5],
    ["q5_1", 6, 6, 6],
    ["iq3_s", 4.375, 4.3125, 3.4375],
    ["iq3_xxs", 4.375, 4.3125, 3.0625],
    ["iq2_s", 3.375, 3.5625, 2.5625],
    ["iq2_xs", 3.375, 3.5625, 2.3125],
    ["iq2_xxs", 3.375, 3.5625, 2.0625],
    ["iq1_s", 3.375, 3.5625, 1.5625],
    ["iq1_m", 3.375, 3.5625, 1.75],
    ["nvfp4", 4.5, 4.5, 4.5],
    ["tq1_0", 2.5, 2.25, 1.6875],
    ["tq2_0", 2.5, 2.25, 2.0625],
    ["q1_0", 1.5, 2.25, 1.125],
    ["q2_0", 2.5, 2.25, 2.25],
  ])("%s takes %f bits a weight on the GPU, %f on the CPU, %f in the file", (type, gpu, cpu, file) => {
    const [rows, cols] = [8, 2048];
    const form = weightForm(type);
    const bits = (bytes: number) => (bytes * 8) / (rows * cols);
    // nvfp4 has a float a row besides.
    const own = form.scales === "e4m3" ? 4 : 0;
    expect(bits(rows * (codesRowBytes(form, cols) + scalesRowBytes(form, cols) - own))).toBe(gpu);
    // In front of each 8 rows are 16 bytes.
    expect(bits(packedBytes(type, rows, cols) - 16)).toBe(cpu);
    expect(bits(rows * storedRowBytes(type, cols))).toBe(file);
  });

  it("pads rows of floats with zeros", () => {
    const { codes } = packed("f32", new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer), 2, 3);
    const floats = new Float32Array(codes.buffer);
    expect([...floats.subarray(0, 5)]).toEqual([1, 2, 3, 0, 0]);
    expect([...floats.subarray(32, 36)]).toEqual([4, 5, 6, 0]);
  });

  it("refuses short arrays", () => {
    const file = randomBytes("q4_0", 2, 64, 1);
    expect(() => packRows("q4_0", file, 3, 64, new Uint32Array(24), new Uint32Array(3))).toThrow("at least");
    expect(() => packRows("q4_0", file, 2, 64, new Uint32Array(15), new Uint32Array(2))).toThrow("at least");
    expect(() => packRows("q4_0", file, 2, 48, new Uint32Array(16), new Uint32Array(2))).toThrow(
      "multiples of 32",
    );
  });
});

const weight = (id: number, rows: number, type: TensorType = "q4_0", cols = 64): Weight => ({
  id,
  name: `w${id}`,
  role: "matrix",
  type,
  rows,
  cols,
});

describe("partsOf", () => {
  it("is one part where everything fits", () => {
    const [part, ...others] = partsOf([weight(0, 64), weight(1, 16), weight(2, 16)], 1 << 20);
    expect(others).toEqual([]);
    expect(part).toMatchObject({ first: 0, rows: 96, codesBytes: 96 * 32, scalesBytes: 96 * 4 });
    expect(part.sources).toEqual([
      { weight: 0, from: 0, rows: 64, at: 0 },
      { weight: 1, from: 0, rows: 16, at: 64 },
      { weight: 2, from: 0, rows: 16, at: 80 },
    ]);
  });

  it("holds every row once, in bindings that are small enough", () => {
    const rows = fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(rows, fc.integer({ min: 32, max: 20_000 }), (counts, mostBytes) => {
        const parts = partsOf(
          counts.map((count, i) => weight(i, count)),
          mostBytes,
        );
        const seen = counts.map((count) => new Uint8Array(count));
        let first = 0;
        for (const part of parts) {
          expect(part.first).toBe(first);
          expect(Math.max(part.codesBytes, part.scalesBytes)).toBeLessThanOrEqual(mostBytes);
          let at = 0;
          for (const piece of part.sources) {
            expect(piece.at).toBe(at);
            at += piece.rows;
            for (let row = 0; row < piece.rows; row++) seen[piece.weight][piece.from + row]++;
          }
          expect(at).toBe(part.rows);
          first += part.rows;
        }
        for (const list of seen) expect(list.every((n) => n === 1)).toBe(true);
      }),
    );
  });

  it("refuses strangers and rows that do not fit", () => {
    expect(() => partsOf([weight(0, 4), weight(1, 4, "q8_0")], 1 << 20)).toThrow("w1");
    expect(() => partsOf([weight(0, 4)], 16)).toThrow("at least 32");
  });
});
