/** Attention by 8x8x8 matrices of float32 on a software GPU that has none (emulated-matrices.ts), against the reference. */
import { expect, it } from "vitest";
import { kvCodec } from "../../../src/cache/codecs.ts";
import type { Device } from "../../../src/device/contract.ts";
import { Recorder } from "../../../src/device/recorder.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { caseError } from "../case-runs.ts";
import { type DeviceCase, ordinaryCases } from "../device-cases.ts";
import { packedCases } from "../packed-cases.ts";
import { emulatedDevice } from "./emulated-device.ts";
import { emulatedMatrices } from "./emulated-matrices.ts";
import { describeGpu, NO_TRAITS, nullDevice } from "./gpu.ts";
import { fewRows, smallAttend } from "./small-attend.ts";

const TRAITS = { ...NO_TRAITS, subgroup: 32, matrices8: true, floats: true, few: 8 };

const BUFFERS = { maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 2 ** 27 };

const attend = (named: string, steps: DeviceCase["steps"]): DeviceCase => ({
  ...ordinaryCases.find(({ name }) => name.includes(`attend ${named}`))!,
  steps,
});
const CASES: [string, DeviceCase][] = [
  ["int4, 16 heads of 64, a window", attend("int4, 16/1 heads of 64", fewRows(8, 2))],
  ["rq4, heads of 80", attend("rq4, 3/3 heads of 80", fewRows(14, 1))],
  ["packed, heads of 128", { ...packedCases("k3c-v3r-n32", 0, [1])[0], steps: fewRows(20, 1) }],
];

/** SwiftShader compiles these for 6 to 12 s: they are run by hand when the kernel changes. */
const IS_ASKED = process.env.NIBBLE_EMULATE !== undefined;

describeGpu("attendDecodeMatrix8", () => {
  const error = (testCase: DeviceCase) =>
    caseError(testCase, emulatedDevice(TRAITS, /8$/, emulatedMatrices) as Device);

  // Sums in another order, and rotations.
  it("int4, 11 heads of 32, a window and a soft cap", async () => {
    expect(await error(smallAttend("int4"))).toBeLessThanOrEqual(1e-5);
  });

  it.skipIf(!IS_ASKED).each(CASES)(
    `%s${IS_ASKED ? "" : " (slow: only with NIBBLE_EMULATE=1)"}`,
    async (_, testCase) => {
      expect(await error(testCase)).toBeLessThanOrEqual(1e-5);
    },
    600_000,
  );

  it.each(["int4", "rq4", "k4c-v4r-n32-f32"])("is true WGSL with matrices: %s", async (kv) => {
    const op = new Recorder(1, 1);
    const pool = op.pool(null, 1);
    const cache = op.cache({ layer: 0, codec: kvCodec(kv), kvHeads: 1, headDim: 128, pool });
    const x = op.embed(op.weight("table", "matrix", "f32", 2, 128));
    op.appendKv(cache, x, x);
    const attended = op.attend(cache, x, { heads: 1, scale: 1, softcap: 2 });
    if (cache.codec.packed) op.recentPool(1);
    const { modes } = compileGraph(op.finish(attended, { blocks: 1 }), TRAITS, BUFFERS);
    const { kernel } = modes.decode.find(({ kernel }) => kernel.kernel === "attendDecodeMatrix8")!;
    // The null backend's subgroups have up to 128 lanes, of which matrices want whole ones in a workgroup.
    await expect((await nullDevice(TRAITS)).pipeline(kernel)).rejects.toThrow(
      "must be a multiple of the device maxSubgroupSize (128)",
    );
  });
});

describeGpu("matmulTile8", () => {
  it("q4_0: odd rows and tokens", async () => {
    const product = ordinaryCases.find(({ name }) => name === "matmul q4_0 35x96, 5 tokens")!;
    // Prompts from two rows on.
    const device = emulatedDevice({ ...TRAITS, few: 1, several: 1, batch: 1 }, /8$/, emulatedMatrices);
    const odd = { ...product, steps: [33] };
    expect(await caseError(odd, device as Device)).toBeLessThanOrEqual(2e-6);
  });
});
