/** Footprints for texts of other lengths, which are computed without compiling, against those of compiled graphs. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { layerFormats } from "../../src/cache/format-layers.ts";
import type { Footprint, Graph } from "../../src/device/contract.ts";
import { sameButPages } from "../../src/device/same-but-pages.ts";
import type { PlannedBuffer } from "../../src/device/webgpu/dispatch.ts";
import type { Traits } from "../../src/device/webgpu/gpu.ts";
import { Measuring } from "../../src/device/webgpu/measure.ts";
import { ModeCompiler } from "../../src/device/webgpu/mode.ts";
import { compileGraph } from "../../src/device/webgpu/program.ts";
import type { ProgramSizes } from "../../src/device/webgpu/sizes.ts";
import { planContext } from "../../src/engine/plan.ts";
import type { Model } from "../../src/model/model.ts";
import { plannedGpu } from "../../src/study/plan/planned.ts";
import { ALL_TRAITS, NO_TRAITS } from "../device/webgpu/gpu.ts";
import { goldenModel } from "../model/golden.ts";

const FORMATS = ["f16", "int4", "rq4", "kv4", "kv3"];
/** Around pages, the packed cache's newest tokens, and spans that fill the device; the first one is compiled. */
const CONTEXTS = [40_000, 513, 1500, 9000, 300_000];
/** With windows, layers that share caches, one vector for key and value, states, experts, sinks, and ropes by length. */
const MODELS = ["llama", "gemma3", "gemma4-e2b", "gemma4-moe", "qwen3_5", "gpt_oss", "phi3-longrope"];
const LIMITS = { maxBufferSize: 2 ** 31 - 4, maxStorageBufferBindingSize: 2 ** 31 - 4 };
const EIGHTS: Traits = {
  ...{ ...ALL_TRAITS, matrices: false, matrices8: true, floats: true },
  ...{ few: 8, several: 8, batch: 8 },
};

const NOTHING: Footprint = { weights: [], caches: [], states: [], activations: 0, workspace: 0, total: 0 };
const device = { ...plannedGpu(), measure: () => NOTHING };

/** The graph of a plan. */
function graphOf(model: Model, kv: string, context: number, texts = 1, chunk = 512): Graph {
  return planContext(model, device, { context, kv, parallel: texts, chunk }).graph;
}

/** Activations with their bytes, for the program's graph or another one. */
function livesFor({ lives, paged }: ProgramSizes, graph?: Graph) {
  const bytesOf = ({ id, bytes }: PlannedBuffer) => (graph && paged.get(id)?.(graph)) ?? bytes;
  return lives.map((mode) => mode.map(({ buffer, first, last }) => [first, last, bytesOf(buffer)]));
}

afterEach(() => vi.restoreAllMocks());

describe("footprints", () => {
  it.each(MODELS)("of other lengths are those of compiled graphs: %s", async (family) => {
    const model = await goldenModel(family);
    for (const [i, kv] of FORMATS.entries()) {
      const traits = [ALL_TRAITS, NO_TRAITS, { ...ALL_TRAITS, short: 2048, threads: 512 }, EIGHTS][i % 4];
      const measuring = new Measuring(traits, LIMITS);
      let first: ProgramSizes | null = null;
      for (const context of CONTEXTS) {
        const graph = graphOf(model, kv, context, 1 + (i % 3), [512, 16, 8, 64, 16][i]);
        const program = compileGraph(graph, traits, LIMITS);
        first ??= program.sizes;
        const where = `${kv} ${context}`;
        expect(measuring.footprint(graph), where).toEqual(program.footprint);
        // Slots hide differences: small activations share those of large ones.
        expect(livesFor(first, graph), where).toEqual(livesFor(program.sizes));
      }
    }
    await model.checkpoint.close();
  });

  it("are computed without compiling again", async () => {
    const model = await goldenModel("gemma3");
    const measuring = new Measuring(ALL_TRAITS, LIMITS);
    const compiled = vi.spyOn(ModeCompiler.prototype, "compile");
    const graph = graphOf(model, "kv4", 40_000);
    measuring.footprint(graph);
    const once = compiled.mock.calls.length;
    expect(once).toBeGreaterThan(0);
    measuring.footprint(graphOf(model, "kv4", 5000));
    expect(measuring.program(graph).modes.decode.length).toBeGreaterThan(0);
    expect(compiled.mock.calls.length).toBe(once);
    // A program is not kept after it was taken.
    measuring.program(graph);
    expect(compiled.mock.calls.length).toBe(2 * once);
    await model.checkpoint.close();
  });
});

describe("graphs", () => {
  it("are the same but for their pages, or not", async () => {
    const model = await goldenModel("qwen3_5");
    const graph = graphOf(model, "kv3", 4096);
    expect(sameButPages(graph, graphOf(model, "kv3", 8192))).toBe(true);
    const qwen3 = await goldenModel("qwen3");
    for (const other of [
      graphOf(model, "kv4", 4096),
      graphOf(model, "kv3", 4096, 2),
      graphOf(model, "kv3", 100),
      graphOf(qwen3, "kv3", 4096),
    ])
      expect(sameButPages(graph, other)).toBe(false);
    await qwen3.checkpoint.close();
    const changes: Partial<Graph>[] = [
      { maxTokens: 511 },
      { labels: new Map([["hidden.1", graph.values[1]]]) },
      { logits: graph.values[1] },
      { ops: graph.ops.slice(1) },
      { ops: graph.ops.with(0, graph.ops[1]) },
      { values: graph.values.with(3, { ...graph.values[3], cols: 7 }) },
      { weights: graph.weights.with(2, { ...graph.weights[2], type: "q6_k" }) },
      { pools: graph.pools.with(0, { ...graph.pools[0], window: 32 }) },
      { caches: graph.caches.with(0, { ...graph.caches[0], codec: layerFormats("f16").codecs[0] }) },
      { states: graph.states.with(0, { ...graph.states[0], values: 5 }) },
      {
        ropes: graph.ropes.with(0, { ...graph.ropes[0], frequencies: graph.ropes[0].frequencies.with(0, 2) }),
      },
      { recentPool: null },
    ];
    for (const change of changes)
      expect(sameButPages(graph, { ...graph, ...change }), Object.keys(change)[0]).toBe(false);
    await model.checkpoint.close();
  });
});
