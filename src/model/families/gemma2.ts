/**
 * Gemma 2 (arXiv 2408.00118): the Llama block with additional norms after attention and after the feed-forward, soft
 * caps on scores and logits, scaled embeddings, GELU, and a window in every other layer.
 */
import { BOUNDS } from "../bounds.ts";
import { all, only } from "../keys.ts";
import { sandwichModel } from "../layers.ts";
import { SANDWICH_NAMES } from "../names.ts";
import { plusOne } from "../tensors.ts";
import { ATTENTION_BIASES, type Family, folderKeys, ggufKeys, QKV_BIASES } from "./family.ts";
import { gemmaScale } from "./gemma3.ts";

const PATTERN = 2;

export const gemma2: Family = {
  name: "gemma2",
  gguf: {
    gemma2: {
      keys: ggufKeys({
        ...all("read", "attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa"),
        ...all("read", "attn_logit_softcapping", "final_logit_softcapping"),
      }),
      biases: QKV_BIASES,
      async config(file) {
        const { headDim, hidden, layers, heads } = file;
        const windows = file.windows(PATTERN, 4096);
        // The 27B (46 layers) scales queries by hidden / heads, the other sizes by the head size.
        const scale = 1 / Math.sqrt(layers === 46 ? Math.floor(hidden / heads[0]) : headDim);
        const softcap = file.softcap("attn_logit_softcapping", 50);
        const rope = await file.rope();
        const sliding = file.fields.has("rope.freq_base_swa")
          ? await file.rope({ baseKey: "rope.freq_base_swa" })
          : rope;
        return {
          ...file.whole({
            activation: "geluTanh",
            embeddingScale: gemmaScale(hidden),
            logitSoftcap: file.softcap("final_logit_softcapping", 30),
          }),
          layers: file.layersOf((layer) => ({
            ...{ scale, softcap, window: windows[layer] },
            rope: windows[layer] === null ? rope : sliding,
          })),
        };
      },
    },
  },
  folders: {
    gemma2: {
      defaults: {
        ...{ vocab_size: 256_000, hidden_size: 2304, intermediate_size: 9216, num_hidden_layers: 26 },
        ...{ num_attention_heads: 8, num_key_value_heads: 4, head_dim: 256, max_position_embeddings: 8192 },
        ...{ rms_norm_eps: 1e-6, hidden_activation: "gelu_pytorch_tanh", tie_word_embeddings: true },
        ...{ query_pre_attn_scalar: 256, sliding_window: 4096, attention_bias: false },
        ...{ final_logit_softcapping: 30, attn_logit_softcapping: 50 },
      },
      keys: folderKeys({
        ...all("read", "hidden_activation", "query_pre_attn_scalar", "attention_bias", "sliding_window"),
        ...all("read", "layer_types", "final_logit_softcapping", "attn_logit_softcapping"),
        // transformers no longer reads it for Gemma 2; hidden_activation takes its place.
        hidden_act: "harmless",
        use_bidirectional_attention: only(null, false),
      }),
      config(file) {
        const windows = file.windows((layer) => layer % PATTERN === 0);
        const scale = 1 / Math.sqrt(file.config.number("query_pre_attn_scalar", BOUNDS.queryScalar));
        const softcap = file.softcap("attn_logit_softcapping");
        const rope = file.rope();
        return {
          ...file.whole({
            activation: file.activation("hidden_activation"),
            embeddingScale: gemmaScale(file.hidden),
            logitSoftcap: file.softcap("final_logit_softcapping"),
            biases: file.flag("attention_bias") ? ATTENTION_BIASES : [],
          }),
          layers: file.layersOf((layer) => ({ rope, scale, softcap, window: windows[layer] })),
        };
      },
    },
  },
  names: SANDWICH_NAMES,
  // As in Gemma 3, Hugging Face stores the weight minus 1.
  view: (tensor, { kind, name }) =>
    kind === "safetensors" && name.endsWith("Norm") ? plusOne(tensor) : tensor,
  forward: sandwichModel,
};
