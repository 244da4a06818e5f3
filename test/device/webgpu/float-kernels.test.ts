/**
 * Attention of single rows by float arithmetic: it rounds nothing, so that it is the reference's but for the order of sums. Groups
 * of heads that are cut, head sizes with half a group of dims, windows, packed pages.
 */
import { expect, it } from "vitest";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { caseError } from "../case-runs.ts";
import { type DeviceCase, deviceCases } from "../device-cases.ts";
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

  // Picks of their own columns, biases; a type of each form of codes.
  it.each([
    "expertMatmul q4_0 6x35x96, 3 picks, bias, 1 tokens",
    "expertMatmul mxfp4 6x24x64, 4 picks of their own columns, bias, 3 tokens",
    "a mixture of experts: normed, routed, gated, combined, added",
  ])("in products of experts: %s", async (named) => {
    const testCase = deviceCases.find(({ name }) => name === named)!;
    const device = await webgpuDevice(await sharedGpu(), { traits: { floats: true, few: 8 } });
    expect(await caseError(testCase, device)).toBeLessThanOrEqual(2e-6);
  });
});
