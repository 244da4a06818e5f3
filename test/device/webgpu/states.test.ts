/** Slots of recurrent states on WebGPU. */
import { it } from "vitest";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { slotCases } from "../slot-cases.ts";
import { describeGpu, softwareGpu } from "./gpu.ts";

describeGpu("states", () => {
  it.each(slotCases)("%s", async (_, check) => check(await webgpuDevice(await softwareGpu())));
});
