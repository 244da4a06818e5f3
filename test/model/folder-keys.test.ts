/**
 * config.json in every spelling: each key that transformers reads is honoured, so that logits are transformers', or
 * refused by name.
 */
import { describe, expect, it } from "vitest";
import { FormatError, NibbleError, UnsupportedError } from "../../src/format/errors.ts";
import { attentionIn } from "../../src/model/config.ts";
import { bases, cases, changed, logitsOf, openFolder, plainTensors } from "./folder-cases.ts";

/** Logits of both are float32 sums of about 1; measured 1e-5 at most. */
const TOLERANCE = 4e-5;

describe("transformers' logits", () => {
  it.each(cases)("$name", async ({ config, tensors, logits }) => {
    const found = await logitsOf(await openFolder(config, tensors));
    const worst = found.reduce((most, value, i) => Math.max(most, Math.abs(value - logits[i])), 0);
    expect(worst).toBeLessThan(TOLERANCE);
  });
});

/** family, changes, what the error says. */
const REFUSED: [string, Record<string, unknown>, string][] = [
  ["llama", { rope_scaling: { rope_type: "dynamic", factor: 4 } }, 'RoPE scaling "dynamic"'],
  ["llama", { rope_scaling: { type: "longrope", factor: 4 } }, "short_factor is missing"],
  [
    "llama",
    { rope_parameters: { full_attention: { rope_type: "default" } } },
    "full_attention at this place",
  ],
  ["llama", { partial_rotary_factor: 0.5 }, "partial_rotary_factor 0.5"],
  ["llama", { rope_parameters: { partial_rotary_factor: 0.5 } }, "partial_rotary_factor 0.5"],
  [
    "llama",
    { rope_scaling: { rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 4 } },
    "high_freq_factor is 4",
  ],
  ["llama", { rope_traditional: true }, "rope_traditional true"],
  ["llama", { layer_types: ["sliding_attention", "full_attention", "full_attention"] }, "layer_types"],
  ["llama", { hidden_act: "gelu" }, 'hidden_act "gelu"'],
  ["llama", { attention_multiplier: 0.5 }, "attention_multiplier 0.5"],
  ["llama", { logits_scaling: 8 }, "logits_scaling 8"],
  ["llama", { num_local_experts: 8 }, "num_local_experts 8"],
  ["llama", { is_causal: false }, "is_causal false"],
  ["llama", { per_layer_config: { 0: { head_dim: 32 } } }, "per_layer_config"],
  ["llama", { quantization_config: { quant_method: "gptq", bits: 4 } }, 'quantization by "gptq"'],
  ["llama", { compression_config: { format: "int" } }, "compression_config"],
  ["llama", { final_logit_softcapping: 30 }, "final_logit_softcapping 30"],
  [
    "qwen2",
    {
      use_sliding_window: true,
      sliding_window: null,
      layer_types: ["sliding_attention", "full_attention", "full_attention"],
    },
    "layer_types",
  ],
  ["qwen3", { layer_types: ["sliding_attention", "full_attention", "full_attention"] }, "use_sliding_window"],
  ["qwen3", { layer_types: ["full_attention"] }, "one for each layer"],
  ["qwen3", { layer_types: ["full_attention", "linear_attention", "full_attention"] }, '"linear_attention"'],
  [
    "mistral",
    { sliding_window: null, layer_types: ["sliding_attention", "full_attention", "full_attention"] },
    "sliding_window is null",
  ],
  ["gemma3_text", { use_bidirectional_attention: true }, "use_bidirectional_attention true"],
  ["gemma3_text", { attn_logit_softcapping: 50 }, "attn_logit_softcapping 50"],
  ["gemma3_text", { rope_parameters: { rope_type: "default", rope_theta: 777 } }, "rope_theta at this place"],
  ["gemma3_text", { rope_scaling: { type: "linear", factor: 8 } }, "type at this place"],
  ["gemma3_text", { sliding_window: null }, "sliding_window is null"],
  ["gemma3_text", { hidden_activation: "gelu" }, 'hidden_activation "gelu"'],
];

describe("refused by name", () => {
  it.each(REFUSED)("%s %j", async (family, changes, message) => {
    const failure = openFolder(changed(bases[family], changes), plainTensors(family));
    await expect(failure).rejects.toBeInstanceOf(NibbleError);
    await expect(failure).rejects.toThrow(message);
  });

  it("tensors that the config does not speak of", async () => {
    for (const name of [
      "self_attn.q_proj.bias",
      "self_attn.o_proj.bias",
      "mlp.up_proj.bias",
      "self_attn.q_norm.weight",
    ]) {
      const tensors = { ...plainTensors("llama"), [`model.layers.*.${name}`]: [32] };
      const failure = openFolder(bases.llama, tensors);
      await expect(failure).rejects.toThrow(UnsupportedError);
      await expect(failure).rejects.toThrow(
        `"model.layers.0.${name}" and 2 more in a model of the family llama`,
      );
    }
    await expect(openFolder(bases.llama, { ...plainTensors("llama"), "lm_head.bias": [64] })).rejects.toThrow(
      "lm_head.bias",
    );
    // A layer more than the config counts.
    await expect(openFolder(bases.llama, plainTensors("llama"), 4)).rejects.toThrow('"model.layers.3.');
  });

  it("a config that speaks of tensors which are not there", async () => {
    const failure = openFolder(changed(bases.llama, { attention_bias: true }), plainTensors("llama"));
    await expect(failure).rejects.toThrow("no tensor for queryBias of layer 0, which llama needs");
  });

  it("an output matrix that is neither there nor tied", async () => {
    const { "lm_head.weight": head, ...tensors } = plainTensors("llama");
    for (const tie_word_embeddings of [false, "absent"])
      await expect(openFolder(changed(bases.llama, { tie_word_embeddings }), tensors)).rejects.toThrow(
        "no lm_head.weight, and tie_word_embeddings is false",
      );
    // Both there are two matrices, whatever the config says.
    const both = await openFolder(changed(bases.llama, { tie_word_embeddings: true }), plainTensors("llama"));
    expect(both.config.tied).toBe(false);
    expect(head).toEqual([64, 32]);
  });
});

describe("tensors that change nothing", () => {
  it("frequencies of old checkpoints", async () => {
    const tensors = { ...plainTensors("llama"), "model.layers.*.self_attn.rotary_emb.inv_freq": [8] };
    expect((await openFolder(bases.llama, tensors)).config.layers.length).toBe(3);
  });

  it("the eyes of a Gemma 3 that sees images, in both spellings of its names", async () => {
    const { model_type: _, ...text } = bases.gemma3_text;
    for (const [prefix, eyes] of [
      ["model.language_model.", "model.vision_tower.x.weight"],
      ["language_model.model.", "multi_modal_projector.x.weight"],
    ]) {
      const named = Object.entries(plainTensors("gemma3_text")).map(([name, shape]) => [
        name.replace(/^model\./, prefix),
        shape,
      ]);
      const tensors = { ...Object.fromEntries(named), [eyes]: [4, 4] };
      const config = { model_type: "gemma3", text_config: text, vision_config: { hidden_size: 16 } };
      expect(attentionIn((await openFolder(config, tensors)).config.layers[0]).window).toBe(8);
      await expect(openFolder({ ...config, tie_word_embeddings: false }, tensors)).rejects.toThrow("lm_head");
      const capped = { ...config, text_config: { ...text, final_logit_softcapping: 30 } };
      await expect(openFolder(capped, tensors)).rejects.toThrow("final_logit_softcapping 30");
    }
  });
});

describe("numbers of config.json", () => {
  const NUMBERS = [
    ...["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"],
    ...["num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta"],
    ...["sliding_window", "sliding_window_pattern", "query_pre_attn_scalar", "rope_local_base_freq"],
  ];
  const WRONG: [unknown, string][] = [
    [-1, "is -1"],
    [1e300, "is 1e+300"],
    ["two", 'is "two"'],
    [true, "is true"],
    [[2], "is [2]"],
    [{}, "is {}"],
  ];
  it.each(NUMBERS)("%s is refused before anything is sized by it", async (key) => {
    for (const [wrong, message] of WRONG) {
      const failure = openFolder({ ...bases.gemma3_text, [key]: wrong }, plainTensors("gemma3_text"));
      await expect(failure).rejects.toThrow(FormatError);
      await expect(failure).rejects.toThrow(`${key} ${message}; allowed: `);
    }
  });

  it("a head of 1e8 is refused", async () => {
    await expect(openFolder({ ...bases.llama, head_dim: 1e8 }, plainTensors("llama"))).rejects.toThrow(
      "folder/config.json: head_dim is 100000000; allowed: integers 1 to 1024",
    );
  });
});
