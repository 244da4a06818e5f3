/**
 * Our names for a model's tensors, and what the two file kinds call them. Nothing else in the project knows a
 * foreign tensor name, but for those that no graph takes (`unread.ts`).
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import type { Tensor } from "../format/tensor.ts";
import type { BiasName, ModelConfig } from "./config.ts";
import { plusOne, sliceRows, unpermuteHeads } from "./tensors.ts";

/** name: [GGUF, safetensors]. */
const MODEL: Record<string, [string, string]> = {
  embedding: ["token_embd.weight", "model.embed_tokens.weight"],
  outputNorm: ["output_norm.weight", "model.norm.weight"],
  output: ["output.weight", "lm_head.weight"],
  outputBias: ["output.bias", "lm_head.bias"],
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
  attendedBias: ["attn_output.bias", "self_attn.o_proj.bias"],
  gate: ["ffn_gate.weight", "mlp.gate_proj.weight"],
  gateBias: ["ffn_gate.bias", "mlp.gate_proj.bias"],
  up: ["ffn_up.weight", "mlp.up_proj.weight"],
  upBias: ["ffn_up.bias", "mlp.up_proj.bias"],
  down: ["ffn_down.weight", "mlp.down_proj.weight"],
  downBias: ["ffn_down.bias", "mlp.down_proj.bias"],
  ffnNorm: ["ffn_norm.weight", "post_attention_layernorm.weight"],
};

/** Gemma 3 has norms after attention and feed-forward too, and Hugging Face names them by place, not by purpose. */
const GEMMA_LAYER: Record<string, [string, string]> = {
  postAttentionNorm: ["post_attention_norm.weight", "post_attention_layernorm.weight"],
  ffnNorm: ["ffn_norm.weight", "pre_feedforward_layernorm.weight"],
  postFfnNorm: ["post_ffw_norm.weight", "post_feedforward_layernorm.weight"],
};

/** llama.cpp's converter can write q, k and v as the rows of one matrix, and their biases as one vector. */
const FUSED: Record<string, string> = {
  ...{ query: "attn_qkv.weight", key: "attn_qkv.weight", value: "attn_qkv.weight" },
  ...{ queryBias: "attn_qkv.bias", keyBias: "attn_qkv.bias", valueBias: "attn_qkv.bias" },
};

/** A multimodal checkpoint keeps its language model under a prefix. */
const PREFIXES = ["", "language_model.", "model.language_model."];

/** A tensor of the file, and the view of it that devices expect. */
export interface FoundTensor {
  /** In the file. */
  readonly name: string;
  readonly tensor: Tensor;
}

/** The tensor that we call `name` (of `layer`, if given) under the convention that devices expect; null: absent. */
export function findTensor(
  checkpoint: Checkpoint,
  config: ModelConfig,
  name: string,
  layer?: number,
): FoundTensor | null {
  const gemma = config.family === "gemma3";
  const table = layer === undefined ? MODEL : gemma ? { ...LAYER, ...GEMMA_LAYER } : LAYER;
  const [gguf, safetensors] = table[name];
  if (checkpoint.kind === "gguf") {
    const found = get(checkpoint, ggufName(gguf, layer)) ?? fused(checkpoint, config, name, layer);
    const permuted = config.family === "llama" && /^(query|key)(Bias)?$/.test(name);
    return found && permuted ? { ...found, tensor: unpermuteHeads(found.tensor, config.headDim) } : found;
  }
  const path = layer === undefined ? safetensors : `model.layers.${layer}.${safetensors}`;
  for (const prefix of PREFIXES) {
    const found = get(checkpoint, underPrefix(prefix, path));
    if (found) return gemma && name.endsWith("Norm") ? { ...found, tensor: plusOne(found.tensor) } : found;
  }
  return null;
}

/** Whether a GGUF has this bias, in any layer. */
export function hasBias({ tensors }: Checkpoint, name: BiasName, layers: number): boolean {
  const bias = `${name}Bias`;
  if (Object.hasOwn(MODEL, bias)) return tensors.has(MODEL[bias][0]);
  const names = [LAYER[bias][0], FUSED[bias]].filter((own) => own !== undefined);
  return Array.from({ length: layers }, (_, layer) => layer).some((layer) =>
    names.some((own) => tensors.has(ggufName(own, layer))),
  );
}

function get({ tensors }: Checkpoint, name: string): FoundTensor | null {
  const tensor = tensors.get(name);
  return tensor ? { name, tensor } : null;
}

function ggufName(name: string, layer?: number): string {
  return layer === undefined ? name : `blk.${layer}.${name}`;
}

/** The part of a fused tensor. One of another size than q, k and v together is left alone, and so an error as unread. */
function fused(
  checkpoint: Checkpoint,
  config: ModelConfig,
  name: string,
  layer?: number,
): FoundTensor | null {
  if (layer === undefined || !Object.hasOwn(FUSED, name)) return null;
  const found = get(checkpoint, ggufName(FUSED[name], layer));
  const { heads, kvHeads, headDim } = config;
  const [q, kv] = [heads * headDim, kvHeads * headDim];
  const size = found && (name.endsWith("Bias") ? found.tensor.rows * found.tensor.cols : found.tensor.rows);
  if (!found || size !== q + 2 * kv) return null;
  const [first, count] = name.startsWith("query") ? [0, q] : name.startsWith("key") ? [q, kv] : [q + kv, kv];
  return { ...found, tensor: sliceRows(found.tensor, first, count, name) };
}

/** "model.language_model." replaces the leading "model." (transformers 5); "language_model." stands before it. */
function underPrefix(prefix: string, path: string): string {
  return prefix.startsWith("model.") ? prefix + path.replace(/^model\./, "") : prefix + path;
}
