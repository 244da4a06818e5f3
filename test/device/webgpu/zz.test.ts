import { expect, it } from "vitest";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { caseError, deviceCases, gpuTolerance } from "../device-cases.ts";
import { describeGpu, softwareGpu } from "./gpu.ts";

describeGpu(`zz`, () => {
  it.each(
    deviceCases
      .filter((c) => /matmul.*[35] tokens|two mat|bias|attend int4/.test(c.name))
      .map((t) => [t.name, t] as const),
  )("%s", async (_, t) => {
    const device = await webgpuDevice(await softwareGpu(), {});
    expect(await caseError(t, device)).toBeLessThanOrEqual(gpuTolerance(t));
  });
});
