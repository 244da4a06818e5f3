/**
 * Gemma 4's full layers hold one vector for key and value: value = norm of a projection, key = weight * value before RoPE. Over
 * float32 nothing is lost by it. (golden.test.ts computes so on the CPU.)
 */
import { describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { checkFormats } from "../../src/device/check.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { attentionOf, turnedDims } from "../../src/model/config.ts";
import { attention, type Parts } from "../../src/model/layers.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
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

it("a layer that attends to another's cache takes the weight of that layer's keys", () => {
  const op = new Recorder(1, 1);
  const rope = { frequencies: ropeFrequencies(1e4, 64).map((f, i) => (i < 8 ? f : 0)) };
  const shape = { heads: 2, kvHeads: 1, headDim: 64, headNorms: "each", valueNorm: true, rope } as const;
  const layers = [
    attentionOf({ ...shape, cacheOf: 0, values: "keys" }),
    attentionOf({ ...shape, cacheOf: 0 }),
  ];
  const cacheShape = {
    layer: 0,
    codec: kvCodec("f16"),
    kvHeads: 1,
    headDim: 64,
    turned: turnedDims(layers[0]),
  };
  const cache = op.cache({ ...cacheShape, pool: op.pool(null, 1) });
  const table = op.ropeTable(rope.frequencies);
  const weight = (role: "matrix" | "vector", name: string, rows: number, cols: number, layer?: number) =>
    op.weight(`${name} of ${layer}`, role, "f32", rows, cols);
  const parts = {
    config: { hidden: 32, normEpsilon: 1e-6, layers: layers.map((mixer) => ({ mixer })) },
    matrix: (name: string, rows: number, cols: number, layer: number) =>
      weight("matrix", name, rows, cols, layer),
    vector: (name: string, size: number, layer: number) => weight("vector", name, 1, size, layer),
    ...{ bias: () => null, cache: () => cache, rope: () => table },
  } as unknown as Parts;
  let x = op.embed(weight("matrix", "embedding", 4, 32));
  for (const layer of [0, 1]) x = attention(op, parts, layer, x);
  const taken = op
    .finish(op.takeOutputs(x))
    .ops.flatMap((each) => (each.op === "takeTurned" && each.weight ? [each.weight.name] : []));
  expect(taken).toEqual(["keyNorm of 0", "keyNorm of 0"]);
});

it("a graph without `oneVector` holds both; a device without it refuses the others", async () => {
  const model = await goldenModel("gemma4-dense");
  const graph = (oneVector?: boolean) =>
    model.record({ ...{ context: 64, maxTokens: 1, maxOutputs: 1, codec: kvCodec("f16") }, oneVector });
  expect(graph().caches.every(({ turned }) => turned === 0)).toBe(true);
  const without = { name: "gpu", kvFormats: null } as const;
  expect(() => checkFormats(graph(true), without)).toThrow(
    "one vector for key and value on the gpu device is not supported",
  );
  await model.checkpoint.close();
});
