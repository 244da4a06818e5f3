/** Attention and products by 8x8x8 matrices of float32 on a software GPU that has none (emulated-matrices.ts), against the reference. */
import { expect, it } from "vitest";
import { kvCodec } from "../../../src/cache/codecs.ts";
import type { Device } from "../../../src/device/contract.ts";
import { Recorder } from "../../../src/device/recorder.ts";
import type { Traits } from "../../../src/device/webgpu/gpu.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { caseError } from "../case-runs.ts";
import { type DeviceCase, deviceCases, ordinaryCases } from "../device-cases.ts";
import { packedCases } from "../packed-cases.ts";
import { emulatedDevice } from "./emulated-device.ts";
import { emulatedMatrices } from "./emulated-matrices.ts";
import { describeGpu, lacksOfNull, NO_TRAITS, nullDevice } from "./gpu.ts";
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

/** Prompts from two rows on. */
const PROMPTS = { ...TRAITS, few: 1, several: 1, batch: 1 };
/** Head sizes of each split, each format; windows, several texts, spans of a packed cache. */
const PROMPT_CASES: [string, DeviceCase][] = [
  [
    "int4, heads of 64, several texts",
    attend("int4, 4/2 heads of 64, steps [[33,0,5]", [
      [33, 0, 5],
      [2, 40, 7],
    ]),
  ],
  ["rq4, heads of 256, a window", attend("rq4, 4/1 heads of 256", [40, 3])],
  ["f16, heads of 128, a soft cap", attend("f16, 4/2 heads of 128", [60, 4])],
  ["packed, heads of 96", packedCases("k3c-v3r-n32", 0, [5])[0]],
];

/** SwiftShader compiles these for 6 to 12 s: they are run by hand when the kernel changes. */
const IS_ASKED = process.env.NIBBLE_EMULATE !== undefined;

const error = (testCase: DeviceCase, traits: Traits = TRAITS) =>
  caseError(testCase, emulatedDevice(traits, /8$/, emulatedMatrices) as Device);

describeGpu("attendPromptMatrix8", () => {
  // A busy machine compiles both kernels of attention for a minute.
  it("int4, 11 heads of 32, a window and a soft cap", async () => {
    expect(await error({ ...smallAttend("int4"), steps: [70, 9] }, PROMPTS)).toBeLessThanOrEqual(1e-5);
  }, 600_000);

  it.skipIf(!IS_ASKED).each(PROMPT_CASES)(
    `%s${IS_ASKED ? "" : " (slow: only with NIBBLE_EMULATE=1)"}`,
    async (_, testCase) => {
      expect(await error(testCase, PROMPTS)).toBeLessThanOrEqual(1e-5);
    },
    600_000,
  );
});

describeGpu("attendDecodeMatrix8", () => {
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
    const op = new Recorder(2, 1);
    const pool = op.pool(null, 1);
    const cache = op.cache({ layer: 0, codec: kvCodec(kv), kvHeads: 1, headDim: 128, pool });
    const x = op.embed(op.weight("table", "matrix", "f32", 2, 128));
    op.appendKv(cache, x, x);
    const attended = op.attend(cache, x, { heads: 1, scale: 1, softcap: 2 });
    if (cache.codec.packed) op.recentPool(1);
    const { modes } = compileGraph(op.finish(attended, { blocks: 1 }), PROMPTS, BUFFERS);
    const device = await nullDevice(TRAITS);
    const decode = modes.decode.find(({ kernel }) => kernel.kernel === "attendDecodeMatrix8")!;
    // The null backend's subgroups have up to 128 lanes, of which matrices want whole ones in a workgroup.
    await expect(device.pipeline(decode.kernel)).rejects.toThrow(
      "must be a multiple of the device maxSubgroupSize (128)",
    );
    const prompts = modes.prompt.filter(({ kernel }) => kernel.kernel === "attendPromptMatrix8");
    expect(prompts.length).toBeGreaterThan(0);
    for (const { kernel } of prompts)
      await device.pipeline(kernel).catch((error: Error) => {
        if (!lacksOfNull(error)) throw error;
      });
  });
});

describeGpu("matmulTile8", () => {
  it("q4_0: odd rows and tokens", async () => {
    const product = ordinaryCases.find(({ name }) => name === "matmul q4_0 35x96, 5 tokens")!;
    expect(await error({ ...product, steps: [33] }, PROMPTS)).toBeLessThanOrEqual(2e-6);
  });

  const experts = (named: string) => error(deviceCases.find(({ name }) => name === named)!, PROMPTS);

  it("experts of q4_0, with a bias", async () => {
    expect(await experts("expertMatmul q4_0 6x35x96, 3 picks, bias, 40 tokens")).toBeLessThanOrEqual(2e-6);
  });

  it.skipIf(!IS_ASKED)("experts of q8_0, with columns of a pick's own (slow: NIBBLE_EMULATE=1)", async () => {
    const own = "expertMatmul q8_0 6x40x64, 2 picks of their own columns, 70 tokens";
    expect(await experts(own)).toBeLessThanOrEqual(2e-6);
  });
});
