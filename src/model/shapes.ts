/**
 * Shapes of well-known models, for planning and measuring without their files. Only a table: a config is read from a
 * shape as it is read from a file (synthetic.ts). The numbers are those of each model's published config.json.
 */
import type { Llama3Scaling } from "./rope.ts";

type Keys = Readonly<Record<string, unknown>>;

/** A model's sizes without its weights. */
export interface Shape {
  /** `general.architecture` of its GGUF. */
  readonly family: string;
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
  /** For the layers that attend to all positions. */
  readonly ropeScaling?: { readonly linear: number } | { readonly turning: number } | Llama3Scaling;
  /** Positions that Gemma's sliding layers attend to; five layers in six slide. */
  readonly window?: number;
  /** The output matrix is the embedding. */
  readonly tied: boolean;
  /** Further keys of its GGUF, without the architecture's prefix. */
  keys?: Keys | ((layers: number) => Keys);
  /** Tensors of the GGUF whose presence decides how it is read: biases, separate values. */
  present?(layers: number): readonly string[];
}

const QKV_BIASES = ["q", "k", "v"].map((letter) => `blk.0.attn_${letter}.bias`);

/** Llama 3.1 and 3.2 differ in the factor only. */
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

const mistral = {
  family: "llama",
  normEpsilon: 1e-5,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
  tied: false,
} as const;

/** The instruct models: their configs say 32,768 positions in all sizes. */
const qwen2 = {
  family: "qwen2",
  vocab: 152_064,
  trainedContext: 32_768,
  normEpsilon: 1e-6,
  ropeBase: 1_000_000,
  headDim: 128,
  tied: false,
  present: () => QKV_BIASES,
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

/**
 * Three gated delta nets for each layer of attention, RoPE on a quarter of the head. Qwen 3.6 and 3.8 have the same
 * model_type.
 */
const qwen35 = {
  family: "qwen35",
  vocab: 248_320,
  trainedContext: 262_144,
  normEpsilon: 1e-6,
  ropeBase: 10_000_000,
  headDim: 256,
  tied: false,
} as const;

const deltaKeys = (valueHeads: number) => ({
  "rope.dimension_count": 64,
  full_attention_interval: 4,
  "ssm.conv_kernel": 4,
  "ssm.state_size": 128,
  "ssm.group_count": 16,
  "ssm.time_step_rank": valueHeads,
  "ssm.inner_size": 128 * valueHeads,
});

/** A shared expert of the same width runs for every token. */
const expertKeys = ({ count, used, width }: { count: number; used: number; width: number }) => ({
  expert_count: count,
  expert_used_count: used,
  expert_feed_forward_length: width,
  expert_shared_feed_forward_length: width,
});

const qwen3moe = {
  ...qwen3,
  family: "qwen3moe",
  kvHeads: 4,
  tied: false,
} as const;

/** Attention with biases and sinks; every other layer has a window of 128 tokens; YaRN from 4,096. */
const gptOss = {
  family: "gpt-oss",
  ...{ hidden: 2880, heads: 64, kvHeads: 8, headDim: 64, ffn: 2880, vocab: 201_088, window: 128 },
  ...{ trainedContext: 131_072, normEpsilon: 1e-5, ropeBase: 150_000, tied: false },
  present: () =>
    [
      "attn_q",
      "attn_k",
      "attn_v",
      "attn_output",
      "ffn_gate_inp",
      "ffn_gate_exps",
      "ffn_up_exps",
      "ffn_down_exps",
    ].map((name) => `blk.0.${name}.bias`),
} as const;

const gptOssKeys = (experts: number) => ({
  "rope.scaling.type": "yarn",
  "rope.scaling.factor": 32,
  "rope.scaling.original_context_length": 4096,
  expert_count: experts,
  expert_used_count: 4,
  expert_feed_forward_length: 2880,
});

const gemma3 = {
  family: "gemma3",
  vocab: 262_144,
  headDim: 256,
  normEpsilon: 1e-6,
  ropeBase: 1_000_000,
  tied: true,
} as const;

const gemma3Large = {
  ...gemma3,
  window: 1024,
  trainedContext: 131_072,
  ropeScaling: { linear: 8 },
} as const;

/** Sliding layers with heads of 256; full layers with heads of 512, of which a quarter is rotated. */
const gemma4 = {
  family: "gemma4",
  ...{ vocab: 262_144, headDim: 512, normEpsilon: 1e-6, ropeBase: 1_000_000, tied: true },
  ...{ ropeScaling: { turning: 64 }, window: 1024, trainedContext: 262_144 },
} as const;

interface Gemma4 {
  /** Every Nth layer attends to all positions. */
  period: number;
  /** KV heads of sliding and of full layers. */
  kvHeads: readonly [sliding: number, full: number];
  /** The number of last layers that use the caches of earlier ones, and whether they are twice as wide. */
  shared?: number;
  wide?: readonly [own: number, shared: number];
  /** In full layers, values are the key projection. */
  ownValues?: boolean;
  inputs?: number;
  experts?: { count: number; used: number; width: number };
}

/** Metadata that differs by layer. */
function gemma4Layers(of: Gemma4): Pick<Shape, "keys" | "present"> {
  const { period, kvHeads, wide, ownValues = false, inputs = 0, experts } = of;
  const each = <T>(layers: number, value: (layer: number, slides: boolean) => T): T[] =>
    Array.from({ length: layers }, (_, i) => value(i, (i + 1) % period !== 0));
  // With fewer layers, as in a bench, one layer of each kind keeps a cache.
  const shared = (layers: number) => Math.max(0, Math.min(of.shared ?? 0, layers - period));
  return {
    keys: (layers) => ({
      "attention.key_length_swa": 256,
      "attention.value_length_swa": 256,
      "attention.sliding_window_pattern": each(layers, (_, slides) => slides),
      "attention.head_count_kv": each(layers, (_, slides) => kvHeads[slides ? 0 : 1]),
      "attention.shared_kv_layers": shared(layers),
      "rope.freq_base_swa": 10_000,
      final_logit_softcapping: 30,
      embedding_length_per_layer_input: inputs,
      ...(wide && { feed_forward_length: each(layers, (i) => wide[i < layers - shared(layers) ? 0 : 1]) }),
      ...(experts && {
        expert_count: experts.count,
        expert_used_count: experts.used,
        expert_feed_forward_length: experts.width,
      }),
    }),
    present: (layers) => [
      ...each(layers, (i, slides) => (slides || ownValues ? `blk.${i}.attn_v.weight` : "")).filter(Boolean),
      ...(experts ? each(layers, (i) => `blk.${i}.ffn_gate_inp.weight`) : []),
    ],
  };
}

/** Finds a shape by the name that a person types. */
const qwen35Dense: Shape = {
  ...qwen35,
  ...{ layers: 64, hidden: 5120, heads: 24, kvHeads: 4, ffn: 17_408, keys: deltaKeys(48) },
};

const qwen35Mixture: Shape = {
  ...qwen35,
  ...{ family: "qwen35moe", layers: 40, hidden: 2048, heads: 16, kvHeads: 2, ffn: 512 },
  keys: { ...deltaKeys(32), ...expertKeys({ count: 256, used: 8, width: 512 }) },
};

/** Known models without their weights, by name. */
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
  // v0.3: the version without a sliding window.
  "mistral-7b": {
    ...mistral,
    ...{ layers: 32, hidden: 4096, ffn: 14_336, vocab: 32_768, trainedContext: 32_768, ropeBase: 1_000_000 },
  },
  // Its config says 1,024,000 positions; its authors trained it for 128K.
  "mistral-nemo-12b": {
    ...mistral,
    ...{
      layers: 40,
      hidden: 5120,
      ffn: 14_336,
      vocab: 131_072,
      trainedContext: 131_072,
      ropeBase: 1_000_000,
    },
  },
  "mistral-small-24b": {
    ...mistral,
    ...{
      layers: 40,
      hidden: 5120,
      ffn: 32_768,
      vocab: 131_072,
      trainedContext: 32_768,
      ropeBase: 100_000_000,
    },
  },
  "qwen-2.5-0.5b": {
    ...qwen2,
    ...{ layers: 24, hidden: 896, heads: 14, kvHeads: 2, headDim: 64, ffn: 4864, vocab: 151_936, tied: true },
  },
  "qwen-2.5-1.5b": {
    ...qwen2,
    ...{ layers: 28, hidden: 1536, heads: 12, kvHeads: 2, ffn: 8960, vocab: 151_936, tied: true },
  },
  "qwen-2.5-3b": {
    ...qwen2,
    ...{ layers: 36, hidden: 2048, heads: 16, kvHeads: 2, ffn: 11_008, vocab: 151_936, tied: true },
  },
  "qwen-2.5-7b": { ...qwen2, layers: 28, hidden: 3584, heads: 28, kvHeads: 4, ffn: 18_944 },
  "qwen-2.5-14b": { ...qwen2, layers: 48, hidden: 5120, heads: 40, kvHeads: 8, ffn: 13_824 },
  "qwen-2.5-32b": { ...qwen2, layers: 64, hidden: 5120, heads: 40, kvHeads: 8, ffn: 27_648 },
  "qwen-2.5-72b": { ...qwen2, layers: 80, hidden: 8192, heads: 64, kvHeads: 8, ffn: 29_568 },
  "qwen-3-0.6b": { ...qwen3, layers: 28, hidden: 1024, heads: 16, ffn: 3072, tied: true },
  "qwen-3-1.7b": { ...qwen3, layers: 28, hidden: 2048, heads: 16, ffn: 6144, tied: true },
  "qwen-3-4b": { ...qwen3, layers: 36, hidden: 2560, heads: 32, ffn: 9728, tied: true },
  "qwen-3-8b": { ...qwen3, layers: 36, hidden: 4096, heads: 32, ffn: 12_288, tied: false },
  "qwen-3-14b": { ...qwen3, layers: 40, hidden: 5120, heads: 40, ffn: 17_408, tied: false },
  "qwen-3-32b": { ...qwen3, layers: 64, hidden: 5120, heads: 64, ffn: 25_600, tied: false },
  "qwen-3-30b-a3b": {
    ...qwen3moe,
    ...{ layers: 48, hidden: 2048, heads: 32, ffn: 6144 },
    keys: { expert_count: 128, expert_used_count: 8, expert_feed_forward_length: 768 },
  },
  "qwen-3-235b-a22b": {
    ...qwen3moe,
    ...{ layers: 94, hidden: 4096, heads: 64, ffn: 12_288 },
    keys: { expert_count: 128, expert_used_count: 8, expert_feed_forward_length: 1536 },
  },
  "gpt-oss-20b": { ...gptOss, layers: 24, keys: gptOssKeys(32) },
  "gpt-oss-120b": { ...gptOss, layers: 36, keys: gptOssKeys(128) },
  "qwen-3.5-9b": {
    ...qwen35,
    ...{ layers: 32, hidden: 4096, heads: 16, kvHeads: 4, ffn: 12_288, keys: deltaKeys(32) },
  },
  "qwen-3.5-27b": qwen35Dense,
  "qwen-3.6-27b": qwen35Dense,
  "qwen-3.8-27b": qwen35Dense,
  "qwen-3.5-35b-a3b": qwen35Mixture,
  "qwen-3.6-35b-a3b": qwen35Mixture,
  "qwen-3-next-80b-a3b": {
    ...qwen35,
    ...{ family: "qwen3next", layers: 48, hidden: 2048, heads: 16, kvHeads: 2, ffn: 512, vocab: 151_936 },
    keys: { ...deltaKeys(32), ...expertKeys({ count: 512, used: 10, width: 512 }) },
  },
  "gemma-3-270m": {
    ...gemma3,
    ...{ layers: 18, hidden: 640, heads: 4, kvHeads: 1, ffn: 2048, window: 512, trainedContext: 32_768 },
  },
  "gemma-3-1b": {
    ...gemma3,
    ...{ layers: 26, hidden: 1152, heads: 4, kvHeads: 1, ffn: 6912, window: 512, trainedContext: 32_768 },
  },
  "gemma-3-4b": { ...gemma3Large, layers: 34, hidden: 2560, heads: 8, kvHeads: 4, ffn: 10_240 },
  "gemma-3-12b": { ...gemma3Large, layers: 48, hidden: 3840, heads: 16, kvHeads: 8, ffn: 15_360 },
  "gemma-3-27b": {
    ...gemma3Large,
    layers: 62,
    hidden: 5376,
    heads: 32,
    kvHeads: 16,
    headDim: 128,
    ffn: 21_504,
  },
  "gemma-4-e2b": {
    ...gemma4,
    ...{ layers: 35, hidden: 1536, heads: 8, kvHeads: 1, ffn: 6144, window: 512, trainedContext: 131_072 },
    ...gemma4Layers({
      period: 5,
      kvHeads: [1, 1],
      shared: 20,
      wide: [6144, 12_288],
      ownValues: true,
      inputs: 256,
    }),
  },
  "gemma-4-e4b": {
    ...gemma4,
    ...{ layers: 42, hidden: 2560, heads: 8, kvHeads: 2, ffn: 10_240, window: 512, trainedContext: 131_072 },
    ...gemma4Layers({ period: 6, kvHeads: [2, 2], shared: 18, ownValues: true, inputs: 256 }),
  },
  "gemma-4-12b": {
    ...gemma4,
    ...{ layers: 48, hidden: 3840, heads: 16, kvHeads: 8, ffn: 15_360 },
    ...gemma4Layers({ period: 6, kvHeads: [8, 1] }),
  },
  "gemma-4-26b-a4b": {
    ...gemma4,
    ...{ layers: 30, hidden: 2816, heads: 16, kvHeads: 8, ffn: 2112 },
    ...gemma4Layers({ period: 6, kvHeads: [8, 2], experts: { count: 128, used: 8, width: 704 } }),
  },
  "gemma-4-31b": {
    ...gemma4,
    ...{ layers: 60, hidden: 5376, heads: 32, kvHeads: 16, ffn: 21_504 },
    ...gemma4Layers({ period: 6, kvHeads: [16, 4] }),
  },
};
