/** The host's sizes equal the kernels', and type ids mean the same type on both sides. */
import { beforeAll, describe, expect, it } from "vitest";
import {
  MATMUL_SCRATCH_BYTES,
  needsQuantizedInput,
  packedBytes,
  quantizedBytes,
  TYPE_IDS,
} from "../../src/device/wasm/packing.ts";
import { ArgumentError } from "../../src/format/errors.ts";
import { BLOCKS, type TensorType } from "../../src/format/tensor.ts";
import { KernelBench } from "./kernels.ts";

const TYPES = Object.keys(BLOCKS) as TensorType[];

describe("packing", () => {
  let bench: KernelBench;
  beforeAll(async () => {
    bench = await KernelBench.open("plain", 1);
  });

  it.each(TYPES)("%s panels have the size that the kernels use", (type) => {
    for (const blocks of [1, 3]) {
      const cols = blocks * BLOCKS[type].elements;
      const panel = bench.call.panelBytes(TYPE_IDS[type], cols);
      expect(packedBytes(type, 8, cols)).toBe(panel);
      expect(packedBytes(type, 17, cols)).toBe(3 * panel);
    }
  });

  it("ids number the types in order, floats first", () => {
    expect(Object.values(TYPE_IDS)).toEqual(TYPES.map((_, i) => i));
    expect(TYPES.filter((type) => !needsQuantizedInput(type))).toEqual(["f32", "f16", "bf16"]);
  });

  it("quantized rows and scratch have the size that the kernels use", () => {
    for (const cols of [32, 640, 14336]) expect(bench.call.quantizedBytes(cols)).toBe(quantizedBytes(cols));
    expect(bench.call.matmulScratchBytes()).toBe(MATMUL_SCRATCH_BYTES);
  });

  it("columns that are not whole blocks are refused", () => {
    expect(() => packedBytes("q4_k", 8, 384)).toThrow(ArgumentError);
  });
});
