/** The conformance suite on WebGPU, in software, with some of the features that the adapter has. */
import { expect, it } from "vitest";
import type { TraitOptions } from "../../../src/device/webgpu/gpu.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { caseError, gpuTolerance } from "../case-runs.ts";
import type { DeviceCase } from "../device-cases.ts";
import { describeGpu } from "./gpu.ts";
import { sharedGpu } from "./shared.ts";

/**
 * Each case as a test of its own; why: the reason for which a case is skipped, or null. bench/conformance.ts runs all of them
 * on a real GPU, with every set of features.
 */
export function conform(
  name: string,
  traits: TraitOptions,
  cases: readonly DeviceCase[],
  why: (testCase: DeviceCase) => string | null = () => null,
): void {
  describeGpu(`device cases, ${name}`, () => {
    for (const testCase of cases) {
      const reason = testCase.onlyMatrices ? "needs subgroup matrices" : why(testCase);
      if (reason !== null) {
        it.skip(`${testCase.name} (${reason})`);
        continue;
      }
      it(testCase.name, async () => {
        const device = await webgpuDevice(await sharedGpu(), { traits });
        expect(await caseError(testCase, device)).toBeLessThanOrEqual(gpuTolerance(testCase));
      });
    }
  });
}
