/** Timing on the GPU of the tests: what is measured, not how long it takes. */
import { expect, it } from "vitest";
import type { Gpu } from "../../../src/device/webgpu/gpu.ts";
import { measureBandwidth, profileStep, type ReadyDispatch } from "../../../src/device/webgpu/profile.ts";
import { type Encode, timePasses } from "../../../src/device/webgpu/timing.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { packParams } from "../../../src/device/webgpu/wgsl.ts";
import { prepare } from "../../../src/engine/assemble.ts";
import { type BenchProfile, bench } from "../../../src/engine/bench.ts";
import { UnsupportedError } from "../../../src/format/errors.ts";
import { rowBytes } from "../../../src/format/tensor.ts";
import type { Shape } from "../../../src/model/shapes.ts";
import { syntheticCheckpoint } from "../../../src/model/synthetic.ts";
import { describeGpu, nullDevice, softwareDevice, softwareGpu } from "./gpu.ts";

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
    make(UNIFORM, Uint32Array.of(1, 0, 1, 0)),
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

const step = { tokens: 1, position: 3, outputs: 1 };
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
  it("counts each matrix and the cache once", async () => {
    const device = () => softwareGpu().then((gpu) => webgpuDevice(gpu));
    const options = { chunk: 16, context: 96 };
    const checkpoint = syntheticCheckpoint(TINY);
    const { sessions, allocation } = await prepare(checkpoint, device, options, async () => ({}));
    const [session] = sessions;
    try {
      const tests = { prompt: [16], generate: [1], depth: [40], repetitions: 1, profile: true };
      const profiles: BenchProfile[] = [];
      for await (const found of bench(session, tests)) if (found.kind === "profile") profiles.push(found);
      expect(profiles.map(({ step }) => step)).toEqual(["decode @ d40", "prompt chunk of 16 @ d40"]);
      const matrices = session.graph.weights.filter(
        ({ role, name }) => role === "matrix" && name !== "token_embd.weight",
      );
      const bytes = matrices.reduce((sum, { type, rows, cols }) => sum + rows * rowBytes(type, cols), 0);
      for (const { operations, us } of profiles) {
        expect(us).toBeGreaterThan(0);
        const of = (label: RegExp) =>
          operations.filter((row) => label.test(row.label)).reduce((sum, row) => sum + row.bytes, 0);
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
