/**
 * Families of 2024 to 2026 in shapes and with keys that the golden models do not have: logits are transformers'
 * (test/golden/configs/families.py).
 */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { NibbleError } from "../../src/format/errors.ts";
import { attentionIn } from "../../src/model/config.ts";
import { withIds } from "../../src/model/model.ts";
import { KEPT, logitsOf, openFolder } from "./folder-cases.ts";
import { relativeError } from "./golden.ts";

const folder = new URL("../golden/configs/", import.meta.url);
type Case = [config: Record<string, unknown>, shapes: Record<string, number[]>];
const cases: Case[] = JSON.parse(readFileSync(new URL("families.json", folder), "utf8"));
const expected = readFileSync(new URL("families.f32", folder));
const VOCAB = 64;

/** float32 sums in another order: measured 2e-5 at most. */
const TOLERANCE = 1e-4;

const titles = cases.map(([{ model_type, ...config }], at) => {
  const own = Object.entries(config).filter(([key]) => !/^(vocab|pad|max_position)/.test(key));
  return [`${model_type} ${JSON.stringify(Object.fromEntries(own))}`, at] as const;
});

describe("transformers' logits", () => {
  it.each(titles)("%s", async (_, at) => {
    const [config, shapes] = cases[at];
    const size = KEPT.length * VOCAB;
    const from = expected.byteOffset + at * size * 4;
    const wanted = new Float32Array(expected.buffer.slice(from, from + size * 4));
    expect(relativeError(await logitsOf(await openFolder(config, shapes)), wanted)).toBeLessThan(TOLERANCE);
  });
});

/** model_type, changes of its first case, what the error says. */
const REFUSED: [string, Record<string, unknown>, string][] = [
  ["gemma2", { use_bidirectional_attention: true }, "use_bidirectional_attention true"],
  ["gemma2", { attn_logit_softcapping: -1 }, "attn_logit_softcapping is -1"],
  ["gemma4_text", { use_bidirectional_attention: "all" }, 'use_bidirectional_attention "all"'],
  [
    "gemma4_text",
    { per_layer_config: { 1: { num_attention_heads: 4 } } },
    "num_attention_heads of one layer",
  ],
  [
    "gemma4_text",
    { hidden_size_per_layer_input: 8, vocab_size_per_layer_input: 32 },
    "vocab_size_per_layer_input is 32",
  ],
  ["gemma4_text", { num_kv_shared_layers: 7 }, "attends to the KV cache of layer -1"],
  ["gemma4_text", { enable_moe_block: true }, "num_experts is missing"],
  ["granite", { logits_scaling: 0 }, "logits_scaling is 0"],
  ["smollm3", { no_rope_layers: [1] }, "one for each layer"],
  ["smollm3", { layer_types: ["sliding_attention", "full_attention"] }, "one for each layer"],
  [
    "phi3",
    { rope_scaling: { rope_type: "longrope", short_factor: [1], long_factor: [1] } },
    "short_factor is [1]",
  ],
  ["phi3", { partial_rotary_factor: 2 }, "partial_rotary_factor is 2"],
  ["olmo2", { clip_qkv: 8 }, "clip_qkv 8"],
  ["qwen3_moe", { layer_types: ["full_attention"] }, "layer_types"],
  ["qwen3_moe", { decoder_sparse_step: 0 }, "decoder_sparse_step is 0"],
  ["qwen3_moe", { num_experts_per_tok: 7 }, "experts of a token is 7"],
  ["mixtral", { num_local_experts: 1e9 }, "num_local_experts is 1000000000"],
  ["gpt_oss", { swiglu_alpha: 2 }, "swiglu_alpha 2"],
  ["gpt_oss", { hidden_act: "gelu" }, 'hidden_act "gelu"'],
  ["llama", { rope_parameters: { rope_type: "yarn", factor: 0 } }, "factor is 0"],
  // Qwen 3.8 is published as qwen3_5; its preview of Qwen 4 is another architecture.
  ["qwen3_moe", { model_type: "qwen3_8" }, 'The nearest is "qwen3_5"'],
  ["qwen3_moe", { model_type: "qwen4_exp" }, "smollm3."],
];

describe("refused by name", () => {
  it.each(REFUSED)("%s %j", async (family, changes, message) => {
    const [config, shapes] = cases.find(([{ model_type }]) => model_type === family)!;
    const failure = openFolder({ ...config, ...changes }, shapes);
    await expect(failure).rejects.toBeInstanceOf(NibbleError);
    await expect(failure).rejects.toThrow(message);
  });
});

it("a smaller vocabulary takes fewer rows of all tables by id", async () => {
  const [config, shapes] = cases.find(([{ hidden_size_per_layer_input: inputs }]) => inputs)!;
  const model = await openFolder(config, shapes);
  const whole = await logitsOf(model, 50);
  const found = await logitsOf(withIds(model, 50));
  expect(found).toEqual(Float32Array.from(whole.filter((_, i) => i % 64 < 50)));
});

it("keys and values of layers that take others' are not missed, and not in the way", async () => {
  const [config, shapes] = cases.find(([{ num_kv_shared_layers }]) => num_kv_shared_layers)!;
  const own = {
    "model.layers.4.self_attn.k_proj.weight": [32, 32],
    "model.layers.4.self_attn.k_norm.weight": [32],
  };
  const { layers } = (await openFolder(config, { ...shapes, ...own })).config;
  expect(layers.map((layer) => attentionIn(layer).cacheOf)).toEqual([0, 1, 2, 2, 1]);
});
