/**
 * Plans against what is allocated, byte by byte: on the CPU the one memory and its regions, on the GPU every buffer that
 * the process asks WebGPU for, also those of steps, sampling and reading back.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { load } from "../../src/answer/load.ts";
import type { Device, Weight } from "../../src/device/contract.ts";
import type { Placed } from "../../src/device/wasm/program.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { COUNT_LABEL } from "../../src/device/webgpu/submits.ts";
import { webgpuDevice } from "../../src/device/webgpu/webgpu.ts";
import { type Plan, type PlannedDevice, planMemory } from "../../src/engine/plan.ts";
import { openCheckpoint } from "../../src/format/open.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { plannedCpu, plannedGpu } from "../../src/study/plan/planned.ts";
import { root } from "../app/nibble.ts";
import { describeGpu, softwareAdapter, softwareGpu } from "../device/webgpu/gpu.ts";
import { pretended } from "../device/webgpu/wrapped.ts";
import { goldenModel } from "../model/golden.ts";

const NEEDLE = `${root}models/needle-14m/needle-14m-Q8_0.gguf`;
const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);

let models: Record<string, Model>;
beforeAll(async () => {
  models = {
    needle: await openModel(await openCheckpoint(NEEDLE)),
    gemma3: await goldenModel("gemma3"),
    qwen2: await goldenModel("qwen2"),
  };
});
afterAll(() => Promise.all(Object.values(models).map(({ checkpoint }) => checkpoint.close())));
afterEach(() => vi.restoreAllMocks());

/** Model, KV format, context, chunk, texts at once. gemma3 has sliding layers, qwen2 biases. */
const CASES: [keyof typeof models, string, number, number, number][] = [
  ["needle", "int4", 2048, 64, 1],
  ["needle", "f16", 100, 128, 2],
  ["gemma3", "int4", 160, 7, 3],
  ["qwen2", "f16", 33, 33, 1],
];

function planned(model: Model, device: PlannedDevice, options: (typeof CASES)[number]): Plan {
  const [, kv, context, chunk, parallel] = options;
  return planMemory(model, device, { kv, context, chunk, parallel });
}

describe("the CPU device", () => {
  it.each(CASES)(
    "holds what the plan says: %s, %s, %i tokens, chunks of %i, %i texts",
    async (...options) => {
      const model = models[options[0]];
      const plan = planned(model, plannedCpu(2), options);
      const device = await wasmDevice({ threads: 2 });
      expect(planned(model, device, options).footprint).toEqual(plan.footprint);
      const allocation = (await device.allocate(plan.graph)) as Awaited<ReturnType<Device["allocate"]>> & {
        memories: WebAssembly.Memory[];
        placed: Placed;
      };
      try {
        expect(allocation.memories[0].buffer.byteLength).toBe(plan.totalBytes);
        const { weights, caches, arena } = allocation.placed.layouts[0];
        const { footprint } = plan;
        const regions = [...weights, ...caches];
        // Each begins where the one before it ends, at the next cache line.
        const ends = [...regions, arena].slice(1);
        const sizes = [...footprint.weights, ...footprint.caches];
        expect(regions.map((begin, i) => ends[i] - begin)).toEqual(
          sizes.map((bytes) => Math.ceil(bytes / 64) * 64),
        );
      } finally {
        await allocation.close();
      }
    },
  );
});

/** Every buffer that anything here makes from now on. */
function watchBuffers(): { label: string; size: number }[] {
  const made: { label: string; size: number }[] = [];
  const real = GPUDevice.prototype.createBuffer;
  vi.spyOn(GPUDevice.prototype, "createBuffer").mockImplementation(function (this: GPUDevice, descriptor) {
    made.push({ label: descriptor.label ?? "", size: descriptor.size });
    return real.call(this, descriptor);
  });
  return made;
}

describeGpu("a GPU", () => {
  it.each(CASES)(
    "holds what the plan says: %s, %s, %i tokens, chunks of %i, %i texts",
    async (...options) => {
      const model = models[options[0]];
      // Computes nothing: what is asked of it is the same, and compiling a model's kernels in software takes seconds.
      const device = await webgpuDevice((await pretended()).gpu, { traits: { f16: false, few: 1 } });
      const made = watchBuffers();
      const plan = planned(model, device, options);
      expect(made).toEqual([]);
      const allocation = await device.allocate(plan.graph);
      try {
        const labelled = (pattern: RegExp) =>
          sum(made.filter(({ label }) => pattern.test(label)).map((b) => b.size));
        expect(labelled(/^(keys|values) of layer \d+$/)).toBe(plan.cacheBytes);
        expect(
          sum(made.filter(({ label }) => namesWeight(label, plan.graph.weights)).map((b) => b.size)),
        ).toBe(plan.weightBytes);
        // What texts do: read, let the device choose, look at candidates.
        const { logits } = plan.graph;
        const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 1, draw: 0 };
        const run = (ids: readonly number[], position: number, chooses: boolean) =>
          allocation.run({
            runs: [
              {
                ...{ text: 0, position, ids: Uint32Array.from(ids), outputs: 1 },
                sampling: chooses ? sampling : null,
              },
            ],
          });
        await run([1, 2, 3], 0, false);
        await allocation.read(logits, 0, 1);
        for (let i = 0; i < 4; i++) await (await run([5], 3 + i, true)).chosen;
        await allocation.candidates!(0, 40);
        const total = sum(made.map(({ size }) => size));
        expect(Math.abs(total / plan.totalBytes - 1)).toBeLessThan(0.02);
        const before = made.length;
        await run([4], 7, false);
        await allocation.read(logits, 0, 1);
        // How long steps take decides whether they are counted.
        const more = made.slice(before).filter(({ label }) => label !== COUNT_LABEL);
        expect(more.map(({ label }) => label)).toEqual([]);
      } finally {
        await allocation.close();
      }
    },
  );

  it("that is not here is planned as if it were", async () => {
    const { limits } = await softwareAdapter();
    const bufferBytes = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
    const device = await webgpuDevice(await softwareGpu());
    const traits = {
      f16: false,
      subgroup: 4,
      matrices: false,
      timestamps: false,
      few: 1,
      several: 1,
      batch: 1,
    };
    for (const options of CASES) {
      const model = models[options[0]];
      const here = planned(model, device, options);
      expect(planned(model, plannedGpu(traits, bufferBytes), options).footprint).toEqual(here.footprint);
      // Other features change the activations alone.
      const typical = planned(model, plannedGpu(), options);
      expect([typical.weightBytes, typical.cacheBytes]).toEqual([here.weightBytes, here.cacheBytes]);
    }
  });
});

function namesWeight(label: string, weights: readonly Weight[]): boolean {
  const names = label.replace(/^(scales|bias) of /, "").split(", ");
  return names.every((name) => weights.some((weight) => weight.name === name));
}

describe("loading", () => {
  it("holds the context that was asked for, and gives no other", async () => {
    const model = await load(NEEDLE, { device: "cpu", context: 1000, kv: "f16", threads: 1 });
    expect(model.plan).toMatchObject({ context: 1000, kv: "f16" });
    await model.close();
    await expect(load(NEEDLE, { device: "cpu", context: 40_000, threads: 1 })).rejects.toThrow(
      /context is 40000; allowed: integers 1 to 32768/,
    );
  });
});
