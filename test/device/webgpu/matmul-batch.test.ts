/** matmulBatch, and with it how weights go to tiles (lib/weightTile.wgsl), on a software GPU without matrices. */
import { expect, it } from "vitest";
import type { Gpu } from "../../../src/device/webgpu/gpu.ts";
import type { TensorType } from "../../../src/format/tensor.ts";
import { emulatedGpu } from "./emulated-device.ts";
import { emulatedSubgroups } from "./emulated-subgroups.ts";
import { ALL_TRAITS, describeGpu } from "./gpu.ts";
import { errorOf } from "./products.ts";

let made: Promise<Gpu> | undefined;

describeGpu("matmulBatch", () => {
  // A type for each way in which codes and scales lie in a tile.
  it.each(["q4_0", "q4_k", "q5_k", "q6_k", "q8_0", "iq2_s"] as TensorType[])("%s", async (type) => {
    made ??= emulatedGpu("matmulBatch", emulatedSubgroups);
    const shape = { type, rows: [40], cols: 512, tokens: 20, bias: true };
    // Weights and activations are rounded to f16.
    expect(await errorOf(await made, ALL_TRAITS, shape)).toBeLessThan(1.2e-3);
  });
});
