/** The conformance suite on WebGPU, in software, with some of the features that the adapter has. */
import { expect, it } from "vitest";
import type { TraitOptions } from "../../../src/device/webgpu/gpu.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { caseError, gpuTolerance } from "../case-runs.ts";
import type { DeviceCase } from "../device-cases.ts";
import { describeGpu } from "./gpu.ts";
import { sharedGpu } from "./shared.ts";

/** All cases that a GPU in software can run, which takes five minutes of processor time instead of two. */
const IS_ALL = process.env.NIBBLE_ALL_CASES !== undefined;

const CODECS = ["f16", "int4", "rq4"];

/**
 * Why a case is left out where each shape of a cache has one format, the next shape the next one; null: it is there. SwiftShader
 * compiles a shape's attention for two to five seconds; bench/conformance.ts has each shape in every format. `first`: the first
 * shape's format. Files with other features begin with another, so that a shape has two of the three.
 */
export function otherFormat({ shape, kv = "" }: DeviceCase, first: number): string | null {
  if (shape === undefined || kv === CODECS[(shape + first) % CODECS.length]) return null;
  return `this shape has ${CODECS[(shape + first) % CODECS.length]} here`;
}

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
      const left = IS_ALL ? null : why(testCase);
      const reason = testCase.onlyMatrices ? "needs subgroup matrices" : left;
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
