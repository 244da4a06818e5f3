/** The test environment itself: SwiftShader computes, the null device compiles what SwiftShader cannot. */
import { expect, it } from "vitest";
import { ALL_TRAITS, describeGpu, nullDevice, softwareAdapter, softwareDevice } from "./gpu.ts";

/** Runs a shader whose binding 0 is an array<u32> of `words` and gives what it wrote there. */
async function compute(device: GPUDevice, code: string, words: number): Promise<Uint32Array> {
  const module = device.createShaderModule({ code });
  const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
  const bytes = words * 4;
  const out = device.createBuffer({ size: bytes, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const back = device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const layout = pipeline.getBindGroupLayout(0);
  const group = device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: out } }] });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(out, 0, back, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await back.mapAsync(GPUMapMode.READ);
  return new Uint32Array(back.getMappedRange().slice(0));
}

const SUM = `enable subgroups;
@group(0) @binding(0) var<storage, read_write> out: array<u32>;
@compute @workgroup_size(8) fn main(@builtin(local_invocation_index) i: u32) { out[i] = subgroupAdd(i); }`;

// The null device has subgroups of up to 128, and matrices want whole subgroups along x.
const MATRICES = `enable f16; enable subgroups; enable chromium_experimental_subgroup_matrix;
@compute @workgroup_size(128) fn main() {
  var a: subgroup_matrix_left<f16, 16, 16>;
  var b: subgroup_matrix_right<f16, 16, 16>;
  var sum: subgroup_matrix_result<f32, 16, 16>;
  sum = subgroupMatrixMultiplyAccumulate(a, b, sum);
}`;

describeGpu("the GPU of the tests", () => {
  it("is SwiftShader, unless the environment names another driver", async () => {
    const { info } = await softwareAdapter();
    if (process.env.VK_ICD_FILENAMES?.includes("nibble-swiftshader"))
      expect(info.architecture).toBe("swiftshader");
  });

  it("computes, with subgroups", async () => {
    const gpu = await softwareDevice();
    if (gpu.traits.subgroup === 4)
      expect([...(await compute(gpu.device, SUM, 8))]).toEqual([6, 6, 6, 6, 22, 22, 22, 22]);
    gpu.check();
  });

  it("can be had without its features", async () => {
    const gpu = await softwareDevice({ subgroups: false });
    expect(gpu.traits).toMatchObject({ subgroup: null, matrices: false });
    expect(gpu.device.features.has("subgroups")).toBe(false);
  });
});

describeGpu("the null device", () => {
  it("compiles f16 and subgroup matrices", async () => {
    const { device, traits } = await nullDevice();
    expect(traits).toBe(ALL_TRAITS);
    const module = device.createShaderModule({ code: MATRICES });
    await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
  });

  it("refuses what is no WGSL", async () => {
    const { device } = await nullDevice();
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ code: "fn main() { wrong }" });
    await expect(
      device.createComputePipelineAsync({ layout: "auto", compute: { module } }),
    ).rejects.toThrow();
    expect(await device.popErrorScope()).not.toBeNull();
  });
});
