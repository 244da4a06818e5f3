/**
 * The conformance suite on WebGPU, in software: every case with subgroups of 4, and again without subgroups, as on a
 * device that has none. bench/conformance.ts runs it on a real GPU with every set of features.
 */
import { expect, it } from "vitest";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { caseError, deviceCases, gpuTolerance } from "../device-cases.ts";
import { describeGpu, softwareGpu } from "./gpu.ts";

describeGpu("device cases, subgroups of 4", () => {
  it.each(deviceCases.map((testCase) => [testCase.name, testCase] as const))("%s", async (_, testCase) => {
    const device = await webgpuDevice(await softwareGpu());
    expect(await caseError(testCase, device)).toBeLessThanOrEqual(gpuTolerance(testCase));
  });
});

describeGpu("device cases, no subgroups", () => {
  it.each(deviceCases.map((testCase) => [testCase.name, testCase] as const))("%s", async (_, testCase) => {
    const device = await webgpuDevice(await softwareGpu(), { traits: { subgroups: false } });
    expect(await caseError(testCase, device)).toBeLessThanOrEqual(gpuTolerance(testCase));
  });
});
