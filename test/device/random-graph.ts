/** Random graphs for property tests: any operations on any values, as far as shapes allow. */
import fc from "fast-check";
import { expect } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Device, Graph, Value } from "../../src/device/contract.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import type { TensorType } from "../../src/format/tensor.ts";
import { randomTensor } from "./random-tensor.ts";

/** Rows of the embedding tables. */
const IDS = 9;
const COLS = [64, 96, 224];
export const MAX_TOKENS = 5;
export const MAX_OUTPUTS = 2;

export interface Choice {
  kind:
    | "embed"
    | "rmsNorm"
    | "matmul"
    | "rope"
    | "gate"
    | "add"
    | "softcap"
    | "scale"
    | "slice"
    | "mixture"
    | "takeOutputs"
    | "attend"
    | "label";
  /** Which of the values so far are read. */
  a: number;
  b: number;
  cols: number;
}

/**
 * Any graph that the recorder allows: operations on values chosen among those there are. type: of matrices; ids' tables and
 * routers stay f32, so that rounding moves no pick at once.
 */
export function randomGraph(
  choices: readonly Choice[],
  last: number,
  keepLabels: boolean,
  type: TensorType = "f32",
): Graph {
  const op = new Recorder(MAX_TOKENS, MAX_OUTPUTS);
  const rope = op.ropeTable(Float64Array.of(1, 0.1));
  let weights = 0;
  const of = (type: TensorType) => (rows: number, cols: number) =>
    op.weight(`w${weights++}`, "matrix", type, rows, cols);
  const matrix = of(type);
  const exact = of("f32");
  const values: Value[] = [op.embed(exact(IDS, 64))];
  for (const { kind, a, b, cols } of choices) {
    const x = values[a % values.length];
    const like = values.filter((v) => v.rows === x.rows && v.cols === x.cols);
    const y = like[b % like.length];
    switch (kind) {
      case "embed":
        values.push(op.embed(exact(IDS, cols)));
        break;
      case "rmsNorm":
        values.push(op.rmsNorm(x, null, 1e-6));
        break;
      case "matmul":
        values.push(op.matmul(x, matrix(cols, x.cols)));
        break;
      case "rope":
        if (x.rows === "tokens") values.push(op.rope(x, 2, rope));
        break;
      case "gate":
        values.push(op.gate(x, y, "silu"));
        break;
      case "add":
        values.push(op.add(x, y));
        break;
      case "softcap":
        values.push(op.softcap(x, 5));
        break;
      case "scale":
        values.push(op.scale(x, 0.5));
        break;
      case "slice":
        values.push(op.slice(x, { groups: 2, from: a % (x.cols / 2 - 31), size: 32 }));
        break;
      case "mixture": {
        const experts = 4;
        const router = exact(experts, x.cols);
        const picks = op.route(op.matmul(x, router), { k: 2, normalise: b % 2 === 0 });
        const product = () => op.expertMatmul(x, picks, matrix(experts * cols, x.cols), { experts });
        values.push(op.combine(op.gate(product(), product(), "sigmoid"), picks));
        break;
      }
      case "takeOutputs":
        if (x.rows === "tokens") values.push(op.takeOutputs(x));
        break;
      case "attend": {
        if (x.rows !== "tokens") break;
        const head = { layer: 0, codec: kvCodec("f16"), kvHeads: 1, headDim: x.cols };
        const cache = op.cache({ ...head, pool: op.pool(null, 1) });
        op.appendKv(cache, x, y);
        values.push(op.attend(cache, y, { heads: 1, scale: 1 / x.cols }));
        break;
      }
      case "label":
        op.label(x, `label ${a % 3}`);
    }
  }
  return op.finish(values[last % values.length], { keepLabels });
}

const kinds: Choice["kind"][] = [
  ...(["embed", "rmsNorm", "matmul", "rope", "gate", "add", "softcap"] as const),
  ...(["scale", "slice", "mixture", "takeOutputs", "attend", "label"] as const),
];
/** One choice, at random. */
export const choice = fc.record({
  kind: fc.constantFrom(...kinds),
  a: fc.nat(1000),
  b: fc.nat(1000),
  cols: fc.constantFrom(...COLS),
});

/**
 * A lost row or a race is of the order of 1; rounding in another order, through gates and softmax, of 1e-4; activations in 8
 * bits, product upon product, of 0.1.
 */
const TOLERANCE = 1e-2;
const QUANTIZED_TOLERANCE = 0.5;

/** Fails on the first of `runs` random graphs on which the device differs from the reference. */
export async function checkRandomGraphs(
  device: Device,
  runs: number,
  type: TensorType = "f32",
): Promise<void> {
  const tolerance = type === "f32" ? TOLERANCE : QUANTIZED_TOLERANCE;
  const property = fc.asyncProperty(
    fc.array(choice, { minLength: 5, maxLength: 25 }),
    fc.nat(1000),
    fc.boolean(),
    async (choices, last, keepLabels) => {
      const graph = randomGraph(choices, last, keepLabels, type);
      const wanted = await run(graph, referenceDevice());
      const found = await run(graph, device);
      for (const [i, array] of wanted.entries()) {
        const rms = (x: Float32Array) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);
        // Gate upon gate leaves the range of float32, where no order of sums is right.
        if (!(rms(array) > 1e-12 && rms(array) < 1e12)) continue;
        expect(rms(array.map((v, k) => v - found[i][k]))).toBeLessThan(tolerance * rms(array));
      }
    },
  );
  await fc.assert(property, { numRuns: runs, seed: 1 });
}

async function run(graph: Graph, device: Device): Promise<Float32Array[]> {
  const allocation = await device.allocate(graph);
  try {
    for (const weight of graph.weights) {
      const { id, name, type, rows, cols } = weight;
      await allocation.load(weight, randomTensor(name, type, rows, cols, id));
    }
    // Where a device's table is not set, anything may lie.
    for (const pool of graph.pools) allocation.setPages(pool, 0, 0, [0]);
    const found: Float32Array[] = [];
    // The last step is the shorter one: rows beyond it hold what the first left.
    for (const [position, tokens, outputs] of [
      [0, MAX_TOKENS, MAX_OUTPUTS],
      [MAX_TOKENS, 3, 1],
    ]) {
      const ids = Uint32Array.from({ length: tokens }, (_, i) => (position + 2 * i) % IDS);
      await allocation.run({ runs: [{ text: 0, position, ids, outputs }] });
      for (const value of [graph.logits, ...graph.labels.values()])
        found.push(await allocation.read(value, 0, value.rows === "tokens" ? tokens : outputs));
    }
    return found;
  } finally {
    await allocation.close();
  }
}
