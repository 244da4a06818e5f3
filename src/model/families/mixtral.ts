/** Mixtral (arXiv 2401.04088): Mistral with experts instead of the feed-forward. Its GGUFs are Llama's. */
import { BOUNDS } from "../bounds.ts";
import { all, only } from "../keys.ts";
import { at, LLAMA_NAMES } from "../names.ts";
import { DEFAULTS, type Family, folderKeys } from "./family.ts";
import { llama } from "./llama.ts";

/** As published, as mlx-lm stores them, and as transformers 5 holds them in memory. */
const expert = (own: string, mlx: "gate" | "up" | "down") => {
  const { gguf, folder } = LLAMA_NAMES.layer[`expert${mlx[0].toUpperCase()}${mlx.slice(1)}`];
  return at(gguf, [
    `block_sparse_moe.experts.*.${own}.weight`,
    `block_sparse_moe.switch_mlp.${mlx}_proj.weight`,
    ...folder,
  ]);
};

export const mixtral: Family = {
  ...llama,
  gguf: {},
  folders: {
    mixtral: {
      defaults: {
        ...DEFAULTS,
        ...{ vocab_size: 32_000, hidden_size: 4096, intermediate_size: 14_336, num_hidden_layers: 32 },
        ...{ num_attention_heads: 32, num_key_value_heads: 8, head_dim: null, rms_norm_eps: 1e-5 },
        ...{ max_position_embeddings: 131_072, sliding_window: null, num_experts_per_tok: 2 },
      },
      keys: folderKeys({
        ...all(
          "read",
          "hidden_act",
          "sliding_window",
          "num_local_experts",
          "num_experts",
          "num_experts_per_tok",
        ),
        // Training only, and what transformers returns.
        ...all("harmless", "router_aux_loss_coef", "output_router_logits", "router_jitter_noise"),
        layer_types: only(null),
      }),
      config(file) {
        const window = file.config.numberOrNull("sliding_window", BOUNDS.window);
        const rope = file.rope({ base: 1_000_000 });
        const experts = {
          ...{ count: file.expertCount(8), k: file.config.number("num_experts_per_tok", BOUNDS.experts) },
          ...{ width: file.config.number("intermediate_size", BOUNDS.ffn), normalise: true },
        };
        return {
          ...file.whole(),
          layers: file.layersOf(
            () => ({ rope, window }),
            () => ({ width: 0, experts }),
          ),
        };
      },
    },
  },
  names: {
    model: LLAMA_NAMES.model,
    layer: {
      ...LLAMA_NAMES.layer,
      router: at("ffn_gate_inp.weight", ["block_sparse_moe.gate.weight", "mlp.gate.weight"]),
      expertGate: expert("w1", "gate"),
      expertUp: expert("w3", "up"),
      expertDown: expert("w2", "down"),
    },
  },
};
