/** matmulDots on a software GPU that has no subgroups of 32 (emulated-dots.ts), against float64 sums. */
import { expect, it } from "vitest";
import type { Gpu, Traits } from "../../../src/device/webgpu/gpu.ts";
import { BLOCKS, type TensorType } from "../../../src/format/tensor.ts";
import { emulatedGpu } from "./emulated-device.ts";
import { emulatedDots } from "./emulated-dots.ts";
import { ALL_TRAITS, describeGpu } from "./gpu.ts";
import { errorOf } from "./products.ts";

/** Sums are of integers, 32 products each; what remains is float32's rounding. */
const TOLERANCE = 5e-7;

let made: Promise<Gpu> | undefined;

describeGpu("matmulDots", () => {
  const traits: Traits = { ...ALL_TRAITS, few: 4, several: 16 };
  it.each([
    // Columns past the last whole split and past the last whole slice, rows that are no whole tiles, two parts.
    ["q4_0", 1312, [40, 21], 3],
    // Several tiles of a subgroup.
    ["q4_0", 64, [9000], 4],
    // Codes of bytes, of joined planes, out of a table; scales of halves, offsets; two and four tokens of a workgroup.
    ["q8_0", 1120, [33], 3],
    ["q4_k", 1280, [40], 2],
    ["q6_k", 256, [20], 4],
    ["q5_1", 256, [20], 2],
    ["iq2_s", 256, [20], 4],
    ["mxfp4", 96, [20], 3],
  ] as [TensorType, number, number[], number][])(
    "%s of %d columns, %j rows, %d tokens",
    async (type, cols, rows, tokens) => {
      expect(cols % BLOCKS[type].elements).toBe(0);
      made ??= emulatedGpu("matmulDots", emulatedDots);
      const shape = { type, rows, cols, tokens, few: 4, several: 16, bias: true };
      expect(await errorOf(await made, traits, shape)).toBeLessThan(TOLERANCE);
    },
  );
});
