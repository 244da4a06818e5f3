/**
 * Gemma 4's full layers hold one vector for key and value: value = norm of a projection, key = weight * value before RoPE. Over
 * float32 nothing is lost by it. (golden.test.ts computes so on the CPU.)
 */
import { describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { attentionOf, turnedDims } from "../../src/model/config.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import { plannedGpu } from "../../src/study/plan/planned.ts";
import { expected, goldenModel, relativeError, rmsError } from "./golden.ts";
import { OneText } from "./one-text.ts";

const CHUNK = 64;

describe.each(["gemma4-dense", "gemma4-moe"])("%s", (family) => {
  it("is what transformers computes, with keys and values apart and as one vector", async () => {
    const model = await goldenModel(family);
    const { ids, arrays } = await expected(family);
    const found: Float32Array[] = [];
    for (const oneVector of [false, true]) {
      const options = { chunk: CHUNK, context: ids.length, codec: "f32", oneVector };
      const text = await OneText.open(model, referenceDevice(), options);
      const turned = text.graph.caches.map((cache) => cache.turned);
      const full = text.graph.caches.map(({ pool }) => pool.window === null);
      expect(turned).toEqual(full.map((isFull) => (oneVector && isFull ? 16 : 0)));
      found.push((await text.values(ids, CHUNK)).get("logits")!);
    }
    await model.checkpoint.close();
    // As far from each other as float32 sums in another order put them from transformers' (golden.test.ts).
    for (const logits of found) expect(rmsError(logits, arrays.get("logits")!)).toBeLessThan(2e-4);
    expect(rmsError(found[1], found[0])).toBeLessThan(2e-4);
    expect(relativeError(found[1], found[0])).toBeLessThan(2e-3);
  });
});

describe("layers hold one vector where", () => {
  const frequencies = ropeFrequencies(1e6, 512).map((f, i) => (i < 64 ? f : 0));
  const like = attentionOf({
    ...{ heads: 32, kvHeads: 4, headDim: 512, cacheOf: 0, headNorms: "each", valueNorm: true },
    ...{ values: "keys", rope: { frequencies } },
  });

  it("values are normed keys of which a part turns", () => {
    expect(turnedDims(like)).toBe(128);
    // GGUF's way to say that a pair does not turn.
    const divided = frequencies.map((f, i) => (i < 64 ? f : 1e-30));
    expect(turnedDims({ ...like, rope: { frequencies: divided } })).toBe(128);
  });

  it.each([
    ["values are a projection of their own", { values: "own" }],
    ["values are not normed", { valueNorm: false }],
    ["keys are not normed", { headNorms: null }],
    ["heads are normed together", { headNorms: "all" }],
    ["no position counts", { rope: null }],
    ["all dims turn", { rope: { frequencies: ropeFrequencies(1e6, 512) } }],
    [
      "turned dims are no multiple of 16",
      { rope: { frequencies: frequencies.map((f, i) => (i < 60 ? f : 0)) } },
    ],
    ["what does not turn is scaled", { rope: { frequencies, magnitude: 1.5 } }],
    ["pairs that turn are scattered", { rope: { frequencies: frequencies.toReversed() } }],
  ] as const)("not where %s", (_, own) => {
    expect(turnedDims({ ...like, ...own })).toBe(0);
  });
});

it("a graph without `oneVector` holds both; a device without it refuses the others", async () => {
  const model = await goldenModel("gemma4-dense");
  const graph = (oneVector?: boolean) =>
    model.record({ ...{ context: 64, maxTokens: 1, maxOutputs: 1, codec: kvCodec("f16") }, oneVector });
  expect(graph().caches.every(({ turned }) => turned === 0)).toBe(true);
  expect(() => plannedGpu().measure(graph(true))).toThrow(
    "one vector for key and value on the gpu device is not supported",
  );
  await model.checkpoint.close();
});
