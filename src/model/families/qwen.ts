/** Qwen 2, 2.5 and 3: Llama with biases on q, k and v (2), with norms on q and k (3), and a window that is off by default. */
import { BOUNDS } from "../bounds.ts";
import { all } from "../keys.ts";
import type { Fields, Metadata } from "../read.ts";
import {
  ATTENTION_BIASES,
  DEFAULTS,
  type FolderType,
  folderKeys,
  type GgufType,
  ggufKeys,
  type Layers,
  layerTypes,
} from "./family.ts";

const defaults: Metadata = {
  ...DEFAULTS,
  ...{ vocab_size: 151_936, hidden_size: 4096, intermediate_size: 22_016, num_hidden_layers: 32 },
  ...{ num_attention_heads: 32, num_key_value_heads: 32, max_position_embeddings: 32_768 },
  ...{ use_sliding_window: false, sliding_window: 4096, max_window_layers: 28 },
};

const WINDOW_KEYS = ["use_sliding_window", "sliding_window", "max_window_layers", "layer_types"];
const QKV = ["query", "key", "value"] as const;

/** `max_window_layers` is how many first layers see everything; `layer_types` overrules it. */
function layersOf(config: Fields, layers: number): Layers {
  const window = config.flag("use_sliding_window")
    ? config.numberOrNull("sliding_window", BOUNDS.window)
    : null;
  const first = config.number("max_window_layers", BOUNDS.layerIndex);
  const kinds =
    layerTypes(config, layers) ??
    Array.from({ length: layers }, (_, i) => (window !== null && i >= first ? "sliding" : "full"));
  if (kinds.includes("sliding") && window === null)
    throw config.error("layer_types", "sliding_attention", "with use_sliding_window and sliding_window only");
  return { kinds, window: kinds.includes("sliding") ? window! : 0 };
}

export const qwen2Folder: FolderType = {
  family: "qwen2",
  defaults: { ...defaults, head_dim: null },
  keys: folderKeys(all("read", "hidden_act", ...WINDOW_KEYS)),
  activation: "hidden_act",
  layers: layersOf,
  biases: () => QKV,
};

export const qwen3Folder: FolderType = {
  family: "qwen3",
  defaults: { ...defaults, head_dim: 128, attention_bias: false },
  keys: folderKeys(all("read", "hidden_act", "attention_bias", ...WINDOW_KEYS)),
  activation: "hidden_act",
  layers: layersOf,
  biases: (config) => (config.flag("attention_bias") ? ATTENTION_BIASES : []),
};

/** Biases of a file without any (fine-tunes of Qwen 2's shape) are not missed. */
export const qwen2Gguf: GgufType = { keys: ggufKeys(), biases: [...QKV, "output"] };

export const qwen3Gguf: GgufType = { keys: ggufKeys(), biases: QKV };
