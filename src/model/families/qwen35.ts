/**
 * Qwen 3.5, 3.6 and 3.8, dense and mixtures, and Qwen3-Next: three gated delta nets for each layer of attention, whose
 * output is gated, too; norms of 1 + weight, except the delta net's own. Written after transformers'
 * modeling_qwen3_5.py, modeling_qwen3_5_moe.py and modeling_qwen3_next.py (5.24) and llama.cpp's qwen35.cpp,
 * qwen35moe.cpp and qwen3next.cpp.
 */
import type { Value } from "../../device/contract.ts";
import type { Recorder } from "../../device/recorder.ts";
import type { Tensor } from "../../format/tensor.ts";
import { BOUNDS } from "../bounds.ts";
import { attentionIn, type DeltaSpec, type FeedForwardSpec, type LayerSpec } from "../config.ts";
import { deltaColumns, gatedDeltaNet } from "../delta.ts";
import type { FolderFile } from "../folder-file.ts";
import type { GgufCheckpoint } from "../gguf-file.ts";
import { all, type Keys, only } from "../keys.ts";
import { attention, embedding, experts, feedForward, norm, type Parts, stack } from "../layers.ts";
import {
  at,
  LLAMA_NAMES,
  type NameTables,
  ofExpertHalves,
  type PartOf,
  type Place,
  type TakePart,
} from "../names.ts";
import {
  mapped,
  plusOne,
  regroupRows,
  regroupValues,
  reorderColumns,
  reorderRows,
  reshaped,
  stackRows,
} from "../tensors.ts";
import {
  ATTENTION_BIASES,
  DEFAULTS,
  type Family,
  type FolderType,
  folderKeys,
  ggufKeys,
  type Harmless,
} from "./family.ts";

const deltaIn = ({ mixer }: LayerSpec): DeltaSpec | null => (mixer.kind === "delta" ? mixer : null);

/** For each head: the rows of its query, then those of its gate. */
const ofQuery: TakePart = (tensor, { name, layer }) => {
  const { heads, headDim } = attentionIn(layer);
  const isBias = name.endsWith("Bias");
  if ((isBias ? tensor.rows * tensor.cols : tensor.rows) !== 2 * heads * headDim) return null;
  const from = name.startsWith("queryGate") ? headDim : 0;
  return (isBias ? regroupValues : regroupRows)(tensor, { group: 2 * headDim, from, count: headDim }, name);
};

/** For each key head: q, k, the values of its value heads, and their gates. */
const ofMixedAndGate: TakePart = (tensor, { name, layer }) => {
  const spec = deltaIn(layer);
  if (!spec) return null;
  const { keyHeads, keyDim } = spec;
  const { mixed, values } = deltaColumns(spec);
  if (tensor.rows !== mixed + values) return null;
  const each = values / keyHeads;
  const part = (from: number, count: number) =>
    regroupRows(tensor, { group: 2 * keyDim + 2 * each, from, count }, name);
  if (name === "deltaGate") return part(2 * keyDim + each, each);
  const { name: title } = part(0, keyDim);
  return stackRows([part(0, keyDim), part(keyDim, keyDim), part(2 * keyDim, each)], title);
};

/** For each key head: b of its value heads, then a. */
const ofBetaAndAlpha: TakePart = (tensor, { name, layer }) => {
  const spec = deltaIn(layer);
  if (!spec || tensor.rows !== 2 * spec.valueHeads) return null;
  const each = spec.valueHeads / spec.keyHeads;
  return regroupRows(tensor, { group: 2 * each, from: name === "deltaB" ? 0 : each, count: each }, name);
};

const delta = (name: string) => `linear_attn.${name}`;
const query = (end: string): readonly [Place, Place] => [
  { of: `attn_q.${end}`, take: ofQuery },
  { of: `self_attn.q_proj.${end}`, take: ofQuery },
];
const expert = (part: string) => [
  [`ffn_${part}_exps.weight`, { of: "ffn_gate_up_exps.weight", take: ofExpertHalves }],
  [
    `mlp.experts.*.${part}_proj.weight`,
    `mlp.switch_mlp.${part}_proj.weight`,
    { of: "mlp.experts.gate_up_proj", take: ofExpertHalves },
  ],
];
const shared = (part: string) =>
  at(
    [`ffn_${part}.weight`, `ffn_${part}_shexp.weight`],
    [`mlp.${part}_proj.weight`, `mlp.shared_expert.${part}_proj.weight`],
  );

const NAMES: NameTables = {
  ...LLAMA_NAMES,
  layer: {
    ...LLAMA_NAMES.layer,
    query: at(...query("weight")),
    queryGate: at(...query("weight")),
    queryBias: at(...query("bias")),
    queryGateBias: at(...query("bias")),
    ffnNorm: at("post_attention_norm.weight", "post_attention_layernorm.weight"),
    deltaMixed: at(
      ["attn_qkv.weight", { of: "ssm_in.weight", take: ofMixedAndGate }],
      [delta("in_proj_qkv.weight"), { of: delta("in_proj_qkvz.weight"), take: ofMixedAndGate }],
    ),
    deltaGate: at(
      ["attn_gate.weight", { of: "ssm_in.weight", take: ofMixedAndGate }],
      [delta("in_proj_z.weight"), { of: delta("in_proj_qkvz.weight"), take: ofMixedAndGate }],
    ),
    deltaA: at(
      ["ssm_alpha.weight", { of: "ssm_ba.weight", take: ofBetaAndAlpha }],
      [delta("in_proj_a.weight"), { of: delta("in_proj_ba.weight"), take: ofBetaAndAlpha }],
    ),
    deltaB: at(
      ["ssm_beta.weight", { of: "ssm_ba.weight", take: ofBetaAndAlpha }],
      [delta("in_proj_b.weight"), { of: delta("in_proj_ba.weight"), take: ofBetaAndAlpha }],
    ),
    deltaConv: at("ssm_conv1d.weight", delta("conv1d.weight")),
    deltaRates: at("ssm_a", delta("A_log")),
    deltaBias: at("ssm_dt.bias", delta("dt_bias")),
    deltaNorm: at("ssm_norm.weight", delta("norm.weight")),
    deltaOut: at("ssm_out.weight", delta("out_proj.weight")),
    gate: shared("gate"),
    up: shared("up"),
    down: shared("down"),
    sharedGate: at("ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight"),
    router: at("ffn_gate_inp.weight", "mlp.gate.weight"),
    expertGate: at(...(expert("gate") as [Place[], Place[]])),
    expertUp: at(...(expert("up") as [Place[], Place[]])),
    expertDown: at("ffn_down_exps.weight", [
      "mlp.experts.*.down_proj.weight",
      "mlp.switch_mlp.down_proj.weight",
      "mlp.experts.down_proj",
    ]),
  },
};

/** mlx-lm stores convolutions as [channels, kernel, 1], and norms as the factor itself (1 + weight). */
const CONVOLUTION = /linear_attn\.conv1d\.weight$/;
function isMlx(tensors: ReadonlyMap<string, Tensor>): boolean {
  for (const [name, { cols }] of tensors) if (CONVOLUTION.test(name)) return cols === 1;
  return false;
}

function view(
  tensor: Tensor,
  { kind, tensors, name }: PartOf & Parameters<NonNullable<Family["view"]>>[1],
): Tensor {
  if (kind === "gguf") return tensor;
  if (name === "deltaRates") return mapped(tensor, (x) => -Math.exp(x));
  return name.endsWith("Norm") && name !== "deltaNorm" && !isMlx(tensors) ? plusOne(tensor) : tensor;
}

/**
 * The order of Qwen 3.5's GGUFs: of the value heads, first one for each key head, then the next for each
 * (`DeltaSpec.tiled`). Elsewhere, and in Qwen3-Next's GGUFs, value heads of one key head are adjacent. A convolution is
 * [channels, kernel].
 */
function written(tensor: Tensor, of: Parameters<NonNullable<Family["written"]>>[1]): Tensor {
  const { name, layer, architecture } = of;
  const spec = deltaIn(layer);
  const viewed = view(tensor, of);
  if (!spec || !name.startsWith("delta")) return viewed;
  const { keyHeads, valueHeads, valueDim, kernel } = spec;
  const whole =
    name === "deltaConv" ? reshaped(viewed, (viewed.rows * viewed.cols) / kernel, kernel) : viewed;
  if (architecture === "qwen3next") return whole;
  const each = valueHeads / keyHeads;
  /** Heads of `size` rows or values, after the first `skip`. */
  const tiled =
    (size: number, skip = 0) =>
    (at: number) => {
      if (at < skip) return at;
      const head = Math.floor((at - skip) / size);
      const source = (head % keyHeads) * each + Math.floor(head / keyHeads);
      return skip + source * size + ((at - skip) % size);
    };
  const { mixed, values } = deltaColumns(spec);
  switch (name) {
    case "deltaMixed":
    case "deltaConv":
      return reorderRows(whole, tiled(valueDim, mixed - values));
    case "deltaGate":
      return reorderRows(whole, tiled(valueDim));
    case "deltaA":
    case "deltaB":
      return reorderRows(whole, tiled(1));
    case "deltaRates":
    case "deltaBias":
      return reorderColumns(reshaped(whole, 1, valueHeads), tiled(1));
    case "deltaOut":
      return reorderColumns(whole, tiled(valueDim));
    default:
      return whole;
  }
}

/** Which layers attend; the others are delta nets. */
function attends(file: FolderFile): (layer: number) => boolean {
  const { config, layers } = file;
  const types = config.list("layer_types");
  if (types === null) {
    const interval = config.number("full_attention_interval", BOUNDS.pattern, 4);
    return (layer) => (layer + 1) % interval === 0;
  }
  if (types.length !== layers)
    throw config.error("layer_types", types, `${layers} kinds, one for each layer`);
  for (const kind of types)
    if (kind !== "full_attention" && kind !== "linear_attention")
      throw config.error("layer_types", kind, '"full_attention", "linear_attention"');
  return (layer) => types[layer] === "full_attention";
}

function folderConfig(file: FolderFile, feed: (layer: number) => FeedForwardSpec) {
  const { config } = file;
  const number = (key: string, bound = BOUNDS.headDim) => config.number(`linear_${key}`, bound);
  const mixer: DeltaSpec = {
    kind: "delta",
    keyHeads: number("num_key_heads", BOUNDS.heads),
    valueHeads: number("num_value_heads", BOUNDS.heads),
    keyDim: number("key_head_dim"),
    valueDim: number("value_head_dim"),
    kernel: number("conv_kernel_dim"),
    tiled: false,
  };
  const isFull = attends(file);
  const rope = file.rope({
    partial: config.number("partial_rotary_factor", BOUNDS.part),
    aliases: { mrope: "default" },
  });
  const biases = file.flag("attention_bias") ? [...ATTENTION_BIASES, "queryGate" as const] : [];
  return {
    ...file.whole({ biases }),
    layers: file.layersOf(
      (layer) => (isFull(layer) ? { rope, headNorms: "each", outputGate: true } : mixer),
      feed,
    ),
  };
}

function folderExperts({ config }: FolderFile): FeedForwardSpec {
  return {
    width: config.number("shared_expert_intermediate_size", BOUNDS.ffn),
    experts: {
      count: config.number("num_experts", BOUNDS.experts),
      k: config.number("num_experts_per_tok", BOUNDS.experts),
      width: config.number("moe_intermediate_size", BOUNDS.ffn),
      normalise: config.flag("norm_topk_prob"),
    },
  };
}

const HEADS = {
  ...{ head_dim: 256, attention_bias: false, partial_rotary_factor: 0.25, linear_conv_kernel_dim: 4 },
  ...{
    linear_key_head_dim: 128,
    linear_value_head_dim: 128,
    linear_num_key_heads: 16,
    linear_num_value_heads: 32,
  },
};
const SHARED_KEYS = {
  ...all("read", "hidden_act", "attention_bias", "layer_types", "full_attention_interval"),
  ...all("read", "partial_rotary_factor", "linear_conv_kernel_dim", "linear_key_head_dim"),
  ...all("read", "linear_value_head_dim", "linear_num_key_heads", "linear_num_value_heads"),
  attn_output_gate: only(true),
  // The block that predicts a second token is not run; weights carry their own types.
  ...all("harmless", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings", "num_nextn_predict_layers"),
  ...all("harmless", "mamba_ssm_dtype", "mlp_only_layers"),
};
const EXPERT_KEYS = {
  ...all("read", "num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob"),
  ...all("read", "shared_expert_intermediate_size", "decoder_sparse_step", "mlp_only_layers"),
  ...all("harmless", "router_aux_loss_coef", "output_router_logits"),
};

/** Text uses neither the image encoder nor the block that predicts a second token. */
const UNUSED = /^(model\.)?(visual|vision_tower|mtp)\.|^language_model\.(model\.)?mtp\./;
const unused: Harmless = (name) => UNUSED.test(name);

const dense: FolderType = {
  defaults: {
    ...DEFAULTS,
    ...HEADS,
    ...{ vocab_size: 248_320, hidden_size: 4096, intermediate_size: 12_288, num_hidden_layers: 32 },
    ...{ num_attention_heads: 16, num_key_value_heads: 4, max_position_embeddings: 32_768 },
  },
  keys: folderKeys(SHARED_KEYS),
  harmless: unused,
  config: (file) => folderConfig(file, file.dense()),
};

const mixture: FolderType = {
  defaults: {
    ...DEFAULTS,
    ...HEADS,
    ...{ vocab_size: 248_320, hidden_size: 2048, num_hidden_layers: 40, num_attention_heads: 16 },
    ...{ num_key_value_heads: 2, max_position_embeddings: 32_768, num_experts: 256, num_experts_per_tok: 8 },
    ...{ moe_intermediate_size: 512, shared_expert_intermediate_size: 512, norm_topk_prob: true },
  },
  // Its router always normalizes.
  keys: folderKeys({
    ...SHARED_KEYS,
    ...EXPERT_KEYS,
    norm_topk_prob: only(true),
    mlp_only_layers: "harmless",
  }),
  harmless: unused,
  architecture: "qwen35moe",
  config(file) {
    const spec = folderExperts(file);
    return folderConfig(file, () => spec);
  },
};

const next: FolderType = {
  ...mixture,
  architecture: "qwen3next",
  defaults: {
    ...mixture.defaults,
    ...{ vocab_size: 151_936, intermediate_size: 5632, num_hidden_layers: 48 },
    ...{ num_experts: 512, num_experts_per_tok: 10, decoder_sparse_step: 1, mlp_only_layers: [] },
  },
  keys: folderKeys({ ...SHARED_KEYS, ...EXPERT_KEYS }),
  config(file) {
    const { config } = file;
    const spec = folderExperts(file);
    const plain = file.dense();
    const step = config.number("decoder_sparse_step", { ...BOUNDS.pattern, least: 1 });
    const only = config.list("mlp_only_layers") ?? [];
    return folderConfig(file, (layer) =>
      (layer + 1) % step === 0 && !only.includes(layer) ? spec : plain(layer),
    );
  },
};

/** Blocks that predict further tokens come after the layers, and the file counts them among the layers. */
function mainLayers({ fields, layers }: GgufCheckpoint): number {
  return layers - fields.number("nextn_predict_layers", { least: 0, most: layers - 1, whole: true }, 0);
}

async function ggufConfig(file: GgufCheckpoint, tiled: boolean, feed: (layer: number) => FeedForwardSpec) {
  const { fields, layers } = file;
  const number = (key: string, bound = BOUNDS.heads) => fields.number(`ssm.${key}`, bound);
  const valueHeads = number("time_step_rank");
  const mixer: DeltaSpec = {
    kind: "delta",
    keyHeads: number("group_count"),
    valueHeads,
    keyDim: number("state_size", BOUNDS.headDim),
    valueDim: number("inner_size", BOUNDS.hidden) / valueHeads,
    kernel: number("conv_kernel", BOUNDS.headDim),
    tiled,
  };
  const interval = fields.number("full_attention_interval", BOUNDS.pattern, 4);
  const recurrent = fields.list("attention.recurrent_layers");
  if (recurrent && recurrent.length !== layers)
    throw fields.error("attention.recurrent_layers", recurrent, `${layers} values, one for each layer`);
  const isFull = (layer: number) => (recurrent ? !recurrent[layer] : (layer + 1) % interval === 0);
  const rope = await file.rope();
  const specs = file.layersOf(
    (layer) => (isFull(layer) ? { rope, headNorms: "each", outputGate: true } : mixer),
    feed,
  );
  return { ...file.whole(), layers: specs.slice(0, mainLayers(file)) };
}

function ggufExperts({ fields }: GgufCheckpoint): FeedForwardSpec {
  const width = fields.number("expert_feed_forward_length", BOUNDS.ffn);
  return {
    width: fields.number("expert_shared_feed_forward_length", BOUNDS.ffn, width),
    experts: {
      count: fields.number("expert_count", BOUNDS.experts),
      k: fields.number("expert_used_count", BOUNDS.experts),
      width,
      normalise: true,
    },
  };
}

const GGUF_KEYS: Keys = {
  ...all("read", "ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank"),
  ...all("read", "ssm.inner_size", "full_attention_interval", "attention.recurrent_layers"),
  nextn_predict_layers: "read",
  // Ollama's key: false if value heads are not tiled.
  "ssm.v_head_reordered": only(true),
};
const GGUF_EXPERT_KEYS = all(
  "read",
  ...["expert_count", "expert_used_count", "expert_feed_forward_length", "expert_shared_feed_forward_length"],
);
/** Tensors of the blocks after the layers. */
const beyond: Harmless = (name, { layers }) => Number(/^blk\.(\d+)\./.exec(name)?.[1]) >= layers.length;
const ggufMixture = (tiled: boolean) => ({
  keys: ggufKeys({ ...GGUF_KEYS, ...GGUF_EXPERT_KEYS }),
  biases: [],
  harmless: beyond,
  config(file: GgufCheckpoint) {
    const spec = ggufExperts(file);
    return ggufConfig(file, tiled, () => spec);
  },
});

function forward(op: Recorder, parts: Parts): Value {
  const { layers, hidden } = parts.config;
  return stack(op, parts, embedding(op, parts), (x, i) => {
    const { mixer, feedForward: feed } = layers[i];
    const normed = norm(op, parts, x, "attentionNorm", i);
    const mixed =
      mixer.kind === "delta" ? gatedDeltaNet(op, parts, i, mixer, normed) : attention(op, parts, i, normed);
    const h = op.add(x, mixed);
    const y = norm(op, parts, h, "ffnNorm", i);
    const all = feedForward(op, parts, i, y);
    if (!feed.experts) return op.add(h, all);
    const gate = op.matmul(y, parts.matrix("sharedGate", 1, hidden, i));
    return op.add(h, op.add(experts(op, parts, i, y), op.gate(gate, all, "sigmoid")));
  });
}

export const qwen35: Family = {
  name: "qwen35",
  gguf: {
    qwen35: {
      keys: ggufKeys(GGUF_KEYS),
      biases: [],
      harmless: beyond,
      config: (file) => ggufConfig(file, true, file.dense()),
    },
    qwen35moe: ggufMixture(true),
    qwen3next: ggufMixture(false),
  },
  folders: {
    qwen3_5_text: dense,
    qwen3_5: { ...dense, nested: true },
    qwen3_5_moe_text: mixture,
    qwen3_5_moe: { ...mixture, nested: true },
    qwen3_next: next,
  },
  names: NAMES,
  view,
  written,
  forward,
};
