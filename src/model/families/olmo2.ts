/**
 * OLMo 2 (arXiv 2501.00656): norms after attention and feed-forward instead of before, and norms of q and k over all
 * heads at once. OLMo 3 uses the same GGUF architecture; three in four of its layers slide.
 */
import type { Value } from "../../device/contract.ts";
import type { Recorder } from "../../device/recorder.ts";
import { BOUNDS } from "../bounds.ts";
import { all } from "../keys.ts";
import { attention, embedding, feedForward, norm, type Parts, stack } from "../layers.ts";
import { at, LLAMA_NAMES } from "../names.ts";
import { ATTENTION_BIASES, DEFAULTS, type Family, folderKeys, ggufKeys } from "./family.ts";

function forward(op: Recorder, parts: Parts): Value {
  return stack(op, parts, embedding(op, parts), (x, i) => {
    const h = op.add(x, norm(op, parts, attention(op, parts, i, x), "postAttentionNorm", i));
    return op.add(h, norm(op, parts, feedForward(op, parts, i, h), "postFfnNorm", i));
  });
}

export const olmo2: Family = {
  name: "olmo2",
  gguf: {
    olmo2: {
      keys: ggufKeys(
        all("read", "attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa"),
      ),
      biases: [],
      async config(file) {
        const { fields, headDim } = file;
        file.same("rope.dimension_count", headDim);
        const windows = file.windows(4);
        const rope = await file.rope();
        const base = fields.number("rope.freq_base", BOUNDS.ropeBase, 10_000);
        // Sliding layers have no scaling.
        const sliding = file.plainRope("rope.freq_base_swa", base, headDim);
        return {
          ...file.whole(),
          layers: file.layersOf((layer) => ({
            ...{ window: windows[layer], headNorms: "all" },
            rope: windows[layer] === null ? rope : sliding,
          })),
        };
      },
    },
  },
  folders: {
    olmo2: {
      defaults: {
        ...DEFAULTS,
        ...{ vocab_size: 50_304, hidden_size: 4096, intermediate_size: 11_008, num_hidden_layers: 32 },
        ...{ num_attention_heads: 32, num_key_value_heads: null, head_dim: null, rms_norm_eps: 1e-5 },
        ...{ max_position_embeddings: 2048, attention_bias: false },
      },
      keys: folderKeys(all("read", "hidden_act", "attention_bias")),
      config(file) {
        const rope = file.rope();
        return {
          ...file.whole({ biases: file.flag("attention_bias") ? ATTENTION_BIASES : [] }),
          layers: file.layersOf(() => ({ rope, headNorms: "all" })),
        };
      },
    },
  },
  names: {
    model: LLAMA_NAMES.model,
    layer: {
      ...LLAMA_NAMES.layer,
      postAttentionNorm: at("post_attention_norm.weight", "post_attention_layernorm.weight"),
      postFfnNorm: at("post_ffw_norm.weight", "post_feedforward_layernorm.weight"),
    },
  },
  forward,
};
