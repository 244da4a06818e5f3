/** Several timelines on a GPU in software. */
import { it } from "vitest";
import { KV_FORMATS } from "../../../src/device/webgpu/kv.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { timelineCases } from "../timeline-cases.ts";
import { describeGpu, softwareGpu } from "./gpu.ts";

describeGpu("timelines on a GPU", () => {
  // Timelines are other bind groups, whatever the format; how a cache's bytes lie is each format's own.
  const cases = KV_FORMATS.flatMap((kv) =>
    timelineCases
      .filter(([name]) => kv === "int4" || name.startsWith("what a cache holds"))
      .map(([name, check]) => [kv, name, check] as const),
  );
  it.each(cases)("%s: %s", async (kv, _, check) => check(await webgpuDevice(await softwareGpu()), kv));
});
