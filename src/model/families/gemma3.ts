/**
 * Gemma 3: five sliding layers to one that sees everything. As text alone (`gemma3_text`), or as the language model of
 * one that also sees images (`gemma3`), whose published files leave out what equals the defaults.
 */
import { BOUNDS } from "../bounds.ts";
import { slidingPattern } from "../config.ts";
import { all, only } from "../keys.ts";
import {
  ATTENTION_BIASES,
  type FolderType,
  folderKeys,
  type GgufType,
  ggufKeys,
  layerTypes,
} from "./family.ts";

/** Gemma 3 technical report (arXiv 2503.19786): five local layers to one global. */
export const GEMMA3_PATTERN = 6;

export const gemma3Folder: FolderType = {
  family: "gemma3",
  defaults: {
    ...{ vocab_size: 262_208, hidden_size: 2304, intermediate_size: 9216, num_hidden_layers: 26 },
    ...{ num_attention_heads: 8, num_key_value_heads: 4, head_dim: 256, max_position_embeddings: 131_072 },
    ...{ rms_norm_eps: 1e-6, hidden_activation: "gelu_pytorch_tanh", tie_word_embeddings: true },
    ...{ query_pre_attn_scalar: 256, sliding_window: 4096, attention_bias: false },
  },
  keys: folderKeys({
    ...all("read", "hidden_activation", "query_pre_attn_scalar", "attention_bias", "final_logit_softcapping"),
    ...all("read", "sliding_window", "sliding_window_pattern", "layer_types", "rope_local_base_freq"),
    // Transformers overwrites it with sliding_window_pattern's value.
    _sliding_window_pattern: "harmless",
    // Read by transformers and not applied; a file that asks for it means another computation.
    attn_logit_softcapping: only(null),
    use_bidirectional_attention: only(null, false),
  }),
  activation: "hidden_activation",
  layers(config, layers) {
    const kinds =
      layerTypes(config, layers) ??
      slidingPattern(layers, config.number("sliding_window_pattern", BOUNDS.pattern, GEMMA3_PATTERN));
    return { kinds, window: kinds.includes("sliding") ? config.number("sliding_window", BOUNDS.window) : 0 };
  },
  biases: (config) => (config.flag("attention_bias") ? ATTENTION_BIASES : []),
};

export const gemma3Gguf: GgufType = {
  keys: ggufKeys(
    all(
      "read",
      "attention.sliding_window",
      "attention.sliding_window_pattern",
      "rope.freq_base_swa",
      "final_logit_softcapping",
    ),
  ),
  biases: ["query", "key", "value"],
};

/** With images. Transformers' class for it does not soft-cap logits, nor have its published files a cap. */
export const gemma3ImagesFolder: FolderType = {
  ...gemma3Folder,
  keys: { ...gemma3Folder.keys, final_logit_softcapping: only(null) },
};
