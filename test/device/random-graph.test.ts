/**
 * Random graphs on the CPU device against the reference. Many small operations on more threads than cores find what a
 * model's regular order hides: a meeting of the threads that is missing, or a value written over too early.
 */
import { it } from "vitest";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { checkRandomGraphs } from "./random-graph.ts";
import { shareThreads } from "./shared-threads.ts";

shareThreads();

it("random graphs give what the reference gives", async () => {
  await checkRandomGraphs(await wasmDevice({ threads: 3 }), 40);
});

it("so do graphs whose products take codes of their inputs", async () => {
  await checkRandomGraphs(await wasmDevice({ threads: 3 }), 25, "q8_0");
});

it("so do graphs whose parts are dealt out to three memories, between which most values cross", async () => {
  await checkRandomGraphs(await wasmDevice({ threads: 3, memory: { dealTo: 3 } }), 30);
});
