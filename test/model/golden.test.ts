/** The reference device with an f32 cache against transformers, for every family, whole and in chunks. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Allocation, Graph } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { argmax } from "../../src/engine/sample.ts";
import type { Model } from "../../src/model/model.ts";
import { type Expected, expected, FAMILIES, goldenModel, relativeError, setAllPages } from "./golden.ts";

/** float32 sums in another order than torch's; measured 1e-5 at most. The issue asks for 2e-3. */
const LOGIT_ERROR = 2e-4;
const CONTEXT = 160;

async function allocate(model: Model, maxTokens: number): Promise<{ graph: Graph; allocation: Allocation }> {
  const graph = model.record({
    context: CONTEXT,
    maxTokens,
    maxOutputs: maxTokens,
    codec: kvCodec("f32"),
    keepLabels: true,
  });
  const allocation = await referenceDevice().allocate(graph);
  for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
  setAllPages(graph, allocation);
  return { graph, allocation };
}

describe.each(FAMILIES)("%s against transformers", (family) => {
  let model: Model;
  let golden: Expected;
  beforeAll(async () => {
    model = await goldenModel(family);
    golden = await expected(family);
  });
  afterAll(() => model.checkpoint.close());

  it.each([160, 64, 7, 1])("logits and hidden states, in chunks of %i", async (chunk) => {
    const { graph, allocation } = await allocate(model, chunk);
    const found = new Map([...golden.arrays].map(([name, array]) => [name, new Float32Array(array.length)]));
    for (let at = 0; at < golden.ids.length; at += chunk) {
      const ids = Uint32Array.from(golden.ids.slice(at, at + chunk));
      await allocation.run({ runs: [{ text: 0, ids, position: at, outputs: ids.length }] });
      for (const [name, value] of [...graph.labels, ["logits", graph.logits] as const])
        found.get(name)!.set(await allocation.read(value, 0, ids.length), at * value.cols);
    }
    for (const [name, array] of golden.arrays)
      expect(relativeError(found.get(name)!, array), name).toBeLessThan(LOGIT_ERROR);
  });

  it("the same greedy continuation from 48 tokens", async () => {
    const { graph, allocation } = await allocate(model, 48);
    const ids = golden.ids.slice(0, 48);
    const run = (more: readonly number[], position: number) =>
      allocation.run({ runs: [{ text: 0, ids: Uint32Array.from(more), position, outputs: 1 }] });
    await run(ids, 0);
    while (ids.length < golden.greedy.length) {
      ids.push(argmax(await allocation.read(graph.logits, 0, 1)));
      await run(ids.slice(-1), ids.length - 1);
    }
    expect(ids).toEqual(golden.greedy);
  });
});
