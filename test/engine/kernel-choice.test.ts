/** Which set of kernels serves: the clearly faster one, remembered by adapter and kernels; whatever the file holds. */
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Allocation, Step } from "../../src/device/contract.ts";
import type { TraitOptions } from "../../src/device/webgpu/gpu.ts";
import { webgpuDevice } from "../../src/device/webgpu/webgpu.ts";
import { checkKernels, fastest, kernelSets, timeKernels } from "../../src/engine/kernel-choice.ts";
import { withKernels } from "../../src/engine/kernel-memory.ts";
import { openDevice } from "../../src/engine/load.ts";
import { ArgumentError, DeviceError } from "../../src/format/errors.ts";
import { ALL_TRAITS, describeGpu, NO_TRAITS } from "../device/webgpu/gpu.ts";
import { pretended } from "../device/webgpu/wrapped.ts";

describe("sets of kernels", () => {
  it("are those that the adapter has, matrices alone where there are some, one in software", () => {
    expect(kernelSets(ALL_TRAITS, false)).toEqual(["matrices"]);
    expect(kernelSets(NO_TRAITS, false)).toEqual(["dots", "floats"]);
    expect(kernelSets(NO_TRAITS, true)).toEqual(["dots"]);
    expect(checkKernels("floats", ALL_TRAITS)).toBe("floats");
    expect(() => checkKernels("matrices", NO_TRAITS)).toThrow(ArgumentError);
    expect(() => checkKernels("__proto__", NO_TRAITS)).toThrow("of this GPU: dots, floats");
  });

  it("are the first unless another is clearly faster", () => {
    expect(fastest(["dots", "floats"], { dots: 10, floats: 9.5 })).toBe("dots");
    expect(fastest(["dots", "floats"], { dots: 10, floats: 8 })).toBe("floats");
    expect(fastest(["dots", "floats"], { dots: 1, floats: 8 })).toBe("dots");
  });

  it("belong to GPUs", async () => {
    await expect(openDevice({ device: "cpu", kernels: "dots" })).rejects.toThrow(ArgumentError);
  });
});

describeGpu("the choice", () => {
  let folder = "";
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "nibble-kernels-"));
  });
  afterEach(() => rm(folder, { recursive: true }));

  const faster = { dots: 4, floats: 1 };
  async function choosing(kernels?: string, info: Partial<GPUAdapterInfo> = {}, ms = faster) {
    const { gpu } = await pretended({
      info: { isFallbackAdapter: false, ...info } as Partial<GPUAdapterInfo>,
    });
    const time = vi.fn(async () => ms);
    const open = (traits?: TraitOptions) => webgpuDevice(gpu, { traits: { matrices: false, ...traits } });
    const file = join(folder, "deep", "kernels.json");
    const device = await withKernels(open, { kernels, file, time });
    return { device, times: time.mock.calls.length };
  }
  const file = () => join(folder, "deep", "kernels.json");

  it("is timed once for an adapter and its driver", async () => {
    const first = await choosing();
    expect(first.times).toBe(1);
    expect(first.device.kernels).toEqual({ set: "floats", sets: ["dots", "floats"], ms: faster });
    expect(first.device.traits.floats).toBe(true);
    const second = await choosing();
    expect(second.times).toBe(0);
    expect(second.device.kernels).toEqual(first.device.kernels);
    expect((await choosing(undefined, { description: "driver 2" })).times).toBe(1);
    expect(Object.keys(JSON.parse(await readFile(file(), "utf8")))).toHaveLength(2);
  });

  it("may be said, and is not timed then", async () => {
    const { device, times } = await choosing("dots");
    expect(times).toBe(0);
    expect(device.kernels?.set).toBe("dots");
    expect(device.traits.floats).toBe(false);
    await expect(choosing("matrices")).rejects.toThrow(ArgumentError);
  });

  it.each([
    ["no JSON", "{"],
    ["no object", "[1]"],
    ["null", "null"],
    ["too much", `{"a":"${"x".repeat(70_000)}"}`],
  ])("is timed again where the file holds %s", async (_, text) => {
    await choosing();
    await writeFile(file(), text);
    expect((await choosing()).times).toBe(1);
    expect((await choosing()).times).toBe(0);
  });

  it.each([
    null,
    "floats",
    { dots: 1 },
    { dots: -1, floats: 1 },
    { dots: "1", floats: "0.1" },
    { dots: 1e9, floats: 1 },
    { ["__proto__"]: { dots: 1, floats: 1 } },
  ])("is timed again where the entry is %j", async (entry) => {
    await choosing();
    const [key] = Object.keys(JSON.parse(await readFile(file(), "utf8")));
    await writeFile(file(), JSON.stringify({ [key]: entry }));
    const { device, times } = await choosing();
    expect(times).toBe(1);
    expect(device.kernels?.set).toBe("floats");
  });

  it("is made without a file that can be read or written", async () => {
    await symlink("/dev/null/nowhere", join(folder, "deep"));
    expect((await choosing()).device.kernels?.set).toBe("floats");
  });

  it("is the default where timing fails", async () => {
    const { gpu } = await pretended({ info: { isFallbackAdapter: false } as Partial<GPUAdapterInfo> });
    const time = () => Promise.reject(new DeviceError("gpu", "no"));
    const open = (traits?: TraitOptions) => webgpuDevice(gpu, { traits: { matrices: false, ...traits } });
    const device = await withKernels(open, { file: file(), time });
    expect(device.kernels).toEqual({ set: "dots", sets: ["dots", "floats"], ms: null });
  });

  it("is by the time of a small graph on each", async () => {
    const { gpu, devices } = await pretended();
    const open = (traits: TraitOptions) => webgpuDevice(gpu, { traits });
    const ms = await timeKernels(open, ["dots", "floats"], { layers: 1, cols: 256, context: 64, prompt: 0 });
    expect(Object.keys(ms)).toEqual(["dots", "floats"]);
    for (const time of Object.values(ms)) expect(time).toBeGreaterThan(0);
    for (const device of devices) expect((await device.lost).reason).toBe("destroyed");
  });

  it("is by a prompt, too, where sets differ in those", async () => {
    const sizes: number[] = [];
    const allocation = {
      run: async ({ runs }: Step) => void sizes.push(runs[0].ids.length),
      read: () => Promise.resolve(new Float32Array(1)),
      close: () => Promise.resolve(),
    } as unknown as Allocation;
    const open = () => Promise.resolve({ allocate: async () => allocation });
    const size = { layers: 1, cols: 256, context: 128, prompt: 96 };
    await timeKernels(open, ["floats", "dots"], size);
    expect(new Set(sizes)).toEqual(new Set([1]));
    const ms = await timeKernels(open, ["floats", "matrices8"], size);
    expect(new Set(sizes)).toEqual(new Set([1, 96]));
    expect(Object.keys(ms)).toEqual(["floats", "matrices8"]);
  });
});
