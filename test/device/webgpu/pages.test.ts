/** Pages and rows of several texts on a GPU in software. */
import { it } from "vitest";
import { KV_FORMATS } from "../../../src/device/webgpu/kv.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { pageCases } from "../page-cases.ts";
import { describeGpu } from "./gpu.ts";
import { sharedGpu } from "./shared.ts";

/** packed.test.ts has what attends to their pages. */
const PACKED = ["k4c-v4r-n32-f32"];

describeGpu("pages on a GPU", () => {
  const cases = [...KV_FORMATS, ...PACKED].flatMap((kv) =>
    pageCases
      // What formats do not share.
      .filter(
        ([name]) =>
          kv === "int4" ||
          name.startsWith("what a page holds") ||
          (kv === "f16" && name.startsWith("rows of several texts")),
      )
      .map(([name, check]) => [kv, name, check] as const),
  );
  it.each([...KV_FORMATS, ...PACKED])("%s, one vector for key and value: what a page holds", async (kv) => {
    for (const [name, check] of pageCases)
      if (name.startsWith("what a page holds")) await check(await webgpuDevice(await sharedGpu()), kv, 16);
  });

  it.each(cases)("%s: %s", async (kv, _, check) => {
    // Steps of a few rows, and of many.
    await check(await webgpuDevice(await sharedGpu(), { traits: { few: kv === "int4" ? 4 : 1 } }), kv);
  });
});
