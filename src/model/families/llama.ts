/**
 * Llama 2 and 3 (arXiv 2307.09288, 2407.21783), and other models published under this name: Granite Code and Bielik
 * have biases everywhere; GGUFs of Mistral and Mixtral use it, too.
 */

import { BOUNDS } from "../bounds.ts";
import { attentionIn, type FeedForwardSpec } from "../config.ts";
import { isRopeTensor } from "../gguf-file.ts";
import { all } from "../keys.ts";
import { preNormModel } from "../layers.ts";
import { LLAMA_NAMES } from "../names.ts";
import { permuteHeads, unpermuteHeads } from "../tensors.ts";
import { ATTENTION_BIASES, DEFAULTS, type Family, folderKeys, ggufKeys, MLP_BIASES } from "./family.ts";

export const llama: Family = {
  name: "llama",
  gguf: {
    llama: {
      keys: ggufKeys(all("read", "expert_count", "expert_used_count")),
      biases: [...ATTENTION_BIASES, ...MLP_BIASES],
      async config(file) {
        file.same("rope.dimension_count", file.headDim);
        const rope = await file.rope({ divisors: true });
        const count = file.fields.number("expert_count", BOUNDS.expertsOrNone, 0);
        const k = count > 0 ? file.fields.number("expert_used_count", BOUNDS.experts) : 0;
        const dense = file.dense();
        // Mixtral's experts have the file's feed-forward width.
        const feedForward = (layer: number): FeedForwardSpec =>
          count === 0
            ? dense(layer)
            : { width: 0, experts: { count, k, width: dense(layer).width, normalise: true } };
        return { ...file.whole(), layers: file.layersOf(() => ({ rope }), feedForward) };
      },
      harmless: isRopeTensor,
    },
  },
  folders: {
    llama: {
      defaults: {
        ...DEFAULTS,
        ...{ vocab_size: 32_000, hidden_size: 4096, intermediate_size: 11_008, num_hidden_layers: 32 },
        ...{ num_attention_heads: 32, num_key_value_heads: null, head_dim: null },
        ...{ max_position_embeddings: 2048, attention_bias: false, mlp_bias: false },
      },
      keys: folderKeys(all("read", "hidden_act", "attention_bias", "mlp_bias", "layer_types")),
      config(file) {
        // LlamaConfig has no window: one left over from a conversion from Mistral has no effect. MLX's llama does read
        // layer_types.
        if (file.layerTypes()?.includes("sliding_attention"))
          throw file.config.error("layer_types", "sliding_attention", '"full_attention" in llama');
        const rope = file.rope();
        const biases = [
          ...(file.flag("attention_bias") ? ATTENTION_BIASES : []),
          ...(file.flag("mlp_bias") ? MLP_BIASES : []),
        ];
        return { ...file.whole({ biases }), layers: file.layersOf(() => ({ rope })) };
      },
    },
  },
  names: LLAMA_NAMES,
  // llama.cpp's converter makes RoPE pairs adjacent for this architecture only.
  view: (tensor, { kind, name, layer }) =>
    kind === "gguf" && /^(query|key)(Bias)?$/.test(name)
      ? unpermuteHeads(tensor, attentionIn(layer).headDim)
      : tensor,
  written: (tensor, { name, layer }) =>
    /^(query|key)(Bias)?$/.test(name) ? permuteHeads(tensor, attentionIn(layer).headDim) : tensor,
  forward: preNormModel,
};
