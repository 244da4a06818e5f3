/** The conformance suite on WebGPU, in software, with some of the features that the adapter has. */
import { expect, it } from "vitest";
import type { TraitOptions } from "../../../src/device/webgpu/gpu.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { caseError, gpuTolerance } from "../case-runs.ts";
import type { DeviceCase } from "../device-cases.ts";
import { describeGpu } from "./gpu.ts";
import { sharedGpu } from "./shared.ts";

/** Spans that rows share in matrix kernels, which no software GPU has; attend.test.ts has those of the other kernels. */
const OF_MATRICES = "steps [420,7]";

/** Names of cases of one type of weights, of which a file may take some. */
export const OF_ONE_TYPE = /^(embed|matmul|expertMatmul) \w+( \d|$)/;

/** Each case as a test of its own. bench/conformance.ts runs all of them on a real GPU, with every set of features. */
export function conform(name: string, traits: TraitOptions, cases: readonly DeviceCase[]): void {
  describeGpu(`device cases, ${name}`, () => {
    const own = cases.filter(({ name }) => !name.includes(OF_MATRICES));
    it.each(own.map((c) => [c.name, c] as const))("%s", async (_, testCase) => {
      const device = await webgpuDevice(await sharedGpu(), { traits });
      expect(await caseError(testCase, device)).toBeLessThanOrEqual(gpuTolerance(testCase));
    });
  });
}
