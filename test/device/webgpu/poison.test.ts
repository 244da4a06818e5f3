/**
 * Cases of every kind of operation over buffers full of NaN (poison.ts). Those that compile fast have workgroup memory as browsers
 * have it, too, which finds nothing by itself; attention and experts would compile three times as long (24 -> 7 s). In browser.test.ts
 * a browser has it, over int4.
 */
import { afterAll, expect, it } from "vitest";
import { dawnGpu } from "../../../src/device/webgpu/dawn.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { caseError, gpuTolerance } from "../case-runs.ts";
import { type DeviceCase, ordinaryCases } from "../device-cases.ts";
import { describeGpu } from "./gpu.ts";
import { compilesLate } from "./late.ts";
import { IS_POISONED, poisoned, ZEROING_TOGGLES } from "./poison.ts";
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

const shared = new Map<boolean, Promise<Sharing>>();
afterAll(async () => {
  for (const sharing of shared.values()) await (await sharing).end();
});

function sharing(isZeroed: boolean): Promise<Sharing> {
  const made = shared.get(isZeroed) ?? dawnGpu({}, isZeroed ? ZEROING_TOGGLES : undefined).then(poisonedLate);
  shared.set(isZeroed, made);
  return made;
}

const poisonedLate = (gpu: GPU) => shareDevices(compilesLate(poisoned(gpu)));

describeGpu("over poisoned memory", () => {
  it.each(CASES.map((c) => [c.name, c] as const))("%s", async (_, testCase) => {
    const isFast = testCase.kv === undefined && !testCase.name.includes("experts");
    const { gpu } = await sharing(IS_POISONED || isFast);
    const device = await webgpuDevice(gpu, { traits: { few: 4 } });
    expect(await caseError(testCase, device)).toBeLessThanOrEqual(gpuTolerance(testCase));
  });
});
