/**
 * Shapes of well-known models, to plan for or to measure without their files. Owns the table alone; a config comes out
 * of a shape the way it does out of a file (synthetic.ts), so that no second path exists. Numbers: the config.json that
 * each model's authors published.
 */
import type { Llama3Scaling } from "./rope.ts";

export interface Shape {
  readonly family: "llama" | "qwen2" | "qwen3" | "gemma3";
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ffn: number;
  readonly vocab: number;
  readonly trainedContext: number;
  readonly normEpsilon: number;
  readonly ropeBase: number;
  /** Of the layers that see everything. */
  readonly ropeScaling?: { readonly linear: number } | Llama3Scaling;
  /** Positions that Gemma's sliding layers see, five of each six. */
  readonly window?: number;
  /** The output matrix is the embedding. */
  readonly tied: boolean;
}

/** Llama 3.1 and 3.2 differ in the factor alone. */
const llama3Scaling = (factor: number): Llama3Scaling => ({
  factor,
  lowFrequencyFactor: 1,
  highFrequencyFactor: 4,
  originalContext: 8192,
});

const llama3 = {
  family: "llama",
  vocab: 128_256,
  trainedContext: 131_072,
  normEpsilon: 1e-5,
  ropeBase: 500_000,
  kvHeads: 8,
} as const;

const qwen3 = {
  family: "qwen3",
  vocab: 151_936,
  trainedContext: 40_960,
  normEpsilon: 1e-6,
  ropeBase: 1_000_000,
  kvHeads: 8,
  headDim: 128,
} as const;

const gemma3 = {
  family: "gemma3",
  vocab: 262_144,
  headDim: 256,
  normEpsilon: 1e-6,
  ropeBase: 1_000_000,
  tied: true,
} as const;

/** By the name that a person types. */
export const SHAPES: Readonly<Record<string, Shape>> = {
  "llama-3.1-8b": {
    ...llama3,
    ...{ layers: 32, hidden: 4096, heads: 32, headDim: 128, ffn: 14_336 },
    ...{ ropeScaling: llama3Scaling(8), tied: false },
  },
  "llama-3.1-70b": {
    ...llama3,
    ...{ layers: 80, hidden: 8192, heads: 64, headDim: 128, ffn: 28_672 },
    ...{ ropeScaling: llama3Scaling(8), tied: false },
  },
  "llama-3.2-1b": {
    ...llama3,
    ...{ layers: 16, hidden: 2048, heads: 32, headDim: 64, ffn: 8192 },
    ...{ ropeScaling: llama3Scaling(32), tied: true },
  },
  "llama-3.2-3b": {
    ...llama3,
    ...{ layers: 28, hidden: 3072, heads: 24, headDim: 128, ffn: 8192 },
    ...{ ropeScaling: llama3Scaling(32), tied: true },
  },
  // v0.3: the one without a sliding window.
  "mistral-7b": {
    family: "llama",
    ...{ layers: 32, hidden: 4096, heads: 32, kvHeads: 8, headDim: 128, ffn: 14_336, vocab: 32_768 },
    ...{ trainedContext: 32_768, normEpsilon: 1e-5, ropeBase: 1_000_000, tied: false },
  },
  "qwen-2.5-7b": {
    family: "qwen2",
    ...{ layers: 28, hidden: 3584, heads: 28, kvHeads: 4, headDim: 128, ffn: 18_944, vocab: 152_064 },
    ...{ trainedContext: 32_768, normEpsilon: 1e-6, ropeBase: 1_000_000, tied: false },
  },
  "qwen-3-0.6b": { ...qwen3, layers: 28, hidden: 1024, heads: 16, ffn: 3072, tied: true },
  "qwen-3-4b": { ...qwen3, layers: 36, hidden: 2560, heads: 32, ffn: 9728, tied: true },
  "qwen-3-8b": { ...qwen3, layers: 36, hidden: 4096, heads: 32, ffn: 12_288, tied: false },
  "gemma-3-270m": {
    ...gemma3,
    ...{ layers: 18, hidden: 640, heads: 4, kvHeads: 1, ffn: 2048, window: 512, trainedContext: 32_768 },
  },
  "gemma-3-1b": {
    ...gemma3,
    ...{ layers: 26, hidden: 1152, heads: 4, kvHeads: 1, ffn: 6912, window: 512, trainedContext: 32_768 },
  },
  "gemma-3-4b": {
    ...gemma3,
    ...{ layers: 34, hidden: 2560, heads: 8, kvHeads: 4, ffn: 10_240, window: 1024, trainedContext: 131_072 },
    ropeScaling: { linear: 8 },
  },
};
