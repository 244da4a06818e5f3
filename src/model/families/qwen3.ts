/** Qwen 3 (arXiv 2505.09388): Llama with norms on q and k, and a window that is off by default. */
import { all } from "../keys.ts";
import { preNormModel } from "../layers.ts";
import { LLAMA_NAMES } from "../names.ts";
import { ATTENTION_BIASES, type Family, folderKeys, ggufKeys, QKV_BIASES } from "./family.ts";
import { QWEN_DEFAULTS, QWEN_WINDOW_KEYS, qwenWindows } from "./qwen2.ts";

export const qwen3: Family = {
  name: "qwen3",
  gguf: {
    qwen3: {
      keys: ggufKeys(),
      biases: QKV_BIASES,
      async config(file) {
        file.same("rope.dimension_count", file.headDim);
        const rope = await file.rope();
        return { ...file.whole(), layers: file.layersOf(() => ({ rope, headNorms: "each" })) };
      },
    },
  },
  folders: {
    qwen3: {
      defaults: { ...QWEN_DEFAULTS, head_dim: 128, attention_bias: false },
      keys: folderKeys(all("read", "hidden_act", "attention_bias", ...QWEN_WINDOW_KEYS)),
      config(file) {
        const windows = qwenWindows(file);
        const rope = file.rope();
        return {
          ...file.whole({ biases: file.flag("attention_bias") ? ATTENTION_BIASES : [] }),
          layers: file.layersOf((layer) => ({ rope, window: windows[layer], headNorms: "each" })),
        };
      },
    },
  },
  names: LLAMA_NAMES,
  forward: preNormModel,
};
