/** The conformance suite on the CPU device: both binaries, one thread and several. */
import { beforeAll, describe, expect, it } from "vitest";
import type { Device } from "../../src/device/contract.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { caseError, deviceCases } from "./device-cases.ts";

const DEVICES = [
  { simd: "auto", threads: 2 },
  { simd: "plain", threads: 3 },
  { simd: "auto", threads: 1 },
] as const;

describe.each(DEVICES)("wasm, $simd SIMD, $threads threads", (options) => {
  let device: Device;
  beforeAll(async () => {
    device = await wasmDevice(options);
  });
  it.each(deviceCases.map((c) => [c.name, c] as const))("%s", async (_, testCase) => {
    expect(await caseError(testCase, device)).toBeLessThanOrEqual(testCase.tolerance);
  });
});
