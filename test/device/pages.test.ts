/** Pages and rows of several texts on the reference and the CPU device. */
import { describe, expect, it } from "vitest";
import type { Graph } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { footprintOf } from "../../src/device/wasm/program.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { pageCases, pageGraph } from "./page-cases.ts";
import { shareThreads } from "./shared-threads.ts";

shareThreads();

/** Of other bits and scales, and packed at once where the others are packed late. */
const OTHERS = ["k3c-v2r-n32", "k8r-v4c-n64-f32"];

describe.each(OTHERS)("%s", (kv) => {
  it.each(pageCases)("on the reference device: %s", (_, check) => check(referenceDevice(), kv));
});

describe.each(["k4c-v4r-n32", "k3c-v3r-n64-f32"])("%s", (kv) => {
  // What bits do not share.
  const cases = pageCases.filter(([name]) => kv.startsWith("k4c") || /^rows of|^what a page/.test(name));
  it.each(cases)("on the CPU device: %s", async (_, check) =>
    check(await wasmDevice({ threads: 2, memory: { dealTo: 3 } }), kv),
  );
});

describe.each(["f16", "int4", "rq4", "k4c-v4r-n32-f32", "k3c-v2r-n32"])(
  "%s, one vector for key and value",
  (kv) => {
    // What does not depend on what lies in a page was refused above.
    const cases = pageCases.filter(([name]) => !/refused/.test(name));
    it.each(cases)("on the CPU device: %s", async (_, check) =>
      check(await wasmDevice({ threads: 2, memory: { dealTo: 2 } }), kv, 16),
    );
  },
);

it("parts without kernels are refused", async () => {
  const device = await wasmDevice({ threads: 1 });
  expect(() => device.measure(pageGraph("k8r-v4c-n64"))).toThrow(
    "KV format k8r-v4c-n64 on the wasm device is not supported. Supported: f16, int4, rq4, and packed keys 4c, 3c, 2c with values 4r, 3r, 2r.",
  );
});

describe.each(["f16", "int4", "rq4"])("%s", (kv) => {
  it.each(pageCases)("on the reference device: %s", (_, check) => check(referenceDevice(), kv));
  // Caches and what is computed beside them lie in several memories, but for one format.
  const memory = kv === "int4" ? {} : { dealTo: kv === "f16" ? 2 : 3 };
  it.each(pageCases)("on the CPU device: %s", async (_, check) =>
    check(await wasmDevice({ threads: 2, memory }), kv),
  );

  it("caches are their pools' pages", () => {
    for (const measure of [referenceDevice().measure, (graph: Graph) => footprintOf(graph, 2)]) {
      const [one, three] = [1, 3].map((count) => pageGraph(kv, count));
      const ofPage = (graph: Graph) =>
        measure(graph).caches.map((bytes, i) => bytes / graph.caches[i].pool.pages);
      expect(ofPage(one)).toEqual(ofPage(three));
    }
  });
});
