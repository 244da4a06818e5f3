/**
 * Our names for a model's tensors, and what the two file kinds call them. Nothing else in the project knows a
 * foreign tensor name.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import type { Tensor } from "../format/tensor.ts";
import type { ModelConfig } from "./config.ts";
import { plusOne, unpermuteHeads } from "./tensors.ts";

/** name: [GGUF, safetensors]. */
const MODEL: Record<string, [string, string]> = {
  embedding: ["token_embd.weight", "model.embed_tokens.weight"],
  outputNorm: ["output_norm.weight", "model.norm.weight"],
  output: ["output.weight", "lm_head.weight"],
};

const LAYER: Record<string, [string, string]> = {
  attentionNorm: ["attn_norm.weight", "input_layernorm.weight"],
  query: ["attn_q.weight", "self_attn.q_proj.weight"],
  key: ["attn_k.weight", "self_attn.k_proj.weight"],
  value: ["attn_v.weight", "self_attn.v_proj.weight"],
  queryBias: ["attn_q.bias", "self_attn.q_proj.bias"],
  keyBias: ["attn_k.bias", "self_attn.k_proj.bias"],
  valueBias: ["attn_v.bias", "self_attn.v_proj.bias"],
  queryNorm: ["attn_q_norm.weight", "self_attn.q_norm.weight"],
  keyNorm: ["attn_k_norm.weight", "self_attn.k_norm.weight"],
  attended: ["attn_output.weight", "self_attn.o_proj.weight"],
  gate: ["ffn_gate.weight", "mlp.gate_proj.weight"],
  up: ["ffn_up.weight", "mlp.up_proj.weight"],
  down: ["ffn_down.weight", "mlp.down_proj.weight"],
  ffnNorm: ["ffn_norm.weight", "post_attention_layernorm.weight"],
};

/** Gemma 3 has norms after attention and feed-forward too, and Hugging Face names them by place, not by purpose. */
const GEMMA_LAYER: Record<string, [string, string]> = {
  postAttentionNorm: ["post_attention_norm.weight", "post_attention_layernorm.weight"],
  ffnNorm: ["ffn_norm.weight", "pre_feedforward_layernorm.weight"],
  postFfnNorm: ["post_ffw_norm.weight", "post_feedforward_layernorm.weight"],
};

/** A multimodal checkpoint keeps its language model under a prefix. */
const PREFIXES = ["", "language_model.", "model.language_model."];

/** The tensor that we call `name` (of `layer`, if given) under the convention that devices expect; null: absent. */
export function findTensor(
  checkpoint: Checkpoint,
  config: ModelConfig,
  name: string,
  layer?: number,
): Tensor | null {
  const gemma = config.family === "gemma3";
  const table = layer === undefined ? MODEL : gemma ? { ...LAYER, ...GEMMA_LAYER } : LAYER;
  if (!Object.hasOwn(table, name)) return null;
  const [gguf, safetensors] = table[name];
  if (checkpoint.kind === "gguf") {
    const tensor = checkpoint.tensors.get(layer === undefined ? gguf : `blk.${layer}.${gguf}`);
    if (!tensor) return null;
    const permuted = config.family === "llama" && /^(query|key)(Bias)?$/.test(name);
    return permuted ? unpermuteHeads(tensor, config.headDim) : tensor;
  }
  const path = layer === undefined ? safetensors : `model.layers.${layer}.${safetensors}`;
  const found = PREFIXES.map((prefix) => checkpoint.tensors.get(underPrefix(prefix, path))).find(Boolean);
  if (!found) return null;
  return gemma && name.endsWith("Norm") ? plusOne(found) : found;
}

/** "model.language_model." replaces the leading "model." (transformers 5); "language_model." stands before it. */
function underPrefix(prefix: string, path: string): string {
  return prefix.startsWith("model.") ? prefix + path.replace(/^model\./, "") : prefix + path;
}
