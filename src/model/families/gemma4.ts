/**
 * Gemma 4 (Google, 2026): Gemma's block with norms on q, k and (unweighted) v instead of a score factor, full layers
 * with their own head size and values that may be the key projection, proportional RoPE, and a factor on each layer's
 * output. E2B and E4B add per-layer inputs for each token and last layers that use the caches of earlier ones. 26B-A4B
 * runs experts besides the feed-forward.
 */
import type { Value } from "../../device/contract.ts";
import type { Recorder } from "../../device/recorder.ts";
import { UnsupportedError } from "../../format/errors.ts";
import { BOUNDS } from "../bounds.ts";
import { type AttentionSpec, attentionsOf, type FeedForwardSpec, type ModelConfig } from "../config.ts";
import type { FolderFile } from "../folder-file.ts";
import { type GgufCheckpoint, isRopeTensor } from "../gguf-file.ts";
import { all, type Keys, only } from "../keys.ts";
import { attention, embedding, experts, feedForward, linear, norm, type Parts, stack } from "../layers.ts";
import { at, findTensor, type NameTables, ofExpertHalves, SANDWICH_NAMES } from "../names.ts";
import { Fields } from "../read.ts";
import { type LayerType, ropesByKind } from "../rope-parameters.ts";
import { f32Rows, mapped } from "../tensors.ts";
import { u32 } from "../written-keys.ts";
import {
  ATTENTION_BIASES,
  type Family,
  type FolderType,
  folderKeys,
  ggufKeys,
  QKV_BIASES,
} from "./family.ts";
import { gemmaScale } from "./gemma3.ts";

function forward(op: Recorder, parts: Parts): Value {
  const { layers, normEpsilon, perLayerInput } = parts.config;
  const x = embedding(op, parts);
  const inputs = perLayerInput > 0 ? perLayerInputs(op, parts, x) : null;
  return stack(op, parts, x, (x, i) => {
    const attended = attention(op, parts, i, norm(op, parts, x, "attentionNorm", i));
    let h = op.add(x, norm(op, parts, attended, "postAttentionNorm", i));

    let fed = feedForward(op, parts, i, norm(op, parts, h, "ffnNorm", i));
    const mixture = layers[i].feedForward.experts;
    if (mixture) {
      // The router's input has a norm of its own: h over its root mean square, times a weight vector.
      const router = op.rmsNorm(h, parts.vector("routerNorm", h.cols, i), normEpsilon);
      const weights = parts.vector("expertScale", mixture.count, i);
      const chosen = experts(op, parts, i, norm(op, parts, h, "expertNorm", i), { router, weights });
      fed = op.add(norm(op, parts, fed, "postDenseNorm", i), norm(op, parts, chosen, "postExpertNorm", i));
    }
    h = op.add(h, norm(op, parts, fed, "postFfnNorm", i));

    if (inputs) {
      const gate = linear(op, parts, i, h, "inputGate", perLayerInput);
      const input = op.slice(inputs, { from: i * perLayerInput, size: perLayerInput });
      const projected = linear(op, parts, i, op.gate(gate, input, "geluTanh"), "inputOutput", h.cols);
      h = op.add(h, norm(op, parts, projected, "postInputNorm", i));
    }
    const { outputScale } = layers[i];
    return outputScale === 1 ? h : op.scale(h, outputScale);
  });
}

/** The per-layer inputs: embedded x [tokens, hidden] -> [tokens, layers * perLayerInput]. */
function perLayerInputs(op: Recorder, parts: Parts, x: Value): Value {
  const { layers, vocab, normEpsilon, perLayerInput } = parts.config;
  const cols = layers.length * perLayerInput;
  const ofToken = op.lookUp(parts.table("inputEmbedding", vocab, cols), Math.sqrt(perLayerInput));
  const projected = op.scale(op.matmul(x, parts.matrix("inputProjection", cols, x.cols)), x.cols ** -0.5);
  const normed = op.rmsNorm(projected, parts.vector("inputNorm", perLayerInput), normEpsilon, layers.length);
  return op.scale(op.add(normed, ofToken), Math.SQRT1_2);
}

const names: NameTables = {
  model: {
    ...SANDWICH_NAMES.model,
    inputEmbedding: at("per_layer_token_embd.weight", "model.embed_tokens_per_layer.weight"),
    inputProjection: at("per_layer_model_proj.weight", "model.per_layer_model_projection.weight"),
    inputNorm: at("per_layer_proj_norm.weight", "model.per_layer_projection_norm.weight"),
  },
  layer: {
    ...SANDWICH_NAMES.layer,
    outputScale: at("layer_output_scale.weight", "layer_scalar"),
    inputGate: at("inp_gate.weight", "per_layer_input_gate.weight"),
    inputOutput: at("proj.weight", "per_layer_projection.weight"),
    postInputNorm: at("post_norm.weight", "post_per_layer_input_norm.weight"),
    router: at("ffn_gate_inp.weight", "router.proj.weight"),
    routerNorm: at("ffn_gate_inp.scale", "router.scale"),
    expertScale: at("ffn_down_exps.scale", "router.per_expert_scale"),
    expertNorm: at("pre_ffw_norm_2.weight", "pre_feedforward_layernorm_2.weight"),
    postDenseNorm: at("post_ffw_norm_1.weight", "post_feedforward_layernorm_1.weight"),
    postExpertNorm: at("post_ffw_norm_2.weight", "post_feedforward_layernorm_2.weight"),
    expertGate: at(
      ["ffn_gate_exps.weight", { of: "ffn_gate_up_exps.weight", take: ofExpertHalves }],
      ["experts.switch_glu.gate_proj.weight", { of: "experts.gate_up_proj", take: ofExpertHalves }],
    ),
    expertUp: at(
      ["ffn_up_exps.weight", { of: "ffn_gate_up_exps.weight", take: ofExpertHalves }],
      ["experts.switch_glu.up_proj.weight", { of: "experts.gate_up_proj", take: ofExpertHalves }],
    ),
    expertDown: at("ffn_down_exps.weight", ["experts.switch_glu.down_proj.weight", "experts.down_proj"]),
  },
};

const SCALARS = /\b(layer_output_scale\.weight|layer_scalar)$/;
/** Tensors of the vision and audio encoders; text does not use them. */
const SENSES = /^(model\.)?(vision|audio|embed_vision|embed_audio|multi_modal|multimodal)/;
const UNUSED =
  /\b(?:blk|layers)\.(\d+)\.(?:attn_(?:k|v|k_norm)|self_attn\.(?:k_proj|v_proj|k_norm))\.weight$/;

/**
 * Harmless here: factors that are read with the config, keys and values of layers that share another's cache, vision
 * and audio.
 */
function harmless(name: string, config: ModelConfig): boolean {
  const unused = UNUSED.exec(name);
  if (unused)
    return !attentionsOf(config).some(
      ({ layer, spec }) => layer === Number(unused[1]) && spec.cacheOf === layer,
    );
  return SCALARS.test(name) || SENSES.test(name) || isRopeTensor(name);
}

/** The config with the layers' output factors, which are stored as tensors of one value. */
async function withScales(file: GgufCheckpoint | FolderFile, config: ModelConfig): Promise<ModelConfig> {
  const scales = config.layers.map(async (_, layer) => {
    const found = findTensor(file.checkpoint, names, config, "outputScale", layer);
    return found ? (await f32Rows(found.tensor, 0, 1))[0] : 1;
  });
  const found = await Promise.all(scales);
  return { ...config, layers: config.layers.map((layer, i) => ({ ...layer, outputScale: found[i] })) };
}

/** The layer whose cache each layer uses: for the last `shared` layers, the last earlier layer with the same window. */
function cachesOf(windows: readonly (number | null)[], shared: number): number[] {
  const first = windows.length - shared;
  return windows.map((window, layer) =>
    layer < first ? layer : windows.slice(0, Math.max(0, first)).lastIndexOf(window),
  );
}

const COMMON: Partial<AttentionSpec> = { scale: 1, headNorms: "each", valueNorm: true };

async function fromGguf(file: GgufCheckpoint): Promise<ModelConfig> {
  const { fields, tensors, headDim } = file;
  const slidingDim = fields.number("attention.key_length_swa", BOUNDS.headDim, headDim);
  file.same("attention.value_length_swa", slidingDim);
  file.same("rope.dimension_count", headDim);
  file.same("rope.dimension_count_swa", slidingDim);
  const windows = file.windows(6);
  const cacheOf = cachesOf(windows, fields.number("attention.shared_kv_layers", BOUNDS.layerIndex, 0));
  const full = await file.rope({ divisors: true, dims: headDim });
  const sliding = file.plainRope("rope.freq_base_swa", 10_000, slidingDim);
  const count = fields.number("expert_count", BOUNDS.expertsOrNone, 0);
  const experts = count > 0 && {
    ...{ count, k: fields.number("expert_used_count", BOUNDS.experts), normalise: true },
    width: fields.number("expert_feed_forward_length", BOUNDS.ffn),
  };
  const dense = file.dense();
  return withScales(file, {
    ...file.whole({
      activation: "geluTanh",
      embeddingScale: gemmaScale(file.hidden),
      logitSoftcap: file.softcap("final_logit_softcapping"),
      perLayerInput: fields.number("embedding_length_per_layer_input", BOUNDS.perLayerInput, 0),
    }),
    layers: file.layersOf(
      (layer) => ({
        ...{ ...COMMON, window: windows[layer], cacheOf: cacheOf[layer] },
        headDim: windows[layer] === null ? headDim : slidingDim,
        rope: windows[layer] === null ? full : sliding,
        values: cacheOf[layer] !== layer || tensors.has(`blk.${layer}.attn_v.weight`) ? "own" : "keys",
      }),
      (layer): FeedForwardSpec => ({
        ...dense(layer),
        experts: experts && tensors.has(`blk.${layer}.ffn_gate_inp.weight`) ? experts : null,
      }),
    ),
  });
}

/** Head size and KV heads of each layer: `per_layer_config`, or the older keys, which apply to the full layers. */
function headsByLayer(file: FolderFile, types: readonly LayerType[]) {
  const { config, headDim, kvHeads } = file;
  const overrides = config.object("per_layer_config");
  if (!overrides) {
    const global = config.number("global_head_dim", BOUNDS.headDim, 512);
    const globalKv = config.flag("attention_k_eq_v")
      ? config.numberOrNull("num_global_key_value_heads", BOUNDS.kvHeads)
      : null;
    return types.map((type) =>
      type === "full_attention" ? { headDim: global, kvHeads: globalKv ?? kvHeads } : { headDim, kvHeads },
    );
  }
  return types.map((_, layer) => {
    const own = overrides.object(`${layer}`) ?? new Fields({}, config.place);
    for (const key of Object.keys(own.values))
      if (key !== "head_dim" && key !== "num_key_value_heads")
        throw new UnsupportedError(`${own.place}: ${key} of one layer`);
    return {
      headDim: own.number("head_dim", BOUNDS.headDim, headDim),
      kvHeads: own.number("num_key_value_heads", BOUNDS.kvHeads, kvHeads),
    };
  });
}

function fromFolder(file: FolderFile): Promise<ModelConfig> {
  const { config, layers } = file;
  const said =
    file.layerTypes() ??
    Array.from(
      { length: layers },
      (_, i): LayerType => ((i + 1) % 6 === 0 ? "full_attention" : "sliding_attention"),
    );
  // The last layer always attends to all positions.
  const types = said.map((type, i) => (i === layers - 1 ? "full_attention" : type));
  const window = config.number("sliding_window", BOUNDS.window);
  const windows = types.map((type) => (type === "full_attention" ? null : window));
  const shared = config.number("num_kv_shared_layers", BOUNDS.layerIndex);
  const cacheOf = cachesOf(windows, shared);
  const heads = headsByLayer(file, types);
  const headDimOf = (type: LayerType) => (heads[types.indexOf(type)] ?? file).headDim;
  const ropes = ropesByKind(config, {
    full_attention: {
      headDim: headDimOf("full_attention"),
      base: 1_000_000,
      type: "proportional",
      partial: 0.25,
    },
    sliding_attention: { headDim: headDimOf("sliding_attention"), base: 10_000 },
  });
  const experts = config.flag("enable_moe_block")
    ? {
        ...{
          count: config.number("num_experts", BOUNDS.experts),
          k: config.number("top_k_experts", BOUNDS.experts),
        },
        ...{ width: config.number("moe_intermediate_size", BOUNDS.ffn), normalise: true },
      }
    : null;
  const width = config.number("intermediate_size", BOUNDS.ffn);
  const wide = config.flag("use_double_wide_mlp");
  const perLayerInput = config.number("hidden_size_per_layer_input", BOUNDS.perLayerInput);
  const whole = file.whole({
    activation: file.activation("hidden_activation"),
    embeddingScale: gemmaScale(file.hidden),
    logitSoftcap: file.softcap("final_logit_softcapping"),
    biases: file.flag("attention_bias") ? ATTENTION_BIASES : [],
    perLayerInput,
  });
  const inputs = config.number("vocab_size_per_layer_input", BOUNDS.vocab, whole.vocab);
  if (perLayerInput > 0 && inputs !== whole.vocab)
    throw config.error("vocab_size_per_layer_input", inputs, `${whole.vocab}, the vocab_size`);
  return withScales(file, {
    ...whole,
    layers: file.layersOf(
      (layer) => ({
        ...{ ...COMMON, ...heads[layer], window: windows[layer], cacheOf: cacheOf[layer] },
        rope: ropes[types[layer]],
        values: config.flag("attention_k_eq_v") && windows[layer] === null ? "keys" : "own",
      }),
      (layer) => ({ width: wide && layer >= layers - shared ? 2 * width : width, experts }),
    ),
  });
}

const KEYS: Keys = folderKeys({
  ...all("read", "hidden_activation", "attention_bias", "final_logit_softcapping", "sliding_window"),
  ...all("read", "layer_types", "per_layer_config", "global_head_dim", "num_global_key_value_heads"),
  ...all("read", "attention_k_eq_v", "num_kv_shared_layers", "use_double_wide_mlp"),
  ...all("read", "hidden_size_per_layer_input", "vocab_size_per_layer_input"),
  ...all("read", "enable_moe_block", "num_experts", "top_k_experts", "moe_intermediate_size"),
  // "vision" concerns images only.
  use_bidirectional_attention: only(null, false, "vision"),
});

const text: FolderType = {
  defaults: {
    ...{ vocab_size: 262_144, hidden_size: 2304, intermediate_size: 9216, num_hidden_layers: 30 },
    ...{ num_attention_heads: 8, num_key_value_heads: 4, head_dim: 256, max_position_embeddings: 131_072 },
    ...{ rms_norm_eps: 1e-6, hidden_activation: "gelu_pytorch_tanh", tie_word_embeddings: true },
    ...{ sliding_window: 512, attention_bias: false, hidden_size_per_layer_input: 256 },
    ...{ attention_k_eq_v: false, num_kv_shared_layers: 0, enable_moe_block: false },
    ...{ use_double_wide_mlp: false },
  },
  keys: KEYS,
  config: fromFolder,
  harmless,
};

/** The 12B: images need no encoder; no per-layer inputs and no experts. */
const unified: FolderType = {
  ...text,
  defaults: {
    ...text.defaults,
    ...{ max_position_embeddings: 262_144, sliding_window: 1024, hidden_size_per_layer_input: 0 },
  },
};

export const gemma4: Family = {
  name: "gemma4",
  gguf: {
    gemma4: {
      keys: ggufKeys({
        ...all("read", "attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa"),
        ...all("read", "final_logit_softcapping", "attention.shared_kv_layers"),
        ...all("read", "embedding_length_per_layer_input", "expert_count", "expert_used_count"),
        ...all("read", "expert_feed_forward_length"),
      }),
      biases: QKV_BIASES,
      config: fromGguf,
      harmless,
    },
  },
  folders: {
    gemma4_text: text,
    gemma4: { ...text, nested: true },
    gemma4_unified_text: unified,
    gemma4_unified: { ...unified, nested: true },
  },
  names,
  view: (tensor, { name, config }) =>
    name === "routerNorm" ? mapped(tensor, (x) => x * config.hidden ** -0.5) : tensor,
  // Both kinds of files store the router's vector unchanged.
  written: (tensor) => tensor,
  writtenKeys(config) {
    const attentions = attentionsOf(config).map(({ spec }) => spec);
    const { headDim } = attentions.find(({ window }) => window !== null) ?? attentions[0];
    return [
      ["attention.sliding_window_pattern", { bools: attentions.map(({ window }) => window !== null) }],
      ["attention.key_length_swa", u32(headDim)],
      ["attention.value_length_swa", u32(headDim)],
      ["rope.dimension_count_swa", u32(headDim)],
      ["attention.shared_kv_layers", u32(attentions.filter(({ cacheOf }, i) => cacheOf !== i).length)],
      ["embedding_length_per_layer_input", u32(config.perLayerInput)],
    ];
  },
  forward,
};
