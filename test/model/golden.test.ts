/** The reference device with an f32 cache, and the CPU over f16, against transformers, for every family, in chunks. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Allocation, Device, Graph } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { argmax } from "../../src/engine/sample.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import {
  arraysOf,
  type Expected,
  expected,
  FAMILIES,
  goldenModel,
  LATER,
  oldConfig,
  relativeError,
  setAllPages,
} from "./golden.ts";

const CONTEXT = 160;

interface Over {
  device: () => Device | Promise<Device>;
  codec: string;
  /** Of logits and hidden states. */
  tolerance: number;
  error: (found: Float32Array, wanted: Float32Array) => number;
}

/** Root mean square of the difference over the deviation of what is expected. */
function rmsError(found: Float32Array, wanted: Float32Array): number {
  const rms = (values: Float32Array) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
  const mean = wanted.reduce((a, b) => a + b, 0) / wanted.length;
  return rms(found.map((x, i) => x - wanted[i])) / rms(wanted.map((x) => x - mean));
}

/** float32 sums in another order than torch's; measured 1e-5 at most. The issue asks for 2e-3. */
const REFERENCE: Over = { device: referenceDevice, codec: "f32", tolerance: 2e-4, error: relativeError };
/** Keys and values in float16. */
const CPU: Over = {
  device: () => wasmDevice({ threads: 1 }),
  codec: "f16",
  tolerance: 4e-3,
  error: rmsError,
};

/**
 * How much more may differ: Gemma 4 does not scale scores, so with random weights each query picks one key, and what one
 * layer is off by doubles in the next. 1.5e-3 is float32's own noise in these (measured on the reference, at one token of
 * 160; the median token is off by 3e-5).
 */
const more = (family: string, over: Over): Over =>
  family.startsWith("gemma4")
    ? { ...over, tolerance: (over.codec === "f32" ? 10 : 8) * over.tolerance }
    : over;

interface Open {
  graph: Graph;
  allocation: Allocation;
}

async function allocate(model: Model, maxTokens: number, over: Over, context = CONTEXT): Promise<Open> {
  const graph = model.record({
    ...{ context, maxTokens, maxOutputs: maxTokens },
    ...{ codec: kvCodec(over.codec), keepLabels: true },
  });
  const allocation = await (await over.device()).allocate(graph);
  for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
  setAllPages(graph, allocation);
  return { graph, allocation };
}

/** Everything that has a name, and logits, of all ids in chunks. */
async function valuesOf({ graph, allocation }: Open, all: readonly number[], chunk: number) {
  const labelled = [...graph.labels, ["logits", graph.logits] as const];
  const found = new Map(labelled.map(([name, { cols }]) => [name, new Float32Array(all.length * cols)]));
  for (let at = 0; at < all.length; at += chunk) {
    const ids = Uint32Array.from(all.slice(at, at + chunk));
    await allocation.run({ runs: [{ text: 0, ids, position: at, outputs: ids.length }] });
    for (const [name, value] of labelled)
      found.get(name)!.set(await allocation.read(value, 0, ids.length), at * value.cols);
  }
  return found;
}

async function greedyIds({ graph, allocation }: Open, prompt: readonly number[], count: number) {
  const ids = [...prompt];
  const run = (more: readonly number[], position: number) =>
    allocation.run({ runs: [{ text: 0, ids: Uint32Array.from(more), position, outputs: 1 }] });
  await run(ids, 0);
  while (ids.length < count) {
    ids.push(argmax(await allocation.read(graph.logits, 0, 1)));
    await run(ids.slice(-1), ids.length - 1);
  }
  return ids;
}

let model: Model;
let golden: Expected;
const open = (family: string) => {
  beforeAll(async () => {
    model = await goldenModel(family);
    golden = await expected(family);
  });
  afterAll(() => model.checkpoint.close());
};

async function checkValues(chunk: number, over: Over): Promise<void> {
  const opened = await allocate(model, chunk, over);
  const found = await valuesOf(opened, golden.ids, chunk);
  await opened.allocation.close();
  for (const [name, array] of golden.arrays)
    expect(over.error(found.get(name)!, array), name).toBeLessThan(over.tolerance);
}

/** Over f16 two ids that are equally likely may change places: after the same text each must be as good as the best. */
async function checkChoices(over: Over): Promise<void> {
  const opened = await allocate(model, 64, over);
  const logits = (await valuesOf(opened, golden.greedy, 64)).get("logits")!;
  await opened.allocation.close();
  const { cols } = opened.graph.logits;
  for (let at = 47; at < golden.greedy.length - 1; at++) {
    const row = logits.subarray(at * cols, (at + 1) * cols);
    const deviation = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0) / cols);
    const behind = (row[argmax(row)] - row[golden.greedy[at + 1]]) / deviation;
    expect(behind, `id ${at + 1}`).toBeLessThan(5 * over.tolerance);
  }
}

async function checkGreedy(over: Over): Promise<void> {
  const opened = await allocate(model, 48, over);
  const ids = await greedyIds(opened, golden.ids.slice(0, 48), golden.greedy.length);
  await opened.allocation.close();
  expect(ids).toEqual(golden.greedy);
}

describe.each(FAMILIES)("%s against transformers", (family) => {
  open(family);
  it.each([160, 64, 7, 1])("logits and hidden states, in chunks of %i", (chunk) =>
    checkValues(chunk, REFERENCE),
  );
  it("the same greedy continuation from 48 tokens", () => checkGreedy(REFERENCE));
});

describe.each(LATER)("%s against transformers", (family) => {
  open(family);
  it.each([64, 7])("logits and hidden states, in chunks of %i", (chunk) =>
    checkValues(chunk, more(family, REFERENCE)),
  );
  it.each([64, 7, 1])("on the CPU over f16, in chunks of %i", (chunk) =>
    checkValues(chunk, more(family, CPU)),
  );
  it("the same greedy continuation from 48 tokens", () => checkGreedy(REFERENCE));
  it("on the CPU over f16, the same choices in that text", () => checkChoices(more(family, CPU)));

  it("reads the config of older files the same", async () => {
    const metadata = await oldConfig(family);
    if (metadata) expect((await openModel({ ...model.checkpoint, metadata })).config).toEqual(model.config);
  });
});

it("phi3-longrope takes the short factors where texts are short", async () => {
  const short = await goldenModel("phi3-longrope");
  const { ids } = await expected("phi3-longrope");
  const wanted = (await arraysOf("phi3-longrope", "extra")).arrays.get("logits.short")!;
  const opened = await allocate(short, 32, REFERENCE, 32);
  const found = await valuesOf(opened, ids.slice(0, 32), 32);
  expect(relativeError(found.get("logits")!, wanted)).toBeLessThan(REFERENCE.tolerance);
  await short.checkpoint.close();
});
