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
import { fewRows, smallAttend } from "./small-attend.ts";

/** Sums in another order; rotations of rq4 and of packed values, too. */
const TOLERANCE = 1e-5;

const CASES: [string, boolean, DeviceCase][] = [
  ["int4", false, smallAttend("int4")],
  ["rq4", true, smallAttend("rq4")],
  ["packed, heads of 80", true, { ...packedCases("k3c-v3r-n32", 0, [2])[0], steps: fewRows(20, 1) }],
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
