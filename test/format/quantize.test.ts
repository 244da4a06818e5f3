import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { dequantize } from "../../src/format/blocks.ts";
import { ArgumentError } from "../../src/format/errors.ts";
import { type QuantizedType, quantize } from "../../src/format/quantize.ts";
import { rowBytes } from "../../src/format/tensor.ts";

const GOLDEN = new URL("../golden/gguf-blocks/", import.meta.url);
const golden = (file: string) => new Uint8Array(readFileSync(new URL(file, GOLDEN)));
const TYPES: QuantizedType[] = [
  ...(["f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0"] as const),
  ...(["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"] as const),
];

/** Types whose scales are searched. */
const SEARCHED = TYPES.filter((type) => !["f16", "bf16", "q8_0"].includes(type));

function quantized(type: QuantizedType, values: Float32Array, importance?: Float32Array): Uint8Array {
  const out = new Uint8Array(rowBytes(type, values.length));
  quantize(type, values, out, importance);
  return out;
}

function rounded(type: QuantizedType, values: Float32Array, importance?: Float32Array): Float32Array {
  const out = new Float32Array(values.length);
  dequantize(type, quantized(type, values, importance), out);
  return out;
}

describe("quantize", () => {
  const input = new Float32Array(golden("input.f32").buffer);

  it.each(TYPES)("%s blocks are ggml's, bit for bit", (type) => {
    expect(Buffer.compare(quantized(type, input), golden(`${type}.bin`))).toBe(0);
  });

  it.each(TYPES)("%s: zeros stay zeros, one value is kept, signs and sizes at the ends are", (type) => {
    const block = (make: (i: number) => number) => {
      const values = Float32Array.from({ length: 256 }, (_, i) => make(i));
      const out = new Float32Array(256);
      dequantize(type, quantized(type, values), out);
      return out;
    };
    expect(block(() => 0).every((x) => x === 0)).toBe(true);
    // A lone value is the block's largest: every type holds it to its scale's rounding.
    expect(block((i) => (i === 77 ? -3 : 0))[77]).toBeCloseTo(-3, 1);
    for (const size of [1e-3, 1e4]) {
      const out = block((i) => size * Math.sin(i));
      for (const [i, x] of out.entries()) expect(Math.abs(x - size * Math.sin(i))).toBeLessThan(0.5 * size);
    }
  });

  it("under an importance refuses rows of other lengths", () => {
    const values = new Float32Array(96);
    for (const cols of [48, 64])
      expect(() => quantized("q4_0", values, new Float32Array(cols))).toThrow(
        `importances for 96 q4_0 values is ${cols}; allowed: rows of whole blocks of 32`,
      );
  });

  it("refuses other lengths", () => {
    expect(() => quantize("q4_0", new Float32Array(33), new Uint8Array(18))).toThrow(ArgumentError);
    expect(() => quantize("q4_k", new Float32Array(256), new Uint8Array(143))).toThrow(
      /bytes for 256 q4_k values is 143/,
    );
  });
});

describe("quantize under an importance", () => {
  const input = new Float32Array(golden("input.f32").buffer);
  const importance = new Float32Array(golden("importance.f32").buffer);

  it.each(TYPES)("%s blocks are ggml's, bit for bit", (type) => {
    const file = SEARCHED.includes(type) || type === "q8_0" ? `important.${type}.bin` : `${type}.bin`;
    expect(Buffer.compare(quantized(type, input, importance), golden(file))).toBe(0);
  });

  it.each(SEARCHED)("%s moves the error to columns that matter little", (type) => {
    // Every second column matters a thousand times as much as the others.
    const outs = [0, 1].map((odd) => {
      const weights = Float32Array.from({ length: 768 }, (_, col) => (col % 2 === odd ? 1 : 1e-3));
      return rounded(type, input, weights);
    });
    for (const odd of [0, 1]) {
      const [important, other] = [outs[odd], outs[1 - odd]].map((out) =>
        out.reduce((sum, x, i) => sum + (i % 2 === odd ? (x - input[i]) ** 2 : 0), 0),
      );
      expect(important).toBeLessThan(0.97 * other);
    }
  });

  it.each(SEARCHED)("%s: importances count by their ratios", (type) => {
    const smaller = importance.map((weight) => 2 ** -20 * weight);
    const row = input.subarray(0, 768);
    expect(quantized(type, row, smaller)).toEqual(quantized(type, row, importance));
  });
});
