/** Llama 2 and 3, and what was published under their name: Granite Code and Bielik have biases everywhere. */
import { all } from "../keys.ts";
import {
  ATTENTION_BIASES,
  DEFAULTS,
  type FolderType,
  folderKeys,
  full,
  type GgufType,
  ggufKeys,
  layerTypes,
  MLP_BIASES,
} from "./family.ts";

export const llamaFolder: FolderType = {
  family: "llama",
  defaults: {
    ...DEFAULTS,
    ...{ vocab_size: 32_000, hidden_size: 4096, intermediate_size: 11_008, num_hidden_layers: 32 },
    ...{ num_attention_heads: 32, num_key_value_heads: null, head_dim: null, max_position_embeddings: 2048 },
    ...{ attention_bias: false, mlp_bias: false },
  },
  keys: folderKeys(all("read", "hidden_act", "attention_bias", "mlp_bias", "layer_types")),
  activation: "hidden_act",
  layers(config, layers) {
    // LlamaConfig has no window: one that a conversion from Mistral left is not obeyed. MLX's llama reads the kinds.
    if (layerTypes(config, layers)?.includes("sliding"))
      throw config.error("layer_types", "sliding_attention", '"full_attention" in llama');
    return full(layers);
  },
  biases: (config) => [
    ...(config.flag("attention_bias") ? ATTENTION_BIASES : []),
    ...(config.flag("mlp_bias") ? MLP_BIASES : []),
  ],
};

export const llamaGguf: GgufType = {
  keys: ggufKeys(),
  biases: [...ATTENTION_BIASES, ...MLP_BIASES],
};
