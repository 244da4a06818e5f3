/**
 * Decides which keys of a file are honoured. Each family has a table (`families/`) of the keys that its reference
 * reads: transformers' configuration class for config.json, llama.cpp's loader of the architecture for GGUF. Such a key
 * is either read here too, or has no effect on what is computed here, or may have certain values only; otherwise it is
 * an error that names the key. A key in no table is one that the reference does not read: files contain dozens (for
 * training, for other programs, for other families), and the reference ignores them too. Some of these, the NARROWING
 * tables, are refused nevertheless: they stand for a different computation, so a file that has them was made for other
 * code.
 */
import { UnsupportedError } from "../format/errors.ts";
import { describe } from "../format/json.ts";
import type { Fields } from "./read.ts";

export interface Only {
  readonly only: readonly unknown[];
}

/**
 * read: used by the reader of this kind of file. harmless: changes nothing that is computed here. only: the allowed
 * values.
 */
export type Rule = "read" | "harmless" | Only;
export type Keys = Readonly<Record<string, Rule>>;

export const only = (...values: unknown[]): Only => ({ only: values });

/** A table that gives all keys the same rule. */
export function all(rule: Rule, ...keys: string[]): Keys {
  return Object.fromEntries(keys.map((key) => [key, rule]));
}

/** Throws UnsupportedError for the first key whose value its rule does not allow. Keys are named without prefix. */
export function checkKeys(fields: Fields, keys: Keys, narrowing: Keys): void {
  const { values, prefix, place } = fields;
  for (const [name, found] of Object.entries(values)) {
    if (!name.startsWith(prefix)) continue;
    const key = name.slice(prefix.length);
    const rule = Object.hasOwn(keys, key) ? keys[key] : Object.hasOwn(narrowing, key) ? narrowing[key] : null;
    if (rule === null || typeof rule === "string" || rule.only.includes(found)) continue;
    const allowed = rule.only.map((value) => (value === null ? "null" : describe(value)));
    throw new UnsupportedError(
      `${place}: ${name} ${describe(found)}`,
      `Allowed: ${["missing", ...allowed].join(", ")}.`,
    );
  }
}

/**
 * config.json of any family: what every configuration class of transformers inherits, and what does not concern the
 * model. `quantization` is read with the tensors (safetensors.ts).
 */
export const COMMON_FOLDER: Keys = {
  ...all("read", "model_type", "quantization", "quantization_config"),
  // The language model's shape; a missing one has transformers' default.
  ...all("read", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
  ...all("read", "num_attention_heads", "num_key_value_heads", "head_dim"),
  ...all("read", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings"),
  ...all("read", "rope_parameters", "rope_scaling", "rope_theta", "original_max_position_embeddings"),
  // eos_token_id ends an answer if generation_config.json does not say what does (checkpoints.ts).
  ...all("harmless", "eos_token_id", "bos_token_id", "pad_token_id", "architectures", "transformers_version"),
  // Weights carry their own type; computation is in float32, or at least as precise as in training.
  ...all("harmless", "dtype", "torch_dtype"),
  // Training only.
  ...all("harmless", "initializer_range", "attention_dropout", "pretraining_tp"),
  // What transformers returns and how it splits work, not what it computes.
  ...all("harmless", "use_cache", "output_hidden_states", "output_attentions", "return_dict"),
  ...all("harmless", "chunk_size_feed_forward", "id2label", "label2id", "problem_type", "num_labels"),
  ...all("harmless", "attn_implementation", "_attn_implementation", "auto_map", "_name_or_path"),
  is_encoder_decoder: only(null, false),
  // Attention to later positions.
  is_causal: only(true),
  // Layers of different shapes.
  per_layer_config: only(null),
  // Transformers moves it into rope_parameters, where only families with partial RoPE use it.
  partial_rotary_factor: only(null, 1),
};

/** config.json: keys of other families and of forks, with the values that change nothing. */
export const NARROWING_FOLDER: Keys = {
  ...all(only(null), "attn_logit_softcapping", "final_logit_softcapping", "attn_logit_softcap", "clip_qkv"),
  ...all(only(null, 1), "logit_scale", "logits_scaling", "embedding_multiplier", "residual_multiplier"),
  ...all(only(null, 1), "scale_emb", "scale_depth", "rotary_pct", "lm_head_multiplier"),
  ...all(only(null), "attention_multiplier", "dim_model_base", "no_rope_layers", "attention_chunk_size"),
  ...all(only(null, false), "use_qk_norm", "qk_norm", "qk_layernorm", "attn_temperature_tuning", "alibi"),
  ...all(
    only(null, false),
    "use_parallel_residual",
    "parallel_attn",
    "use_mrope",
    "use_bidirectional_attention",
  ),
  // MLX's llama rotates adjacent pairs.
  ...all(only(null, false), "rope_traditional", "rope_interleaved", "rope_interleave"),
  ...all(only(null, 0), "num_experts", "num_local_experts", "n_routed_experts", "num_nextn_predict_layers"),
  ...all(only(null, 0), "kv_lora_rank", "num_kv_shared_layers", "hidden_size_per_layer_input"),
  compression_config: only(null),
};

/**
 * GGUF of any family: what llama.cpp's loader reads before it knows the architecture (llama-model.cpp, load_hparams).
 */
export const COMMON_GGUF: Keys = {
  ...all("read", "context_length", "embedding_length", "block_count", "feed_forward_length"),
  ...all("read", "attention.head_count", "attention.head_count_kv", "attention.key_length"),
  ...all("read", "attention.value_length", "attention.layer_norm_rms_epsilon", "rope.dimension_count"),
  ...all("read", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear"),
  // The same as the others if there is one kind of layer; checked if there are two.
  ...all("read", "embedding_length_out", "attention.key_length_swa", "attention.value_length_swa"),
  ...all("read", "rope.dimension_count_swa"),
  // The number of the embedding's rows is used instead.
  vocab_size: "harmless",
  // Pooling is for embeddings; labels come with a tensor, which is refused.
  ...all("harmless", "pooling_type", "classifier.pooling_type", "classifier.output_labels"),
  ...all("read", "rope.scaling.original_context_length", "rope.scaling.attn_factor"),
  ...all("read", "rope.scaling.yarn_log_multiplier"),
  ...all("read", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"),
  "rope.scaling.finetuned": "harmless",
  // llama.cpp reads these for Grok and Laguna only.
  ...all("harmless", "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"),
  "rope.scaling.alpha": only(0),
  "attention.causal": only(true),
  ...all(only(0), "expert_count", "expert_used_count", "expert_group_count", "expert_group_used_count"),
  nextn_predict_layers: only(0),
};

/** GGUF: keys of other architectures, with the values that change nothing. */
export const NARROWING_GGUF: Keys = {
  ...all(only(0), "attn_logit_softcapping", "final_logit_softcapping", "attention.clamp_kqv"),
  ...all(only(0), "attention.max_alibi_bias", "attention.scale", "attention.temperature_scale"),
  ...all(only(0, 1), "logit_scale", "residual_scale", "embedding_scale", "attention.output_scale"),
  ...all(only(0, 1), "attention.value_scale"),
  ...all(only(0), "attention.kv_lora_rank", "attention.shared_kv_layers", "embedding_length_per_layer_input"),
  ...all(only(0), "expert_shared_count", "leading_dense_block_count", "n_deepstack_layers"),
  use_parallel_residual: only(false),
};
