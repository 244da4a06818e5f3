/** Every text of the cache's kernels that a model can ask for compiles, on Dawn's null backend and for any device. */
import { expect, it } from "vitest";
import { cacheCapacity } from "../../../src/cache/layers.ts";
import type { Traits } from "../../../src/device/webgpu/gpu.ts";
import { KV_FORMATS } from "../../../src/device/webgpu/kv.ts";
import { ATTEND_DIMS, attendDispatchesOf } from "./attend-layer.ts";
import { ALL_TRAITS, describeGpu, nullDevice } from "./gpu.ts";

const TRAITS: [string, Traits][] = [
  ["nothing", { f16: false, subgroup: null, matrices: false, timestamps: false }],
  ["subgroups of 4", { f16: false, subgroup: 4, matrices: false, timestamps: false }],
  ["subgroups of 64", { f16: true, subgroup: 64, matrices: false, timestamps: false }],
  ["all", ALL_TRAITS],
];

/**
 * The null device has half of the workgroup memory that matrix kernels may use, and subgroups of up to 128 lanes, of which
 * their workgroups should be multiples. It says so after all else is well.
 */
const MATRIX_BYTES = 32_768;
const LANES = /attendDecodeMatrix.*workgroup_size \(\d+\) must be a multiple of the device maxSubgroupSize/;

async function failure(compiled: Promise<unknown>): Promise<string | null> {
  try {
    await compiled;
    return null;
  } catch (error) {
    const { message } = error as Error;
    if (LANES.test(message)) return null;
    const bytes = /attend(?:Decode|Prompt)Matrix.*workgroup storage \((\d+) bytes\)/.exec(message)?.[1];
    return bytes !== undefined && Number(bytes) <= MATRIX_BYTES ? null : message;
  }
}

describeGpu("kernels of the cache compile", () => {
  it.each(TRAITS)("with %s", async (_, traits) => {
    const gpu = await nullDevice(traits);
    for (const format of KV_FORMATS)
      for (const headDim of ATTEND_DIMS)
        for (const group of headDim > 128 ? [4] : [1, 7, 16]) {
          const [window, softcap] = group === 1 ? [50, 20] : [null, 0];
          const capacity = cacheCapacity(4096, 64, window);
          const shape = { format, heads: 2 * group, kvHeads: 2, headDim, capacity, window, softcap };
          for (const { kernel } of attendDispatchesOf(traits, shape))
            expect(await failure(gpu.pipeline(kernel)), JSON.stringify(kernel)).toBeNull();
        }
    gpu.check();
  });
});
