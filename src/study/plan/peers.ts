/**
 * What other engines use for the same model, by their own layouts: weights as in the file, and their KV cache. States
 * its assumptions; compute buffers, which differ by version, are not counted.
 */
import { attentionsOf, type ModelConfig } from "../../model/config.ts";

export interface Peer {
  /** "llama.cpp q8_0": engine and cache format. */
  readonly name: string;
  readonly assumption: string;
  cacheBytes(config: ModelConfig, context: number): number;
  /** Whether it supports this format for such heads. */
  allows(config: ModelConfig): boolean;
}

/** Bytes of `elements` values of ggml's cache types (ggml-common.h: block_q8_0, block_q4_0). */
const GGML = {
  f16: { elements: 1, bytes: 2 },
  q8_0: { elements: 32, bytes: 34 },
  q4_0: { elements: 32, bytes: 18 },
} as const;

/** Cells come in multiples of this many, in llama.cpp and in mlx-lm alike. */
const CELLS = 256;
/** llama.cpp's default `--ubatch-size`: the tokens that a sliding layer holds in addition to its window. */
const UBATCH = 512;

const padded = (cells: number) => Math.ceil(cells / CELLS) * CELLS;

/**
 * For the layers that have a cache of their own; `ofSliding`: cells of a layer with such a window; `valueBytes`:
 * average bytes of a value.
 */
function cellBytes(
  config: ModelConfig,
  context: number,
  ofSliding: (window: number) => number,
  valueBytes: number,
): number {
  const own = attentionsOf(config).filter(({ layer, spec }) => spec.cacheOf === layer);
  return own.reduce((sum, { spec: { window, kvHeads, headDim } }) => {
    const cells = window === null ? padded(context) : ofSliding(window);
    return sum + cells * 2 * kvHeads * headDim * valueBytes;
  }, 0);
}

function llamaCpp(type: keyof typeof GGML): Peer {
  const { elements, bytes } = GGML[type];
  return {
    name: `llama.cpp ${type}`,
    assumption:
      "llama.cpp: one sequence, cells in multiples of 256, sliding layers hold their window and 512 more (no --swa-full)",
    // llama-kv-cache-iswa.cpp: the window and a batch, never more than the context.
    cacheBytes: (config, context) =>
      cellBytes(
        config,
        context,
        (window) => padded(Math.min(padded(context), window + UBATCH)),
        bytes / elements,
      ),
    allows: (config) => attentionsOf(config).every(({ spec }) => spec.headDim % elements === 0),
  };
}

const mlx: Peer = {
  name: "MLX f16",
  assumption: "mlx-lm: steps of 256 tokens, sliding layers hold their window, growth by copying not counted",
  cacheBytes: (config, context) =>
    cellBytes(config, context, (window) => Math.min(padded(context), window), 2),
  allows: () => true,
};

export const PEERS: readonly Peer[] = [llamaCpp("f16"), llamaCpp("q8_0"), llamaCpp("q4_0"), mlx];
