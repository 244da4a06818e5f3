/**
 * The two file kinds of one model give the same graph results: each golden checkpoint is written as GGUF the way
 * llama.cpp's converter writes it, opened, and run beside the safetensors original.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { attentionIn } from "../../src/model/config.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { asGguf } from "./as-gguf.ts";
import { FAMILIES, goldenModel, LATER, relativeError, setAllPages } from "./golden.ts";

const TOKENS = 40;
/** What a GGUF of the architecture does not say: llama.cpp has it in its code. */
const OWN: Record<string, Record<string, unknown>> = {
  gemma2: { query_pre_attn_scalar: 64 },
  smollm3: { no_rope_layers: null },
};

async function logits(model: Model): Promise<Float32Array> {
  const graph = model.record({
    context: TOKENS,
    maxTokens: TOKENS,
    maxOutputs: TOKENS,
    codec: kvCodec("f32"),
  });
  const allocation = await referenceDevice().allocate(graph);
  for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
  const ids = Uint32Array.from({ length: TOKENS }, (_, i) => (i * 37) % model.config.vocab);
  setAllPages(graph, allocation);
  await allocation.run({ runs: [{ text: 0, ids, position: 0, outputs: TOKENS }] });
  return allocation.read(graph.logits, 0, TOKENS);
}

describe.each([...FAMILIES, ...LATER])("%s as GGUF", (family) => {
  let original: Model;
  let converted: Model;
  beforeAll(async () => {
    const { checkpoint } = await goldenModel(family);
    original = await openModel({ ...checkpoint, metadata: { ...checkpoint.metadata, ...OWN[family] } });
    converted = await asGguf(original);
  });
  afterAll(() => original.checkpoint.close());

  it("has the same shape", () => {
    // Keys of a GGUF are float32; RoPE's frequencies are compared by what they give.
    const shape = ({ config }: Model) => ({
      ...config,
      ...{ name: "", normEpsilon: Math.fround(config.normEpsilon), biases: [...config.biases].sort() },
      ...{ logitScale: Math.fround(config.logitScale), logitSoftcap: Math.fround(config.logitSoftcap) },
      residualScale: Math.fround(config.residualScale),
      layers: config.layers.map((layer) => {
        const mixer = attentionIn(layer);
        return { ...layer, mixer: { ...mixer, rope: null, scale: Math.fround(mixer.scale) } };
      }),
    });
    expect(shape(converted)).toEqual(shape(original));
  });

  it("gives the same logits", async () => {
    // float32 divisors and factors of RoPE, and of nothing else, round.
    expect(relativeError(await logits(converted), await logits(original))).toBeLessThan(1e-4);
  });
});
