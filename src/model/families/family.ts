/** What a family says of itself to the readers of config.json and of GGUF metadata. One file for each follows. */
import type { BiasName, LayerKind } from "../config.ts";
import { COMMON_FOLDER, COMMON_GGUF, type Keys } from "../keys.ts";
import type { Fields, Metadata } from "../read.ts";

export interface Layers {
  readonly kinds: readonly LayerKind[];
  /** Positions that the sliding ones see; 0 without any. */
  readonly window: number;
}

/** A `model_type` of config.json, as transformers' class of that name reads it. */
export interface FolderType {
  /** The family whose forward pass it has. */
  readonly family: string;
  /** What holds where a key is missing: the class's attributes. */
  readonly defaults: Metadata;
  readonly keys: Keys;
  readonly activation: "hidden_act" | "hidden_activation";
  layers(config: Fields, layers: number): Layers;
  biases(config: Fields): readonly BiasName[];
}

/** A `general.architecture`, as llama.cpp's class of that name reads it. */
export interface GgufType {
  readonly keys: Keys;
  /** Taken where the file has them. */
  readonly biases: readonly BiasName[];
}

/** Attributes that most classes share. */
export const DEFAULTS: Metadata = {
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
};

export const ATTENTION_BIASES = ["query", "key", "value", "attended"] as const;
export const MLP_BIASES = ["gate", "up", "down"] as const;

/** Every layer sees everything. */
export function full(layers: number): Layers {
  return { kinds: new Array<LayerKind>(layers).fill("full"), window: 0 };
}

export const folderKeys = (own: Keys): Keys => ({ ...COMMON_FOLDER, ...own });
export const ggufKeys = (own: Keys = {}): Keys => ({ ...COMMON_GGUF, ...own });

/** `layer_types`, one for each layer; null: missing. FormatError for a wrong count or another kind. */
export function layerTypes(config: Fields, layers: number): readonly LayerKind[] | null {
  const types = config.list("layer_types");
  if (types === null) return null;
  if (types.length !== layers)
    throw config.error("layer_types", types, `${layers} kinds, one for each layer`);
  return types.map((kind) => {
    if (kind === "full_attention") return "full";
    if (kind === "sliding_attention") return "sliding";
    throw config.error("layer_types", kind, '"full_attention", "sliding_attention"');
  });
}
