/** Cases of every kind of operation over buffers full of NaN, with workgroup memory as browsers have it (poison.ts). */
import { afterAll, expect, it } from "vitest";
import { dawnGpu } from "../../../src/device/webgpu/dawn.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { caseError, gpuTolerance } from "../case-runs.ts";
import { type DeviceCase, ordinaryCases } from "../device-cases.ts";
import { describeGpu } from "./gpu.ts";
import { compilesLate } from "./late.ts";
import { poisoned, ZEROING_TOGGLES } from "./poison.ts";
import { type Sharing, shareDevices } from "./sharing.ts";

const NAMES = [
  "embed q4_k",
  "rmsNorm of heads, f16 weight",
  ...["int4", "rq4", "f16"].map(
    (kv) => `appendKv, attend ${kv}, 4/2 heads of 64, steps [33,1,1], window null, softcap 0`,
  ),
  "a mixture of experts: normed, routed, gated, combined, added",
  "conv of 96 channels, kernel 4, silu, steps [1,1,1,2,1]",
  "gatedDelta of 4/2 heads of 16 x 16, tiled, steps [7,1]",
];
const CASES = NAMES.map((name): DeviceCase => ordinaryCases.find((known) => known.name === name)!);

let sharing: Sharing | null = null;
afterAll(() => sharing?.end());

describeGpu("over poisoned memory", () => {
  it.each(CASES.map((c) => [c.name, c] as const))("%s", async (_, testCase) => {
    sharing ??= shareDevices(compilesLate(poisoned(await dawnGpu({}, ZEROING_TOGGLES))));
    const device = await webgpuDevice(sharing.gpu, { traits: { few: 4 } });
    expect(await caseError(testCase, device)).toBeLessThanOrEqual(gpuTolerance(testCase));
  });
});
