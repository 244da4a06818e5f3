/** The conformance suite on the CPU device: both binaries; one memory and three; two threads and three, and one. */
import { beforeAll, describe, expect, it } from "vitest";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { caseError, operationsOf, type Runs, together } from "./case-runs.ts";
import { type DeviceCase, deviceCases, ordinaryCases, TOLERANCES } from "./device-cases.ts";
import { packedCases } from "./packed-cases.ts";
import { shareThreads } from "./shared-threads.ts";
import { turnedCases } from "./turned-cases.ts";

shareThreads();

const DEVICES = [
  { simd: "auto", threads: 2 },
  { simd: "plain", threads: 3, memory: { dealTo: 3 } },
  { simd: "auto", threads: 1 },
] as const;

/** What threads divide in another way when they are one; the rest of their work is the same, whatever the values. */
const DIVIDED = ["attend", "expertMatmul", "route", "gatedDelta", "conv"] as const;

describe.each(DEVICES)("wasm, $simd SIMD, $threads threads", (options) => {
  let runs: Runs;
  beforeAll(async () => {
    runs = together(await wasmDevice(options), cases);
  });
  const packed = [
    ...packedCases("k4c-v4r-n32", TOLERANCES.attendRq4),
    ...packedCases("k3c-v2r-n32", TOLERANCES.attendRq4, [2]),
    ...turnedCases("f16", TOLERANCES.attendF16),
    ...turnedCases("int4", TOLERANCES.attendInt4),
    ...turnedCases("rq4", TOLERANCES.attendRq4),
    ...turnedCases("k4c-v4r-n32", TOLERANCES.attendRq4),
  ];
  const isDivided = (testCase: DeviceCase) => {
    const operations = operationsOf(testCase);
    return DIVIDED.some((op) => operations.has(op));
  };
  const cases =
    options.threads > 1 ? [...deviceCases, ...packed] : [...ordinaryCases, ...packed].filter(isDivided);
  it.each(cases.map((c) => [c.name, c] as const))("%s", async (_, testCase) => {
    expect(await caseError(testCase, runs)).toBeLessThanOrEqual(testCase.tolerance);
  });
});
