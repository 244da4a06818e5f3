/**
 * Programs of real shapes on adapters that allow no more than WebGPU's defaults, and on one with what Dawn tells of Apple GPUs:
 * nothing that is bound is larger, no dispatch has more workgroups, every kernel compiles.
 */
import { expect, it } from "vitest";
import { kvCodec } from "../../../src/cache/codecs.ts";
import { batchOf } from "../../../src/device/webgpu/batch.ts";
import { type Dispatch, MODES } from "../../../src/device/webgpu/dispatch.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { openModel } from "../../../src/model/model.ts";
import { syntheticCheckpoint } from "../../../src/model/synthetic.ts";
import { describeGpu, lacksOfNull, nullDevice } from "./gpu.ts";
import { smallGraph } from "./graphs.ts";
import { pretended } from "./wrapped.ts";

const DEFAULTS = { maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 2 ** 27 };

/** Dawn on Metal, an M2 Max. */
const APPLE = {
  info: {
    ...{ vendor: "apple", architecture: "common-3", device: "", description: "Apple M2 Max" },
    ...{ subgroupMinSize: 32, subgroupMaxSize: 32, isFallbackAdapter: false },
    subgroupMatrixConfigs: ["f32", "f16"].map((type) => ({
      ...{ componentType: type, resultComponentType: type, M: 8, N: 8, K: 8 },
    })),
  },
  limits: {
    ...{ maxBufferSize: 2 ** 32 - 1, maxStorageBufferBindingSize: 2 ** 32 - 1 },
    ...{ maxStorageBuffersPerShaderStage: 10, maxComputeWorkgroupStorageSize: 32_768 },
  },
};

const ADAPTERS = {
  "the default limits": { info: { isFallbackAdapter: false }, limits: DEFAULTS },
  "Apple's limits": APPLE,
};

const SHAPES = [
  { shape: "llama-3.1-70b", kv: "int4", type: "q4_0" },
  { shape: "qwen-3-30b-a3b", kv: "rq4", type: "q4_k" },
  { shape: "gemma-3-4b", kv: "f16", type: "q8_0" },
] as const;

async function graphOf({ shape, kv, type }: (typeof SHAPES)[number]) {
  const model = await openModel(await syntheticCheckpoint(shape, { type, layers: 6 }));
  const options = { context: 16_384, texts: 3, maxTokens: 512, maxOutputs: 3, codec: kvCodec(kv) };
  return model.record(options);
}

describeGpu("an adapter with", () => {
  const each = Object.keys(ADAPTERS).flatMap((name) => SHAPES.map((which) => ({ name, ...which })));
  it.each(each)("$name serves $shape, $kv, $type", async ({ name, ...which }) => {
    const pretence = ADAPTERS[name as keyof typeof ADAPTERS];
    const { gpu } = await pretended(pretence);
    const { traits, bufferBytes } = await webgpuDevice(gpu);
    const graph = await graphOf(which);
    const { modes, sampling, buffers, allocated, stamp } = compileGraph(graph, traits, pretence.limits);
    const largest = Math.max(...buffers.map(({ bytes }) => bytes));
    expect(largest).toBeLessThanOrEqual(bufferBytes!);
    // Words are counted in 32 bits.
    expect(bufferBytes! % 16).toBe(0);
    const all: Dispatch[] = [...MODES.flatMap((mode) => modes[mode]), ...sampling.all, stamp];
    for (const { kernel, buffers: bound } of all)
      for (const [variable, buffer] of Object.entries(bound)) {
        expect(allocated(buffer).bytes, `${kernel.kernel}: ${variable}`).toBeLessThanOrEqual(bufferBytes!);
      }
    for (const tokens of [1, 8, 64, 512]) {
      const run = { text: 0, position: 15_000, ids: new Uint32Array(tokens), outputs: 1 };
      const { mode, shape } = batchOf(graph, { runs: [run] }, traits);
      for (const { kernel, workgroups } of modes[mode])
        for (const count of workgroups(shape) ?? [])
          expect(count, `${kernel.kernel}, ${tokens} tokens`).toBeLessThanOrEqual(65_535);
    }
    // Dawn's null backend has the default limits: 8 storage buffers, 16 KiB and 256 threads of a workgroup.
    const device = await nullDevice(traits);
    for (const { kernel } of all)
      await device.pipeline(kernel).catch((error: Error) => {
        if (!(lacksOfNull(error) && kernel.kernel.endsWith("8"))) throw error;
      });
    const kernels = new Set(all.map(({ kernel }) => kernel.kernel));
    const isApple = name === "Apple's limits";
    expect(kernels.has("attendDecodeMatrix8")).toBe(isApple && which.kv !== "f16");
    expect(kernels.has("attendPromptMatrix8")).toBe(isApple);
    expect(kernels.has("attendPrompt")).toBe(!isApple);
    expect(kernels.has("matmulUnpacked")).toBe(isApple);
    expect(kernels.has("matmulTile8")).toBe(isApple);
  });
});

describeGpu("on a device with the default limits", () => {
  it("a model runs", async () => {
    const { gpu, requests, devices } = await pretended({ backend: "software", limits: DEFAULTS });
    const graph = smallGraph(1, 64);
    const allocation = await (await webgpuDevice(gpu)).allocate(graph);
    await allocation.run({ runs: [{ text: 0, position: 0, ids: new Uint32Array(4), outputs: 1 }] });
    expect(await allocation.read(graph.logits, 0, 1)).toHaveLength(97);
    expect(requests[0].requiredLimits).toEqual({});
    expect(devices[0].limits).toMatchObject({ ...DEFAULTS, maxStorageBuffersPerShaderStage: 8 });
    await allocation.close();
  });
});
