/** Qwen 2 and 2.5 (arXiv 2407.10671): Llama with biases on q, k and v, and a window that is off by default. */
import { BOUNDS } from "../bounds.ts";
import type { FolderFile } from "../folder-file.ts";
import { all } from "../keys.ts";
import { preNormModel } from "../layers.ts";
import { LLAMA_NAMES } from "../names.ts";
import type { Metadata } from "../read.ts";
import { DEFAULTS, type Family, folderKeys, ggufKeys, QKV_BIASES } from "./family.ts";

/** Attributes of Qwen's classes. */
export const QWEN_DEFAULTS: Metadata = {
  ...DEFAULTS,
  ...{ vocab_size: 151_936, hidden_size: 4096, intermediate_size: 22_016, num_hidden_layers: 32 },
  ...{ num_attention_heads: 32, num_key_value_heads: 32, max_position_embeddings: 32_768 },
  ...{ use_sliding_window: false, sliding_window: 4096, max_window_layers: 28 },
};

export const QWEN_WINDOW_KEYS = ["use_sliding_window", "sliding_window", "max_window_layers", "layer_types"];

/** `max_window_layers` is the number of first layers that attend to all positions; `layer_types` takes precedence. */
export function qwenWindows(file: FolderFile): (number | null)[] {
  const { config } = file;
  const on = config.flag("use_sliding_window");
  const window = on ? config.numberOrNull("sliding_window", BOUNDS.window) : null;
  const first = config.number("max_window_layers", BOUNDS.layerIndex);
  return file.windows(
    (layer) => window !== null && layer >= first,
    window,
    "with use_sliding_window and sliding_window only",
  );
}

export const qwen2: Family = {
  name: "qwen2",
  gguf: {
    qwen2: {
      keys: ggufKeys(),
      // Files of Qwen 2's shape without any biases (some fine-tunes) are accepted.
      biases: [...QKV_BIASES, "output"],
      async config(file) {
        file.same("rope.dimension_count", file.headDim);
        const rope = await file.rope();
        return { ...file.whole(), layers: file.layersOf(() => ({ rope })) };
      },
    },
  },
  folders: {
    qwen2: {
      defaults: { ...QWEN_DEFAULTS, head_dim: null },
      keys: folderKeys(all("read", "hidden_act", ...QWEN_WINDOW_KEYS)),
      config(file) {
        const windows = qwenWindows(file);
        const rope = file.rope();
        return {
          ...file.whole({ biases: QKV_BIASES }),
          layers: file.layersOf((layer) => ({ rope, window: windows[layer] })),
        };
      },
    },
  },
  names: LLAMA_NAMES,
  forward: preNormModel,
};
