/**
 * The two file kinds of one model give the same graph results: each golden checkpoint is written as GGUF the way
 * llama.cpp's converter writes it (other names, llama's q and k rows permuted, Gemma's norms plus one, llama3 RoPE as
 * divisors), opened, and run beside the safetensors original.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { readGguf } from "../../src/format/gguf.ts";
import { attentionIn } from "../../src/model/config.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import { f32Rows } from "../../src/model/tensors.ts";
import { type KeyValue, T, type WrittenTensor, writeGguf } from "../format/write-gguf.ts";
import { FAMILIES, goldenModel, relativeError, setAllPages, withoutTokenizer } from "./golden.ts";

const TOKENS = 40;

/** Names of safetensors layers' parts as GGUF has them; Gemma's post_attention_layernorm is another norm. */
const PARTS: Record<string, string> = {
  "input_layernorm.weight": "attn_norm.weight",
  "post_attention_layernorm.weight": "ffn_norm.weight",
  "pre_feedforward_layernorm.weight": "ffn_norm.weight",
  "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
  "self_attn.q_proj.weight": "attn_q.weight",
  "self_attn.k_proj.weight": "attn_k.weight",
  "self_attn.v_proj.weight": "attn_v.weight",
  "self_attn.o_proj.weight": "attn_output.weight",
  "self_attn.q_proj.bias": "attn_q.bias",
  "self_attn.k_proj.bias": "attn_k.bias",
  "self_attn.v_proj.bias": "attn_v.bias",
  "self_attn.q_norm.weight": "attn_q_norm.weight",
  "self_attn.k_norm.weight": "attn_k_norm.weight",
  "mlp.gate_proj.weight": "ffn_gate.weight",
  "mlp.up_proj.weight": "ffn_up.weight",
  "mlp.down_proj.weight": "ffn_down.weight",
};

const WHOLE: Record<string, string> = {
  "model.embed_tokens.weight": "token_embd.weight",
  "model.norm.weight": "output_norm.weight",
  "lm_head.weight": "output.weight",
};

function ggufName(name: string, gemma: boolean): string {
  const layer = /^model\.layers\.(\d+)\.(.*)$/.exec(name);
  if (!layer) return WHOLE[name];
  const part =
    gemma && layer[2].startsWith("post_attention") ? "post_attention_norm.weight" : PARTS[layer[2]];
  return `blk.${layer[1]}.${part}`;
}

async function asGguf(model: Model): Promise<Model> {
  const { config, checkpoint } = model;
  const { family } = config;
  const { feedForward } = config.layers[0];
  const mixer = attentionIn(config.layers[0]);
  const { heads, kvHeads, headDim } = mixer;
  const full = config.layers.map(attentionIn).find(({ window }) => window === null) ?? mixer;
  const gemma = family === "gemma3";
  const tensors: WrittenTensor[] = [];
  for (const [name, tensor] of checkpoint.tensors) {
    let values = await f32Rows(tensor, 0, tensor.rows);
    if (gemma && name.includes("norm")) values = values.map((x) => x + 1);
    if (family === "llama" && /[qk]_proj/.test(name)) values = permuted(values, tensor.cols, headDim);
    const dims = tensor.rows === 1 ? [tensor.cols] : [tensor.cols, tensor.rows];
    tensors.push({ name: ggufName(name, gemma), dims, type: 0, data: new Uint8Array(values.buffer) });
  }
  const base = gemma ? 1e6 : (checkpoint.metadata.rope_parameters as { rope_theta: number }).rope_theta;
  const plain = ropeFrequencies(base, headDim);
  const divisors = Float32Array.from(plain, (frequency, i) => frequency / full.rope!.frequencies[i]);
  if (divisors.some((d) => d !== 1))
    tensors.push({
      name: "rope_freqs.weight",
      dims: [headDim / 2],
      type: 0,
      data: new Uint8Array(divisors.buffer),
    });
  const keys: KeyValue[] = [
    ["general.architecture", T.string, family],
    [`${family}.context_length`, T.u32, config.trainedContext],
    [`${family}.embedding_length`, T.u32, config.hidden],
    [`${family}.block_count`, T.u32, config.layers.length],
    [`${family}.feed_forward_length`, T.u32, feedForward.width],
    [`${family}.attention.head_count`, T.u32, heads],
    [`${family}.attention.head_count_kv`, T.u32, kvHeads],
    [`${family}.attention.key_length`, T.u32, headDim],
    [`${family}.attention.value_length`, T.u32, headDim],
    [`${family}.attention.layer_norm_rms_epsilon`, T.f32, config.normEpsilon],
    [`${family}.attention.sliding_window`, T.u32, mixer.window ?? 0],
    [`${family}.rope.freq_base`, T.f32, base],
  ];
  const file = await readGguf(bufferSource("converted", writeGguf({ keys, tensors })));
  const { metadata, tensors: read, close } = file;
  return openModel(withoutTokenizer({ kind: "gguf", name: "converted", metadata, tensors: read, close }));
}

/** Rows (half, i) of each head to (i, half); a bias has columns of one. */
function permuted(values: Float32Array, cols: number, headDim: number): Float32Array {
  const bias = values.length === cols;
  const width = bias ? 1 : cols;
  const out = new Float32Array(values.length);
  for (let row = 0; row < values.length / width; row++) {
    const inHead = row % headDim;
    const half = Math.floor(inHead / (headDim / 2));
    const target = row - inHead + 2 * (inHead % (headDim / 2)) + half;
    out.set(values.subarray(row * width, (row + 1) * width), target * width);
  }
  return out;
}

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

describe.each(FAMILIES)("%s as GGUF", (family) => {
  let original: Model;
  let converted: Model;
  beforeAll(async () => {
    original = await goldenModel(family);
    converted = await asGguf(original);
  });
  afterAll(() => original.checkpoint.close());

  it("has the same shape", () => {
    const shape = ({ config }: Model) => ({
      ...config,
      ...{ name: "", normEpsilon: Math.fround(config.normEpsilon) },
      layers: config.layers.map(({ mixer, ...layer }) => ({ ...layer, mixer: { ...mixer, rope: null } })),
    });
    expect(shape(converted)).toEqual(shape(original));
  });

  it("gives the same logits", async () => {
    // float32 divisors of the RoPE frequencies, and of nothing else, round.
    expect(relativeError(await logits(converted), await logits(original))).toBeLessThan(1e-5);
  });
});
