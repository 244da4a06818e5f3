/** Mistral (arXiv 2310.06825): Llama, in the first version with a window in all layers. Its GGUFs are Llama's. */
import { BOUNDS } from "../bounds.ts";
import { all } from "../keys.ts";
import { DEFAULTS, type Family, folderKeys } from "./family.ts";
import { llama } from "./llama.ts";

export const mistral: Family = {
  ...llama,
  gguf: {},
  folders: {
    mistral: {
      defaults: {
        ...DEFAULTS,
        ...{ vocab_size: 32_000, hidden_size: 4096, intermediate_size: 14_336, num_hidden_layers: 32 },
        ...{ num_attention_heads: 32, num_key_value_heads: 8, head_dim: null },
        ...{ max_position_embeddings: 131_072, sliding_window: 4096 },
      },
      keys: folderKeys(all("read", "hidden_act", "sliding_window", "layer_types")),
      config(file) {
        const window = file.config.numberOrNull("sliding_window", BOUNDS.window);
        // With layer_types transformers reads it as Ministral, whose layers differ.
        const windows = file.windows(() => window !== null, window);
        const rope = file.rope();
        return {
          ...file.whole(),
          layers: file.layersOf((layer) => ({ rope, window: window === null ? null : windows[layer] })),
        };
      },
    },
  },
};
