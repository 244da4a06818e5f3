/** matmulStream on a software GPU that has no matrices (emulated.ts), against float64 sums. */
import { expect, it } from "vitest";
import type { Gpu, Traits } from "../../../src/device/webgpu/gpu.ts";
import { BLOCKS, type TensorType } from "../../../src/format/tensor.ts";
import { emulated } from "./emulated.ts";
import { emulatedGpu } from "./emulated-device.ts";
import { ALL_TRAITS, describeGpu } from "./gpu.ts";
import { errorOf } from "./products.ts";

/** Weights and activations are rounded to f16. */
const TOLERANCE = 1.2e-3;

let made: Promise<Gpu> | undefined;

describeGpu("matmulStream", () => {
  const traits: Traits = ALL_TRAITS;
  it.each([
    // Slices past the last column, splits; rows that are no whole tiles; several tiles.
    ["q4_0", 1280, [40, 21], 13],
    ["q6_k", 256, [20], 5],
    ["iq2_s", 256, [20], 5],
    ["nvfp4", 256, [20], 8],
  ] as [TensorType, number, number[], number][])(
    "%s of %d columns, %j rows, %d tokens",
    async (type, cols, rows, tokens) => {
      expect(cols % BLOCKS[type].elements).toBe(0);
      made ??= emulatedGpu("matmulStream", emulated);
      const shape = { type, rows, cols, tokens, few: 8, several: 16, bias: true };
      expect(await errorOf(await made, traits, shape)).toBeLessThan(TOLERANCE);
    },
  );
});
