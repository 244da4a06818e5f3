/** Mistral: Llama with a window over all layers, in its first version. In GGUF it is "llama", without a window. */
import { BOUNDS } from "../bounds.ts";
import type { LayerKind } from "../config.ts";
import { all } from "../keys.ts";
import { DEFAULTS, type FolderType, folderKeys, full, layerTypes } from "./family.ts";

export const mistralFolder: FolderType = {
  family: "llama",
  defaults: {
    ...DEFAULTS,
    ...{ vocab_size: 32_000, hidden_size: 4096, intermediate_size: 14_336, num_hidden_layers: 32 },
    ...{ num_attention_heads: 32, num_key_value_heads: 8, head_dim: null, max_position_embeddings: 131_072 },
    sliding_window: 4096,
  },
  keys: folderKeys(all("read", "hidden_act", "sliding_window", "layer_types")),
  activation: "hidden_act",
  layers(config, layers) {
    const window = config.numberOrNull("sliding_window", BOUNDS.window);
    // With kinds of layers transformers takes it for Ministral, whose layers differ.
    const types = layerTypes(config, layers);
    if (types?.includes("sliding") && window === null)
      throw config.error("sliding_window", null, "a number, for the sliding layers of layer_types");
    if (window === null) return full(layers);
    const kinds = types ?? new Array<LayerKind>(layers).fill("sliding");
    return { kinds, window: kinds.includes("sliding") ? window : 0 };
  },
  biases: () => [],
};
