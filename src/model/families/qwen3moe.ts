/** Qwen 3's mixtures (arXiv 2505.09388): Qwen 3 with experts instead of the feed-forward, in all layers or some. */
import { BOUNDS } from "../bounds.ts";
import type { ExpertsSpec } from "../config.ts";
import { all, only } from "../keys.ts";
import { preNormModel } from "../layers.ts";
import { LLAMA_NAMES } from "../names.ts";
import { ATTENTION_BIASES, type Family, folderKeys, ggufKeys, QKV_BIASES } from "./family.ts";
import { QWEN_DEFAULTS } from "./qwen2.ts";

export const qwen3moe: Family = {
  name: "qwen3moe",
  gguf: {
    qwen3moe: {
      keys: ggufKeys(all("read", "expert_count", "expert_used_count", "expert_feed_forward_length")),
      biases: QKV_BIASES,
      async config(file) {
        const { fields, headDim } = file;
        file.same("rope.dimension_count", headDim);
        const rope = await file.rope();
        const k = fields.number("expert_used_count", BOUNDS.experts);
        const width = fields.has("expert_feed_forward_length")
          ? fields.number("expert_feed_forward_length", BOUNDS.ffn)
          : Math.floor(fields.number("feed_forward_length", BOUNDS.ffn) / k);
        const experts = { count: fields.number("expert_count", BOUNDS.experts), k, width, normalise: true };
        return {
          ...file.whole(),
          layers: file.layersOf(
            () => ({ rope, headNorms: "each" }),
            () => ({ width: 0, experts }),
          ),
        };
      },
    },
  },
  folders: {
    qwen3_moe: {
      defaults: {
        ...QWEN_DEFAULTS,
        ...{ hidden_size: 2048, intermediate_size: 6144, num_hidden_layers: 24, num_key_value_heads: 4 },
        ...{ head_dim: null, attention_bias: false, decoder_sparse_step: 1, moe_intermediate_size: 768 },
        ...{ num_experts_per_tok: 8, norm_topk_prob: false, mlp_only_layers: null },
      },
      keys: folderKeys({
        ...all("read", "hidden_act", "attention_bias", "use_sliding_window", "sliding_window"),
        ...all("read", "decoder_sparse_step", "moe_intermediate_size", "num_experts_per_tok", "num_experts"),
        ...all("read", "num_local_experts", "norm_topk_prob", "mlp_only_layers"),
        ...all("harmless", "router_aux_loss_coef", "output_router_logits", "max_window_layers"),
        layer_types: only(null),
      }),
      config(file) {
        const { config } = file;
        // For all layers, whatever max_window_layers says.
        const window = config.flag("use_sliding_window")
          ? config.numberOrNull("sliding_window", BOUNDS.window)
          : null;
        const rope = file.rope();
        const experts: ExpertsSpec = {
          ...{ count: file.expertCount(128), k: config.number("num_experts_per_tok", BOUNDS.experts) },
          ...{
            width: config.number("moe_intermediate_size", BOUNDS.ffn),
            normalise: file.flag("norm_topk_prob"),
          },
        };
        const step = config.number("decoder_sparse_step", BOUNDS.period);
        const plain = config.list("mlp_only_layers") ?? [];
        const dense = file.dense();
        return {
          ...file.whole({ biases: file.flag("attention_bias") ? ATTENTION_BIASES : [] }),
          layers: file.layersOf(
            () => ({ rope, window, headNorms: "each" }),
            (layer) =>
              plain.includes(layer) || (layer + 1) % step !== 0 ? dense(layer) : { width: 0, experts },
          ),
        };
      },
    },
  },
  names: LLAMA_NAMES,
  forward: preNormModel,
};
