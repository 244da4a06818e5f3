/** Timing on the GPU of the tests: what is measured, not how long it takes. */
import { expect, it } from "vitest";
import { kvCodec } from "../../../src/cache/codecs.ts";
import { measureBandwidth } from "../../../src/device/webgpu/bandwidth.ts";
import type { Gpu } from "../../../src/device/webgpu/gpu.ts";
import { packParams } from "../../../src/device/webgpu/params.ts";
import { profileStep, type ReadyDispatch } from "../../../src/device/webgpu/profile.ts";
import { type Encode, timePasses } from "../../../src/device/webgpu/timing.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { UnsupportedError } from "../../../src/format/errors.ts";
import { rowBytes } from "../../../src/format/tensor.ts";
import { openModel } from "../../../src/model/model.ts";
import type { Shape } from "../../../src/model/shapes.ts";
import { syntheticCheckpoint } from "../../../src/model/synthetic.ts";
import { PagedTexts } from "../paged.ts";
import { describeGpu, nullDevice, softwareDevice, softwareGpu } from "./gpu.ts";
import { stepOf } from "./products.ts";

const COLS = 4096;

/** `add` as the program would make it: out = a + b. */
async function addition(gpu: Gpu) {
  const { device } = gpu;
  const make = (usage: number, words: ArrayBufferView<ArrayBuffer> | number) => {
    const size = typeof words === "number" ? words * 4 : words.byteLength;
    const buffer = device.createBuffer({ size, usage: usage | GPUBufferUsage.COPY_DST });
    if (typeof words !== "number") device.queue.writeBuffer(buffer, 0, words);
    return buffer;
  };
  const { UNIFORM, STORAGE } = GPUBufferUsage;
  const buffers = [
    make(UNIFORM, packParams("add", { cols: COLS })),
    make(UNIFORM, uniform),
    make(STORAGE, new Float32Array(COLS).fill(1)),
    make(STORAGE, new Float32Array(COLS).fill(2)),
    make(STORAGE, COLS),
  ];
  const pipeline = await gpu.pipeline({ kernel: "add", values: {} });
  const group = device.createBindGroup({
    layout: gpu.bindLayout("add"),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return (label: string, runs: boolean, bytes?: number): ReadyDispatch => ({
    dispatch: {
      label,
      workgroups: ({ tokens }) => (runs ? [tokens * (COLS / 64), 1, 1] : null),
      bytes: bytes === undefined ? undefined : ({ tokens }) => tokens * bytes,
    },
    pipeline,
    group,
  });
}

const { shape: step, uniform } = stepOf(Uint32Array.of(0));
const small = { repetitions: 3, bandwidthBytes: 2 ** 20 };

describeGpu("a profile of dispatches", () => {
  it("has a row for each that the step needs, in order, and the memory's bandwidth", async () => {
    const gpu = await softwareDevice();
    const ready = await addition(gpu);
    const list = [ready("first", true, 500), ready("left out", false, 9), ready("second", true)];
    const profile = await profileStep(gpu, list, step, small);
    expect(profile.dispatches.map(({ label, bytes }) => [label, bytes])).toEqual([
      ["first", 500],
      ["second", 0],
    ]);
    for (const { us } of profile.dispatches) expect(us).toBeGreaterThan(0);
    expect(profile.us).toBeGreaterThan(0);
    expect(profile.readBytesPerSecond).toBeGreaterThan(0);
    expect(profile.copyBytesPerSecond).toBeGreaterThan(0);
    const again = await profileStep(gpu, list, step, small);
    expect(again.readBytesPerSecond).toBe(profile.readBytesPerSecond);
    gpu.check();
  });

  it("may have more passes than a set has queries", async () => {
    const gpu = await softwareDevice();
    const { dispatch, pipeline, group } = (await addition(gpu))("add", true);
    const encode: Encode = (pass) => {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...dispatch.workgroups(step)!);
    };
    const passes = Array.from({ length: 2100 }, (_, i): Encode => (i % 300 === 299 ? encode : () => {}));
    const us = await timePasses(gpu, passes, encode, 2);
    expect(us).toHaveLength(2100);
    for (let i = 299; i < 2100; i += 300) expect(us[i]).toBeGreaterThan(0);
    gpu.check();
  });

  it("is refused where there are no timestamps", async () => {
    const gpu = await nullDevice();
    await expect(timePasses(gpu, [() => {}], () => {}, 1)).rejects.toThrow(UnsupportedError);
  });
});

describeGpu("the bandwidth kernels", () => {
  it("run within the limits of the device, whatever size is asked", async () => {
    const gpu = await softwareDevice();
    for (const bytes of [1, 100_000])
      expect((await measureBandwidth(gpu, bytes)).readBytesPerSecond).toBeGreaterThan(0);
    gpu.check();
  });
});

const TINY: Shape = {
  family: "llama",
  ...{ layers: 2, hidden: 64, heads: 2, kvHeads: 1, headDim: 32, ffn: 96, vocab: 160 },
  ...{ trainedContext: 128, normEpsilon: 1e-6, ropeBase: 10_000, tied: false },
};

describeGpu("a profile of a model", () => {
  it("counts each matrix and the cache once, for one row, few and many", async () => {
    const model = await openModel(await syntheticCheckpoint(TINY));
    const codec = kvCodec("int4");
    const graph = model.record({ context: 96, maxTokens: 33, maxOutputs: 1, codec });
    const device = await webgpuDevice(await softwareGpu(), { traits: { few: 4 } });
    const allocation = await device.allocate(graph);
    try {
      for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
      const texts = new PagedTexts(allocation, graph);
      await texts.run([{ text: 0, ids: new Array(33).fill(1), outputs: 0 }]);
      texts.reserve(0, 5);
      const matrices = graph.weights.filter(
        ({ role, name }) => role === "matrix" && name !== "token_embd.weight",
      );
      const bytes = matrices.reduce((sum, { type, rows, cols }) => sum + rows * rowBytes(type, cols), 0);
      // Alone, as few, and as a prompt.
      for (const tokens of [1, 4, 5]) {
        const run = { text: 0, position: 33, ids: new Uint32Array(tokens), outputs: 1 };
        const { dispatches, us } = await allocation.profile!({ runs: [run] });
        expect(us).toBeGreaterThan(0);
        const of = (label: RegExp) =>
          dispatches.filter((row) => label.test(row.label)).reduce((sum, row) => sum + row.bytes, 0);
        // A device may pad rows.
        expect(of(/^matmul/)).toBeGreaterThanOrEqual(bytes);
        expect(of(/^matmul/)).toBeLessThan(2 * bytes);
        expect(of(/^attend/)).toBeGreaterThan(0);
      }
    } finally {
      await allocation.close();
    }
  });
});
