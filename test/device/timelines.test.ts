/** Several timelines on the reference and the CPU device. */
import { describe, expect, it } from "vitest";
import type { Graph } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { footprintOf } from "../../src/device/wasm/program.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { timelineCases, timelineGraph } from "./timeline-cases.ts";

describe.each(["f16", "int4", "rq4"])("%s", (kv) => {
  it.each(timelineCases)("on the reference device: %s", (_, check) => check(referenceDevice(), kv));
  it.each(timelineCases)("on the CPU device: %s", async (_, check) =>
    check(await wasmDevice({ threads: 2 }), kv),
  );

  it("caches count for each, everything else once", () => {
    for (const measure of [referenceDevice().measure, (graph: Graph) => footprintOf(graph, 2)]) {
      const [one, three] = [1, 3].map((count) => measure(timelineGraph(kv, count)));
      expect(three.caches).toEqual(one.caches.map((bytes) => 3 * bytes));
      expect([three.weights, three.activations]).toEqual([one.weights, one.activations]);
      // Whole pages.
      expect(Math.abs(three.workspace - one.workspace)).toBeLessThan(65_536);
    }
  });
});
