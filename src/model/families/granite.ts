/** Granite 3 and 4's dense models (IBM): Llama with factors on embeddings, scores, residuals and logits. */
import { BOUNDS } from "../bounds.ts";
import { attentionsOf } from "../config.ts";
import { isRopeTensor } from "../gguf-file.ts";
import { all, only } from "../keys.ts";
import { preNormModel } from "../layers.ts";
import { LLAMA_NAMES } from "../names.ts";
import { f32 } from "../written-keys.ts";
import { ATTENTION_BIASES, DEFAULTS, type Family, folderKeys, ggufKeys, MLP_BIASES } from "./family.ts";
import { llama } from "./llama.ts";

export const granite: Family = {
  name: "granite",
  gguf: {
    granite: {
      keys: ggufKeys({
        ...all("read", "logit_scale", "residual_scale", "embedding_scale", "attention.scale"),
        // llama.cpp's switch for RoPE.
        "rope.scaling.finetuned": only(true),
        expert_shared_feed_forward_length: only(0),
      }),
      biases: [...ATTENTION_BIASES, ...MLP_BIASES],
      async config(file) {
        file.same("rope.dimension_count", file.headDim);
        const rope = await file.rope({ divisors: true });
        // 0 means the usual one.
        const own = file.fields.value("attention.scale") || null;
        const scale = own === null ? 1 / Math.sqrt(file.headDim) : file.multiplier("attention.scale");
        return {
          ...file.whole({
            embeddingScale: file.multiplier("embedding_scale"),
            residualScale: file.multiplier("residual_scale"),
            logitScale: 1 / file.fields.number("logit_scale", BOUNDS.multiplier),
          }),
          layers: file.layersOf(() => ({ rope, scale })),
        };
      },
      harmless: isRopeTensor,
    },
  },
  folders: {
    granite: {
      defaults: {
        ...DEFAULTS,
        ...{ vocab_size: 32_000, hidden_size: 4096, intermediate_size: 11_008, num_hidden_layers: 32 },
        ...{ num_attention_heads: 32, num_key_value_heads: null, head_dim: null },
        ...{ max_position_embeddings: 2048, attention_bias: false, mlp_bias: false },
        ...{ embedding_multiplier: 1, logits_scaling: 1, residual_multiplier: 1, attention_multiplier: 1 },
      },
      keys: folderKeys({
        ...all("read", "hidden_act", "attention_bias", "mlp_bias"),
        ...all("read", "embedding_multiplier", "logits_scaling"),
        ...all("read", "residual_multiplier", "attention_multiplier"),
      }),
      config(file) {
        const rope = file.rope();
        const scale = file.multiplier("attention_multiplier");
        return {
          ...file.whole({
            embeddingScale: file.multiplier("embedding_multiplier"),
            residualScale: file.multiplier("residual_multiplier"),
            logitScale: 1 / file.multiplier("logits_scaling"),
            biases: [
              ...(file.flag("attention_bias") ? ATTENTION_BIASES : []),
              ...(file.flag("mlp_bias") ? MLP_BIASES : []),
            ],
          }),
          layers: file.layersOf(() => ({ rope, scale })),
        };
      },
    },
  },
  names: LLAMA_NAMES,
  // As for Llama, llama.cpp's converter makes RoPE pairs adjacent.
  view: llama.view,
  written: llama.written,
  writtenKeys(config) {
    const [{ spec }] = attentionsOf(config);
    return [
      ["logit_scale", f32(1 / config.logitScale)],
      ["residual_scale", f32(config.residualScale)],
      ["embedding_scale", f32(config.embeddingScale)],
      ["attention.scale", f32(spec.scale)],
    ];
  },
  forward: preNormModel,
};
