/**
 * Random graphs on WebGPU against the reference: operations in orders and combinations that no model has, so that fusion
 * and shared buffers meet what they were not written for.
 */
import { it } from "vitest";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { checkRandomGraphs } from "../random-graph.ts";
import { describeGpu, softwareGpu } from "./gpu.ts";

describeGpu("random graphs", () => {
  it("give what the reference gives", async () => {
    // Steps of five rows are prompts, those of three are few.
    await checkRandomGraphs(await webgpuDevice(await softwareGpu(), { traits: { few: 3 } }), 12);
  });
});
