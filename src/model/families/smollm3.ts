/** SmolLM3 (Hugging Face, 2025): Llama with every fourth layer without position encoding. */
import { BOUNDS } from "../bounds.ts";
import { all } from "../keys.ts";
import { preNormModel } from "../layers.ts";
import { LLAMA_NAMES } from "../names.ts";
import { ATTENTION_BIASES, DEFAULTS, type Family, folderKeys, ggufKeys, MLP_BIASES } from "./family.ts";
import { llama } from "./llama.ts";

/** Every Nth layer has no RoPE. */
const INTERVAL = 4;

export const smollm3: Family = {
  name: "smollm3",
  gguf: {
    smollm3: {
      keys: ggufKeys(),
      biases: [...ATTENTION_BIASES, ...MLP_BIASES],
      async config(file) {
        file.same("rope.dimension_count", file.headDim);
        const rope = await file.rope();
        return {
          ...file.whole(),
          layers: file.layersOf((layer) => ({ rope: (layer + 1) % INTERVAL === 0 ? null : rope })),
        };
      },
    },
  },
  folders: {
    smollm3: {
      defaults: {
        ...DEFAULTS,
        ...{ vocab_size: 128_256, hidden_size: 2048, intermediate_size: 11_008, num_hidden_layers: 36 },
        ...{ num_attention_heads: 16, num_key_value_heads: 4, head_dim: null },
        ...{ max_position_embeddings: 32_768, attention_bias: false, mlp_bias: false },
        ...{ use_sliding_window: false, sliding_window: null, tie_word_embeddings: true },
        ...{ no_rope_layers: null, no_rope_layer_interval: INTERVAL },
      },
      keys: folderKeys({
        ...all("read", "hidden_act", "attention_bias", "mlp_bias", "layer_types"),
        ...all("read", "use_sliding_window", "sliding_window", "no_rope_layers", "no_rope_layer_interval"),
      }),
      config(file) {
        const { config, layers } = file;
        const interval = config.number("no_rope_layer_interval", BOUNDS.pattern);
        const turns = config.list("no_rope_layers");
        if (turns && turns.length !== layers)
          throw config.error("no_rope_layers", turns, `${layers} values, one for each layer`);
        // 1 means that the layer has RoPE, despite the key's name.
        const hasRope = (layer: number) => (turns ? !!turns[layer] : (layer + 1) % interval !== 0);
        const on = config.flag("use_sliding_window") && config.value("sliding_window") !== null;
        const windows = file.windows((layer) => on && !hasRope(layer));
        const rope = file.rope({ base: 2_000_000 });
        return {
          ...file.whole({
            biases: [
              ...(file.flag("attention_bias") ? ATTENTION_BIASES : []),
              ...(file.flag("mlp_bias") ? MLP_BIASES : []),
            ],
          }),
          layers: file.layersOf((layer) => ({ window: windows[layer], rope: hasRope(layer) ? rope : null })),
        };
      },
    },
  },
  names: LLAMA_NAMES,
  // As for Llama, llama.cpp's converter makes RoPE pairs adjacent.
  view: llama.view,
  written: llama.written,
  forward: preNormModel,
};
