/**
 * Phi-3, 3.5 and 4 (arXiv 2404.14219): Llama with q, k, v in one matrix and gate and up in another, RoPE on a part of
 * the head, LongRoPE, and, in some sizes, a window in all layers.
 */
import { BOUNDS } from "../bounds.ts";
import { isRopeTensor } from "../gguf-file.ts";
import { all } from "../keys.ts";
import { preNormModel } from "../layers.ts";
import { at, LLAMA_NAMES, ofGateUp } from "../names.ts";
import { DEFAULTS, type Family, folderKeys, ggufKeys } from "./family.ts";

const halves = at({ of: "ffn_up.weight", take: ofGateUp }, { of: "mlp.gate_up_proj.weight", take: ofGateUp });

export const phi3: Family = {
  name: "phi3",
  gguf: {
    phi3: {
      keys: ggufKeys({
        // llama.cpp ignores the window here: its converter wrote windows for models that have none.
        ...all("harmless", "attention.sliding_window", "attention.sliding_window_pattern"),
      }),
      biases: [],
      async config(file) {
        const rope = await file.rope({ divisors: true });
        return { ...file.whole(), layers: file.layersOf(() => ({ rope })) };
      },
      harmless: isRopeTensor,
    },
  },
  folders: {
    phi3: {
      defaults: {
        ...DEFAULTS,
        ...{ vocab_size: 32_064, hidden_size: 3072, intermediate_size: 8192, num_hidden_layers: 32 },
        ...{ num_attention_heads: 32, num_key_value_heads: null, head_dim: null, rms_norm_eps: 1e-5 },
        ...{ max_position_embeddings: 4096, original_max_position_embeddings: 4096, sliding_window: null },
      },
      keys: folderKeys({
        ...all("read", "hidden_act", "sliding_window", "partial_rotary_factor"),
        // Training only.
        ...all("harmless", "embd_pdrop", "resid_pdrop"),
      }),
      config(file) {
        const { config } = file;
        const window = config.numberOrNull("sliding_window", BOUNDS.window);
        const partial = config.numberOrNull("partial_rotary_factor", BOUNDS.part) ?? 1;
        const rope = file.rope({ partial, aliases: { su: "longrope", yarn: "longrope" } });
        return { ...file.whole(), layers: file.layersOf(() => ({ rope, window })) };
      },
    },
  },
  names: { model: LLAMA_NAMES.model, layer: { ...LLAMA_NAMES.layer, gate: halves, up: halves } },
  forward: preNormModel,
};
