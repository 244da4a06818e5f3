/** Attention with subgroup matrices on a software GPU that has none (emulated-subgroups.ts), against the reference. */
import { expect, it } from "vitest";
import type { Device } from "../../../src/device/contract.ts";
import { caseError } from "../case-runs.ts";
import { type DeviceCase, deviceCases, TOLERANCES } from "../device-cases.ts";
import { packedCases } from "../packed-cases.ts";
import { turnedCases } from "../turned-cases.ts";
import { emulatedDevice } from "./emulated-device.ts";
import { emulatedSubgroups } from "./emulated-subgroups.ts";
import { ALL_TRAITS, describeGpu } from "./gpu.ts";

const of = (kv: string, name: RegExp) => deviceCases.find((c) => c.kv === kv && name.test(c.name))!;
const CASES: DeviceCase[] = [
  of("rq4", /4\/2 heads of 64, steps \[33,1,1\]/),
  of("int4", /4\/2 heads of 64, steps \[33,1,1\]/),
  ...packedCases("k4c-v4r-n32-f32", TOLERANCES.halfMatrices, [0]),
  ...packedCases("k3c-v3r-n32", TOLERANCES.halfMatrices, [1]),
  // Two groups of dims: lanes bring scales and zeros of the same channels.
  ...packedCases("k3c-v3r-n32", TOLERANCES.halfMatrices, [0]).map((each) => ({ ...each, steps: [97, 1] })),
  // attendPromptApart: heads of 128 and 64, with a window, with spans, and over more tokens than one maximum serves.
  ...["int4", "rq4", "f16"].flatMap((kv) => [
    { ...of(kv, /8\/2 heads of 128/), steps: [90, 25] },
    of(kv, /4\/1 heads of 128.*window 33/),
    { ...of(kv, /4\/2 heads of 64, steps \[33,1,1\]/), name: `${kv}, prompts, heads of 64`, steps: [90, 25] },
  ]),
  ...["int4", "f16"].map((kv) => of(kv, /4\/1 heads of 128, steps \[420/)),
  ...packedCases("k4c-v4r-n32-f32", TOLERANCES.halfMatrices, [7, 8]),
  ...packedCases("k4c-v4r-n32-f32", TOLERANCES.halfMatrices, [0]).map((each) => ({
    ...each,
    name: "k4c-v4r-n32-f32, prompts, heads of 64",
    steps: [70, 25],
  })),
  ...packedCases("k4c-v4r-n32", TOLERANCES.halfMatrices, [7]).map((each) => ({
    ...each,
    name: "k4c-v4r-n32, heads of 128, steps [420,40]",
    steps: [420, 40],
  })),
  // Tiles of 16 tokens, of which the last page's hold slots that no row sees.
  { ...of("int4", /heads of 256/), steps: [90, 25] },
  // attendDecodeWide: two subgroups with halves of the dims; four, over one vector for key and value; one, with its norms.
  ...["int4", "rq4"].map((kv) => of(kv, /12\/1 heads of 256/)),
  ...packedCases("k4c-v4r-n32", TOLERANCES.halfMatrices, [6]),
  ...["int4", "rq4", "k4c-v4r-n32"].flatMap((kv) => turnedCases(kv, TOLERANCES.halfMatrices, [1, 3])),
  // Over one vector for key and value rows that share have other kernels: the last step has several.
  ...["f16", "int4", "rq4", "k4c-v4r-n32", "k3c-v3r-n32"].flatMap((kv) =>
    turnedCases(kv, TOLERANCES.halfMatrices, [0, 1, 2]).map((each) => ({ ...each, steps: [90, 25] })),
  ),
];

/** SwiftShader compiles one of these for 15 s and more: they are run by hand when the kernels change. */
const IS_ASKED = process.env.NIBBLE_EMULATE !== undefined;

describeGpu(`matrix kernels${IS_ASKED ? "" : " (slow: only with NIBBLE_EMULATE=1)"}`, () => {
  it.skipIf(!IS_ASKED).each(CASES.map((c) => [c.name, c] as const))(
    "%s",
    async (_, testCase) => {
      const traits = { ...ALL_TRAITS, few: 1, several: 1, batch: 1 };
      const error = await caseError(
        testCase,
        emulatedDevice(traits, /^attend\w+(Matrix|Apart|Packed|Wide)$/, emulatedSubgroups) as Device,
      );
      expect(error).toBeLessThanOrEqual(TOLERANCES.halfMatrices);
    },
    600_000,
  );
});
