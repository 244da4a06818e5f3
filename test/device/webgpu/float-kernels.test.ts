/**
 * Attention of single rows by float arithmetic: it rounds nothing, so that it is the reference's but for the order of sums. Groups
 * of heads that are cut, head sizes with half a group of dims, windows, packed pages.
 */
import { expect, it } from "vitest";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { caseError, gpuTolerance } from "../case-runs.ts";
import { type DeviceCase, ordinaryCases } from "../device-cases.ts";
import { packedCases } from "../packed-cases.ts";
import { describeGpu } from "./gpu.ts";
import { sharedGpu } from "./shared.ts";

/** Sums in another order; rotations of rq4 and of packed values, too. */
const TOLERANCE = 1e-5;

/** Few rows at a time, which all attend alone; the last step has one or as many. */
const steps = (count: number, last = 5) => [...new Array<number>(count).fill(5), last];
const attend = (named: string, more: Partial<DeviceCase>): DeviceCase => ({
  ...ordinaryCases.find(({ name }) => name.includes(`attend ${named}`))!,
  ...more,
});

const CASES: [string, boolean, DeviceCase][] = [
  ["int4, 16 heads of 64, a window", false, attend("int4, 16/1 heads of 64", { steps: steps(8) })],
  ["rq4, heads of 80", true, attend("rq4, 3/3 heads of 80", { steps: steps(14, 1) })],
  ["packed, heads of 80", true, { ...packedCases("k3c-v3r-n32", 0, [2])[0], steps: steps(20, 1) }],
];

describeGpu("float arithmetic", () => {
  it.each(CASES)("in attendDecode: %s", async (_, subgroups, testCase) => {
    const device = await webgpuDevice(await sharedGpu(), { traits: { floats: true, few: 8, subgroups } });
    expect(await caseError(testCase, device)).toBeLessThanOrEqual(TOLERANCE);
  });

  it("in products, beside experts, which have none", async () => {
    const mixture = ordinaryCases.find(({ name }) => name.startsWith("a mixture of experts"))!;
    const device = await webgpuDevice(await sharedGpu(), { traits: { floats: true, few: 8 } });
    expect(await caseError(mixture, device)).toBeLessThanOrEqual(gpuTolerance(mixture));
  });
});
