/** The conformance suite on WebGPU, in software, with some of the features that the adapter has. */
import { expect, it } from "vitest";
import type { TraitOptions } from "../../../src/device/webgpu/gpu.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { caseError, type DeviceCase, deviceCases, gpuTolerance } from "../device-cases.ts";
import { describeGpu, softwareGpu } from "./gpu.ts";

/** Device cases as tests of their own. bench/conformance.ts runs them on a real GPU, with every set of features. */
export function conform(
  name: string,
  traits: TraitOptions,
  cases: readonly DeviceCase[] = deviceCases,
): void {
  describeGpu(`device cases, ${name}`, () => {
    it.each(cases.map((testCase) => [testCase.name, testCase] as const))("%s", async (_, testCase) => {
      const device = await webgpuDevice(await softwareGpu(), { traits });
      expect(await caseError(testCase, device)).toBeLessThanOrEqual(gpuTolerance(testCase));
    });
  });
}
