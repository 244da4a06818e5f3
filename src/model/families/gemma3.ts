/**
 * Gemma 3 (arXiv 2503.19786): the Llama block with additional norms after attention and after the feed-forward, norms
 * on q and k, scaled embeddings, GELU, and five sliding layers for each full one. Either text only (`gemma3_text`), or
 * the language model of a multimodal one, whose published files leave out values that equal the defaults.
 */
import { BOUNDS } from "../bounds.ts";
import type { FolderFile } from "../folder-file.ts";
import { all, only } from "../keys.ts";
import { sandwichModel } from "../layers.ts";
import { SANDWICH_NAMES } from "../names.ts";
import { ropesByKind } from "../rope-parameters.ts";
import { plusOne } from "../tensors.ts";
import {
  ATTENTION_BIASES,
  type Family,
  type FolderType,
  folderKeys,
  ggufKeys,
  QKV_BIASES,
} from "./family.ts";

/** Five sliding layers for each full one. */
const PATTERN = 6;

/** Image keys of Gemma's files; text does not use them. */
const EYES = /^(model\.)?(vision_tower|multi_modal_projector)\./;

/** Factor on the embeddings. */
export const gemmaScale = (hidden: number): number => Math.fround(Math.sqrt(hidden));

const text: FolderType = {
  defaults: {
    ...{ vocab_size: 262_208, hidden_size: 2304, intermediate_size: 9216, num_hidden_layers: 26 },
    ...{ num_attention_heads: 8, num_key_value_heads: 4, head_dim: 256, max_position_embeddings: 131_072 },
    ...{ rms_norm_eps: 1e-6, hidden_activation: "gelu_pytorch_tanh", tie_word_embeddings: true },
    ...{ query_pre_attn_scalar: 256, sliding_window: 4096, attention_bias: false },
  },
  keys: folderKeys({
    ...all("read", "hidden_activation", "query_pre_attn_scalar", "attention_bias", "final_logit_softcapping"),
    ...all("read", "sliding_window", "sliding_window_pattern", "layer_types", "rope_local_base_freq"),
    // transformers overwrites it with sliding_window_pattern's value.
    _sliding_window_pattern: "harmless",
    // transformers reads it and does not apply it; a file that asks for it means another computation.
    attn_logit_softcapping: only(null),
    use_bidirectional_attention: only(null, false),
  }),
  harmless: (name) => EYES.test(name),
  config(file: FolderFile) {
    const { config, headDim } = file;
    const period = config.number("sliding_window_pattern", BOUNDS.pattern, PATTERN);
    const windows = file.windows((layer) => (layer + 1) % period !== 0);
    const ropes = ropesByKind(config, {
      full_attention: { headDim, base: 1_000_000, baseKey: "rope_theta" },
      sliding_attention: { headDim, base: 10_000, baseKey: "rope_local_base_freq" },
    });
    const scale = 1 / Math.sqrt(config.number("query_pre_attn_scalar", BOUNDS.queryScalar));
    return {
      ...file.whole({
        activation: file.activation("hidden_activation"),
        embeddingScale: gemmaScale(file.hidden),
        logitSoftcap: file.softcap("final_logit_softcapping"),
        biases: file.flag("attention_bias") ? ATTENTION_BIASES : [],
      }),
      layers: file.layersOf((layer) => ({
        ...{ scale, window: windows[layer], headNorms: "each" },
        rope: windows[layer] === null ? ropes.full_attention : ropes.sliding_attention,
      })),
    };
  },
};

export const gemma3: Family = {
  name: "gemma3",
  gguf: {
    gemma3: {
      keys: ggufKeys(
        all(
          "read",
          ...["attention.sliding_window", "attention.sliding_window_pattern"],
          ...["rope.freq_base_swa", "final_logit_softcapping"],
        ),
      ),
      biases: QKV_BIASES,
      async config(file) {
        const { fields, headDim, hidden, layers, heads } = file;
        for (const key of ["key_length_swa", "value_length_swa"]) file.same(`attention.${key}`, headDim);
        const dims = fields.number("rope.dimension_count", BOUNDS.headDim, headDim);
        file.same("rope.dimension_count_swa", dims);
        const windows = file.windows(PATTERN);
        // The 27B (62 layers) scales queries by hidden / heads, the other sizes by the head size.
        const scale = 1 / Math.sqrt(layers === 62 ? Math.floor(hidden / heads[0]) : headDim);
        const full = await file.rope({ dims });
        // Sliding layers keep base 10,000 and no scaling (section 2 of the report).
        const sliding = file.plainRope("rope.freq_base_swa", 10_000, dims);
        return {
          ...file.whole({
            activation: "geluTanh",
            embeddingScale: gemmaScale(hidden),
            logitSoftcap: file.softcap("final_logit_softcapping"),
          }),
          layers: file.layersOf((layer) => ({
            ...{ scale, window: windows[layer], headNorms: "each" },
            rope: windows[layer] === null ? full : sliding,
          })),
        };
      },
    },
  },
  folders: {
    gemma3_text: text,
    // transformers' class for it has no soft cap on logits, nor do its published files have one.
    gemma3: { ...text, nested: true, keys: { ...text.keys, final_logit_softcapping: only(null) } },
  },
  names: SANDWICH_NAMES,
  // Its norms multiply by 1 + weight; Hugging Face stores the weight, GGUF the sum.
  view: (tensor, { kind, name }) =>
    kind === "safetensors" && name.endsWith("Norm") ? plusOne(tensor) : tensor,
  forward: sandwichModel,
};
