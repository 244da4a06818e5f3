/** Which rules of fusion fire for which models' graphs, and that nothing is joined before it is known or after it is needed. */
import { describe, expect, it } from "vitest";
import { kvCodec } from "../../../src/cache/codecs.ts";
import type { Graph, Op, Value } from "../../../src/device/contract.ts";
import { inputsOf, outputOf } from "../../../src/device/facts.ts";
import { Recorder } from "../../../src/device/recorder.ts";
import { RULES, stagesOf } from "../../../src/device/webgpu/fusion.ts";
import type { Stage } from "../../../src/device/webgpu/stages.ts";
import { type Model, openModel } from "../../../src/model/model.ts";
import { shapedCheckpoint } from "../../../src/model/shaped.ts";
import { goldenModel } from "../../model/golden.ts";

const LAYERS = 6;

async function graphOf(shape: string): Promise<Graph> {
  return record(await openModel(await shapedCheckpoint(shape, { type: "q4_0", layers: LAYERS })));
}

async function goldenGraph(family: string): Promise<Graph> {
  const model = await goldenModel(family);
  try {
    return record(model);
  } finally {
    await model.checkpoint.close();
  }
}

function record(model: Model): Graph {
  return model.record({ context: 160, maxTokens: 64, maxOutputs: 1, codec: kvCodec("int4") });
}

/** What Qwen3-MoE's layers are made of behind attention, two of them. */
function mixture(): Graph {
  const op = new Recorder(4, 1);
  let x = op.embed(op.weight("table", "matrix", "q8_0", 97, 64));
  for (const layer of [0, 1]) {
    const normed = op.rmsNorm(x, null, 1e-6);
    const router = op.weight(`router ${layer}`, "matrix", "f32", 8, 64);
    const picks = op.route(op.matmul(normed, router), { k: 2, normalise: true });
    const product = (value: Value, name: string, rows: number) => {
      const weight = op.weight(`${name} ${layer}`, "matrix", "q8_0", 8 * rows, value === normed ? 64 : 32);
      return op.expertMatmul(value, picks, weight, { experts: 8 });
    };
    const gated = op.gate(product(normed, "gate", 32), product(normed, "up", 32), "silu");
    x = op.add(x, op.combine(product(gated, "down", 64), picks));
  }
  return op.finish(
    op.matmul(op.takeOutputs(op.rmsNorm(x, null, 1e-6)), op.weight("out", "matrix", "q8_0", 97, 64)),
  );
}

/** Operations that each rule saves a dispatch of their own. */
function saved(graph: Graph): Record<string, number> {
  return Object.fromEntries(
    RULES.map((rule) => [rule.name, graph.ops.length - stagesOf(graph, [rule]).length]),
  );
}

describe("rules", () => {
  it.each([
    // A layer: RoPE of k and q; q, k, v and gate with up; each addition with the norm behind it, but for the last, behind which
    // only the outputs' rows are taken.
    ["llama-3.1-8b", { appendKv: 12, matmuls: 18, experts: 0, addNorm: 11 }],
    ["qwen-2.5-7b", { appendKv: 12, matmuls: 18, experts: 0, addNorm: 11 }],
    // Norms of heads, too.
    ["qwen-3-4b", { appendKv: 24, matmuls: 18, experts: 0, addNorm: 11 }],
    // Norms of what is added, too.
    ["gemma-3-4b", { appendKv: 24, matmuls: 18, experts: 0, addNorm: 23 }],
  ])("of six layers of %s: %j", async (shape, wanted) => {
    expect(saved(await graphOf(shape))).toEqual(wanted);
  });

  it.each([
    // Experts' gate and up; the sum of a mixture in the norm behind it.
    ["qwen3_moe", 3, { appendKv: 12, matmuls: 6, experts: 3, addNorm: 8 }],
    // No norms of heads.
    ["gpt_oss", 4, { appendKv: 8, matmuls: 8, experts: 4, addNorm: 11 }],
    // Norms of values, and a factor behind each layer. The global layer has no v.
    ["gemma4-dense", 6, { appendKv: 30, matmuls: 17, experts: 0, addNorm: 29 }],
  ])("of golden %s, %d layers: %j", async (family, layers, wanted) => {
    const graph = await goldenGraph(family);
    expect(graph.ops.filter(({ op }) => op === "attend")).toHaveLength(layers);
    expect(saved(graph)).toEqual(wanted);
  });

  it("of a mixture of experts", () => {
    expect(saved(mixture())).toEqual({ appendKv: 0, matmuls: 0, experts: 2, addNorm: 4 });
  });
});

/** What a stage computes, in the order of its operations. */
function opsOf(stage: Stage, graph: Graph): readonly Op[] {
  const maker = (value: Value) => graph.ops.find((op) => outputOf(op) === value)!;
  const chain = (from: { x: Value }, to: Value): Op[] => {
    const ops: Op[] = [];
    for (let value = to; value !== from.x; value = inputsOf(ops[0])[0]) ops.unshift(maker(value));
    return ops;
  };
  switch (stage.kind) {
    case "matmul":
    case "experts":
      return stage.ops;
    case "append": {
      const queries = stage.queries ? chain(stage.queries, stage.queries.attend.queries) : [];
      const values = chain(stage.values, stage.op.values);
      return [...chain(stage.keys, stage.op.keys), ...values, ...queries, stage.op];
    }
    case "norm": {
      const { combine, addedNorm, sum, norm } = stage;
      const last = sum && maker(sum);
      const add = last?.op === "scale" ? maker(last.x) : null;
      return [combine, addedNorm, add, last, norm].filter((op) => op !== null);
    }
    case "single":
      return [stage.op];
  }
}

it.each(["llama-3.1-8b", "gemma-3-4b", "qwen-3-4b", "gemma4-moe", "a mixture"])(
  "%s: every operation is done once, after what it reads",
  async (name) => {
    const graph =
      name === "a mixture"
        ? mixture()
        : name === "gemma4-moe"
          ? await goldenGraph(name)
          : await graphOf(name);
    const stages = stagesOf(graph);
    const known = new Set<Value>();
    const done = new Set<Op>();
    for (const stage of stages)
      for (const op of opsOf(stage, graph)) {
        expect(done.has(op)).toBe(false);
        done.add(op);
        for (const value of inputsOf(op)) expect(known.has(value), op.op).toBe(true);
        const out = outputOf(op);
        if (out) known.add(out);
      }
    expect(done.size).toBe(graph.ops.length);
  },
);
