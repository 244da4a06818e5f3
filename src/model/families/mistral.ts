/** Mistral: Llama with a window over all layers, in its first version. In GGUF it is "llama", without a window. */
import { BOUNDS } from "../bounds.ts";
import { all } from "../keys.ts";
import { DEFAULTS, type FolderType, folderKeys, full, type Layers, layerTypes } from "./family.ts";

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
    const found: Layers =
      window === null ? full(layers) : { kinds: new Array(layers).fill("sliding"), window };
    // MistralModel has one mask for all layers; other kinds belong to Ministral.
    const types = layerTypes(config, layers);
    if (types?.some((kind, i) => kind !== found.kinds[i]))
      throw config.error(
        "layer_types",
        config.value("layer_types"),
        "kinds that agree with sliding_window in mistral",
      );
    return found;
  },
  biases: () => [],
};
