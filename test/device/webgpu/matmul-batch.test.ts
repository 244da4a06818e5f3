/** matmulBatch, and with it how weights go to tiles (lib/weightTile.wgsl), on a software GPU without matrices. */
import { expect, it } from "vitest";
import type { Gpu } from "../../../src/device/webgpu/gpu.ts";
import { shaderText } from "../../../src/device/webgpu/wgsl.ts";
import type { TensorType } from "../../../src/format/tensor.ts";
import { emulatedSubgroups } from "./emulated-subgroups.ts";
import { ALL_TRAITS, describeGpu, softwareDevice } from "./gpu.ts";
import { errorOf } from "./products.ts";

let made: Promise<Gpu> | undefined;
async function open(): Promise<Gpu> {
  const gpu = await softwareDevice({}, { maxComputeWorkgroupStorageSize: 32_768 });
  const { pipeline } = gpu;
  gpu.pipeline = async (spec) => {
    if (spec.kernel !== "matmulBatch") return pipeline.call(gpu, spec);
    const module = gpu.device.createShaderModule({ code: emulatedSubgroups(shaderText(spec, [])) });
    const { messages } = await module.getCompilationInfo();
    expect([...messages].map(({ lineNum, message }) => `${lineNum}: ${message}`)).toEqual([]);
    const layout = gpu.device.createPipelineLayout({ bindGroupLayouts: [gpu.bindLayout(spec.kernel)] });
    return gpu.device.createComputePipelineAsync({ layout, compute: { module, entryPoint: "main" } });
  };
  return gpu;
}

describeGpu("matmulBatch", () => {
  // A type for each way in which codes and scales lie in a tile.
  it.each(["q4_0", "q4_k", "q5_k", "q6_k", "q8_0", "iq2_s"] as TensorType[])("%s", async (type) => {
    made ??= open();
    const shape = { type, rows: [40], cols: 512, tokens: 20, bias: true };
    // Weights and activations are rounded to f16.
    expect(await errorOf(await made, ALL_TRAITS, shape)).toBeLessThan(1.2e-3);
  });
});
