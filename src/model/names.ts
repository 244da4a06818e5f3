/**
 * Our names for a model's tensors, and where the two kinds of files have them. A family extends these tables or
 * replaces rows. A tensor of ours is stored under a name of its own, or is a part of a larger tensor, or is joined from
 * one tensor for each expert; the places are tried in order.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import type { Tensor } from "../format/tensor.ts";
import { attentionIn, type LayerSpec, type ModelConfig } from "./config.ts";
import { joinRows, regroupRows, sliceRows } from "./tensors.ts";

/** Describes the tensor that a part is cut out for. */
export interface PartOf {
  /** Our name. */
  readonly name: string;
  readonly config: ModelConfig;
  readonly layer: LayerSpec;
}

/** Returns null if the tensor does not have the expected shape; it then counts as unread, which is an error. */
export type TakePart = (tensor: Tensor, of: PartOf) => Tensor | null;

/** A tensor's name in the file without its layer's prefix; "*" stands for each expert. */
export type Place = string | { readonly of: string; readonly take: TakePart };

export interface Places {
  readonly gguf: readonly Place[];
  readonly folder: readonly Place[];
}

type Names = Readonly<Record<string, Places>>;

export interface NameTables {
  /** Tensors of the whole model. */
  readonly model: Names;
  /** Tensors of each layer. */
  readonly layer: Names;
}

/** What finding a family's tensors requires. */
export interface NamedFamily {
  /** Our name of the family, which is its `general.architecture` if it has one. */
  readonly name: string;
  readonly names: NameTables;
}

/** A row of a table: for each kind of file one place or a list. */
export function at(gguf: Place | readonly Place[] | null, folder: Place | readonly Place[] | null): Places {
  const list = (places: Place | readonly Place[] | null): readonly Place[] =>
    places === null ? [] : Array.isArray(places) ? places : [places as Place];
  return { gguf: list(gguf), folder: list(folder) };
}

/**
 * Cuts q, k or v out of one matrix (rows) or one bias (values) that holds them in this order. null for another size.
 */
const ofQkv: TakePart = (tensor, { name, layer }) => {
  const { heads, kvHeads, headDim } = attentionIn(layer);
  const [q, kv] = [heads * headDim, kvHeads * headDim];
  const size = name.endsWith("Bias") ? tensor.rows * tensor.cols : tensor.rows;
  if (size !== q + 2 * kv) return null;
  const [first, count] = name.startsWith("query") ? [0, q] : name.startsWith("key") ? [q, kv] : [q + kv, kv];
  return sliceRows(tensor, first, count, name);
};

/** gate: the first half of the rows; up: the second. */
export const ofGateUp: TakePart = (tensor, { name, layer }) => {
  const { width } = layer.feedForward;
  if (tensor.rows !== 2 * width) return null;
  return sliceRows(tensor, name === "gate" ? 0 : width, width, name);
};

/** For each expert: the first half of the rows is its gate, the second its up. */
export const ofExpertHalves: TakePart = (tensor, { name, layer }) => {
  const { count, width } = layer.feedForward.experts!;
  if (tensor.rows !== 2 * width * count) return null;
  const from = name === "expertGate" ? 0 : width;
  return regroupRows(tensor, { group: 2 * width, from, count: width }, name);
};

const qkv = (gguf: string, folder: string) =>
  at(
    [`${gguf}.weight`, { of: "attn_qkv.weight", take: ofQkv }],
    [`self_attn.${folder}.weight`, { of: "self_attn.qkv_proj.weight", take: ofQkv }],
  );
const qkvBias = (gguf: string, folder: string) =>
  at([`${gguf}.bias`, { of: "attn_qkv.bias", take: ofQkv }], `self_attn.${folder}.bias`);

/** Experts are stacked, or one matrix each; Hugging Face may join gate and up. */
const expert = (part: "gate" | "up" | "down") => {
  const fused: Place = { of: "mlp.experts.gate_up_proj", take: ofExpertHalves };
  return at(
    [`ffn_${part}_exps.weight`, `ffn_${part}.*.weight`],
    [
      `mlp.experts.*.${part}_proj.weight`,
      `mlp.switch_mlp.${part}_proj.weight`,
      part === "down" ? "mlp.experts.down_proj" : fused,
    ],
  );
};

const MODEL: Names = {
  embedding: at("token_embd.weight", "model.embed_tokens.weight"),
  outputNorm: at("output_norm.weight", "model.norm.weight"),
  output: at("output.weight", "lm_head.weight"),
  outputBias: at("output.bias", "lm_head.bias"),
};

const LAYER: Names = {
  attentionNorm: at("attn_norm.weight", "input_layernorm.weight"),
  query: qkv("attn_q", "q_proj"),
  key: qkv("attn_k", "k_proj"),
  value: qkv("attn_v", "v_proj"),
  queryBias: qkvBias("attn_q", "q_proj"),
  keyBias: qkvBias("attn_k", "k_proj"),
  valueBias: qkvBias("attn_v", "v_proj"),
  queryNorm: at("attn_q_norm.weight", "self_attn.q_norm.weight"),
  keyNorm: at("attn_k_norm.weight", "self_attn.k_norm.weight"),
  attended: at("attn_output.weight", "self_attn.o_proj.weight"),
  attendedBias: at("attn_output.bias", "self_attn.o_proj.bias"),
  gate: at("ffn_gate.weight", ["mlp.gate_proj.weight", { of: "mlp.gate_up_proj.weight", take: ofGateUp }]),
  gateBias: at("ffn_gate.bias", "mlp.gate_proj.bias"),
  up: at("ffn_up.weight", ["mlp.up_proj.weight", { of: "mlp.gate_up_proj.weight", take: ofGateUp }]),
  upBias: at("ffn_up.bias", "mlp.up_proj.bias"),
  down: at("ffn_down.weight", "mlp.down_proj.weight"),
  downBias: at("ffn_down.bias", "mlp.down_proj.bias"),
  ffnNorm: at("ffn_norm.weight", "post_attention_layernorm.weight"),
  router: at("ffn_gate_inp.weight", "mlp.gate.weight"),
  expertGate: expert("gate"),
  expertUp: expert("up"),
  expertDown: expert("down"),
};

export const LLAMA_NAMES: NameTables = { model: MODEL, layer: LAYER };

/** Norms after attention and feed-forward, too; Hugging Face names norms by their place, not by their purpose. */
export const SANDWICH_NAMES: NameTables = {
  model: MODEL,
  layer: {
    ...LAYER,
    postAttentionNorm: at("post_attention_norm.weight", "post_attention_layernorm.weight"),
    ffnNorm: at("ffn_norm.weight", "pre_feedforward_layernorm.weight"),
    postFfnNorm: at("post_ffw_norm.weight", "post_feedforward_layernorm.weight"),
  },
};

/** A multimodal checkpoint has its language model under a prefix. */
const PREFIXES = ["", "language_model.", "model.language_model."];

/** A tensor as devices expect it, and the names in the file of the tensors that it was made of. */
export interface FoundTensor {
  readonly names: readonly string[];
  readonly tensor: Tensor;
  /** The place where it was found, and the tensor stored there: for a part, the whole. */
  readonly place: Place;
  readonly whole: Tensor;
}

/** The tensor with our name `name` (of `layer`, if given); null if absent. */
export function findTensor(
  checkpoint: Checkpoint,
  tables: NameTables,
  config: ModelConfig,
  name: string,
  layer?: number,
): FoundTensor | null {
  const table = layer === undefined ? tables.model : tables.layer;
  for (const place of table[name]?.[checkpoint.kind === "gguf" ? "gguf" : "folder"] ?? []) {
    const found = get(checkpoint, typeof place === "string" ? place : place.of, config, layer);
    if (!found) continue;
    const { tensor: whole } = found;
    const part =
      typeof place === "string"
        ? whole
        : place.take(whole, { name, config, layer: config.layers[layer ?? 0] });
    if (part) return { ...found, tensor: part, place, whole };
  }
  return null;
}

/** Whether the file has `name` in any layer. */
export function hasTensor(checkpoint: Checkpoint, tables: NameTables, name: string, layers: number): boolean {
  const whole = Object.hasOwn(tables.model, name);
  const places = (whole ? tables.model : tables.layer)[name][checkpoint.kind === "gguf" ? "gguf" : "folder"];
  const numbers = whole ? [undefined] : Array.from({ length: layers }, (_, layer) => layer);
  return places.some((place) => {
    const own = typeof place === "string" ? place : place.of;
    return numbers.some((layer) =>
      pathsOf(checkpoint, own, layer).some((path) => checkpoint.tensors.has(path)),
    );
  });
}

function get(
  checkpoint: Checkpoint,
  place: string,
  config: ModelConfig,
  layer?: number,
): Pick<FoundTensor, "names" | "tensor"> | null {
  for (const path of pathsOf(checkpoint, place, layer)) {
    if (!path.includes("*")) {
      const tensor = checkpoint.tensors.get(path);
      if (tensor) return { names: [path], tensor };
      continue;
    }
    const { experts } = config.layers[layer ?? 0].feedForward;
    const names = Array.from({ length: experts?.count ?? 0 }, (_, expert) => path.replace("*", `${expert}`));
    const tensors = names.map((name) => checkpoint.tensors.get(name));
    if (names.length > 0 && tensors.every((tensor) => tensor !== undefined))
      return { names, tensor: joinRows(tensors, path) };
  }
  return null;
}

/** The names that a place may have in this kind of file. */
function pathsOf({ kind }: Checkpoint, place: string, layer?: number): string[] {
  if (kind === "gguf") return [layer === undefined ? place : `blk.${layer}.${place}`];
  const path = layer === undefined ? place : `model.layers.${layer}.${place}`;
  return PREFIXES.map((prefix) => underPrefix(prefix, path));
}

/** "model.language_model." replaces the leading "model." (transformers 5); "language_model." is put before it. */
function underPrefix(prefix: string, path: string): string {
  return prefix.startsWith("model.") ? prefix + path.replace(/^model\./, "") : prefix + path;
}
