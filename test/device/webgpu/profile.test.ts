/** Timing on the GPU of the tests: what is measured, not how long it takes. */
import { expect, it } from "vitest";
import type { Gpu } from "../../../src/device/webgpu/gpu.ts";
import { measureBandwidth, profileStep, type ReadyDispatch } from "../../../src/device/webgpu/profile.ts";
import { type Encode, timePasses } from "../../../src/device/webgpu/timing.ts";
import { packParams } from "../../../src/device/webgpu/wgsl.ts";
import { UnsupportedError } from "../../../src/format/errors.ts";
import { describeGpu, nullDevice, softwareDevice } from "./gpu.ts";

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
