/** Every text of the cache's kernels that a model can ask for compiles, on Dawn's null backend and for any device. */
import { expect, it } from "vitest";
import type { Traits } from "../../../src/device/webgpu/gpu.ts";
import { KV_FORMATS } from "../../../src/device/webgpu/kv.ts";
import { ATTEND_DIMS, attendDispatchesOf } from "./attend-layer.ts";
import { ALL_TRAITS, compile, describeGpu, NO_TRAITS, nullDevice } from "./gpu.ts";

const PACKED = ["k4c-v4r-n32-f32", "k3c-v3r-n32"];
const PACKED_DIMS = [80, 512];
// Of attendPromptApart.
const APART_DIMS = [64, 128];

const TRAITS: [string, Traits][] = [
  ["nothing", NO_TRAITS],
  ["subgroups of 4", { ...NO_TRAITS, subgroup: 4 }],
  ["subgroups of 64", { ...NO_TRAITS, f16: true, subgroup: 64 }],
  ["all", ALL_TRAITS],
];

/**
 * The null device has half of the workgroup memory that matrix kernels may use, and subgroups of up to 128 lanes, of which
 * their workgroups should be multiples. It says so after all else is well.
 */
const MATRIX_BYTES = 32_768;
const LANES =
  /attendDecode(?:Matrix|Packed|Wide).*workgroup_size \(\d+\) must be a multiple of the device maxSubgroupSize/;

async function failure(compiled: Promise<unknown>): Promise<string | null> {
  try {
    await compiled;
    return null;
  } catch (error) {
    const { message } = error as Error;
    if (LANES.test(message)) return null;
    const bytes =
      /attend(?:DecodeMatrix|DecodePacked|DecodeWide|PromptMatrix|PromptApart).*workgroup storage \((\d+) bytes\)/.exec(
        message,
      )?.[1];
    return bytes !== undefined && Number(bytes) <= MATRIX_BYTES ? null : message;
  }
}

describeGpu("kernels of the cache compile", () => {
  it.each(TRAITS)("with %s", async (_, traits) => {
    const gpu = await nullDevice(traits);
    const packedDims = traits.matrices ? [...PACKED_DIMS, ...APART_DIMS] : PACKED_DIMS;
    for (const format of [...KV_FORMATS, ...(traits.matrices ? PACKED : PACKED.slice(0, 1))])
      for (const headDim of PACKED.includes(format) ? packedDims : ATTEND_DIMS)
        for (const group of [64, 128].includes(headDim) && !PACKED.includes(format) ? [1, 7, 16] : [16]) {
          const [window, softcap] = group === 1 ? [50, 20] : [null, 0];
          const plain = { format, heads: 2 * group, kvHeads: 2, headDim, pages: 128, window, softcap };
          // Gemma 4's, and one with half a group of dims.
          const turned = [0, ...(headDim === 512 ? [128] : headDim === 80 ? [48] : [])];
          for (const shape of turned.map((dims) => ({ ...plain, turned: dims })))
            for (const { kernel } of attendDispatchesOf(traits, shape))
              expect(await failure(compile(gpu, kernel)), JSON.stringify(kernel)).toBeNull();
        }
    gpu.check();
  });
});
