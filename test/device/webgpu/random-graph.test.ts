/**
 * Random graphs on WebGPU against the reference: operations in orders and combinations that no model has, so that fusion
 * and shared buffers meet what they were not written for.
 */
import { it } from "vitest";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { checkRandomGraphs } from "../random-graph.ts";
import { describeGpu } from "./gpu.ts";
import { sharedGpu } from "./shared.ts";

describeGpu("random graphs", () => {
  it("give what the reference gives", async () => {
    // Steps of five rows are prompts, those of three are few.
    await checkRandomGraphs(await webgpuDevice(await sharedGpu(), { traits: { few: 3 } }), 12);
  });
});
