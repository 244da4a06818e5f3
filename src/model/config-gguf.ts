/**
 * GGUF key-values -> ModelConfig. Key names: the GGUF specification (ggml/docs/gguf.md); what holds where a file says
 * nothing: llama.cpp's loader. What a family leaves implicit in its files (Gemma's local RoPE base) stands here with its
 * origin.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError, UnsupportedError } from "../format/errors.ts";
import { describe } from "../format/json.ts";
import { BOUNDS, type Bound } from "./bounds.ts";
import { checkConfig, headDimOf, type LayerKind, type ModelConfig, slidingPattern } from "./config.ts";
import { full, type GgufType, type Layers } from "./families/family.ts";
import { GEMMA3_PATTERN, gemma3Gguf } from "./families/gemma3.ts";
import { llamaGguf } from "./families/llama.ts";
import { qwen2Gguf, qwen3Gguf } from "./families/qwen.ts";
import { checkKeys, NARROWING_GGUF } from "./keys.ts";
import { hasBias } from "./names.ts";
import { Fields } from "./read.ts";
import { ropeFrequencies } from "./rope.ts";
import { f32Rows } from "./tensors.ts";

const TYPES: Readonly<Record<string, GgufType>> = {
  llama: llamaGguf,
  qwen2: qwen2Gguf,
  qwen3: qwen3Gguf,
  gemma3: gemma3Gguf,
};

export async function configFromGguf(checkpoint: Checkpoint): Promise<ModelConfig> {
  const { metadata, tensors, name: place } = checkpoint;
  const general = new Fields(metadata, place);
  const family = general.text("general.architecture");
  if (!Object.hasOwn(TYPES, family))
    throw new UnsupportedError(
      `Architecture ${describe(family)}`,
      `Known: ${Object.keys(TYPES).join(", ")}.`,
    );
  const config = new Fields(metadata, place, `${family}.`);
  checkKeys(config, TYPES[family].keys, NARROWING_GGUF);

  const embedding = tensors.get("token_embd.weight");
  if (!embedding) throw new FormatError(place, "there is no tensor token_embd.weight");
  const layers = config.number("block_count", BOUNDS.layers);
  const hidden = config.number("embedding_length", BOUNDS.hidden);
  const heads = uniform(config, "attention.head_count", BOUNDS.heads);
  const headDim = config.has("attention.key_length")
    ? config.number("attention.key_length", BOUNDS.headDim)
    : headDimOf(hidden, heads, place);
  same(config, "embedding_length_out", hidden);
  for (const key of ["value_length", "key_length_swa", "value_length_swa"])
    same(config, `attention.${key}`, headDim);

  const gemma = family === "gemma3";
  const { kinds, window } = gemma ? gemmaLayers(config, layers) : full(layers);
  // Only Gemma's graph turns less than the head.
  if (!gemma) same(config, "rope.dimension_count", headDim);
  const dims = config.number("rope.dimension_count", BOUNDS.headDim, headDim);
  same(config, "rope.dimension_count_swa", dims);
  const frequencies = await fullFrequencies(checkpoint, config, dims);
  // The 27B of Gemma 3 (62 layers) scales queries by hidden / heads, the other sizes by the head size.
  const queryScalar = gemma && layers === 62 ? Math.floor(hidden / heads) : headDim;
  // llama.cpp's 0 means none.
  const softcap = gemma && config.value("final_logit_softcapping") !== 0;

  return checkConfig(
    {
      family,
      name: general.text("general.name", family),
      layers,
      hidden,
      heads,
      kvHeads: uniform(config, "attention.head_count_kv", BOUNDS.kvHeads, heads),
      headDim,
      ffn: uniform(config, "feed_forward_length", BOUNDS.ffn),
      vocab: embedding.rows,
      trainedContext: config.number("context_length", BOUNDS.trainedContext),
      normEpsilon: config.number("attention.layer_norm_rms_epsilon", BOUNDS.normEpsilon),
      activation: gemma ? "geluTanh" : "silu",
      embeddingScale: gemma ? Math.fround(Math.sqrt(hidden)) : 1,
      attentionScale: 1 / Math.sqrt(queryScalar),
      logitSoftcap: softcap ? (config.numberOrNull("final_logit_softcapping", BOUNDS.softcap) ?? 0) : 0,
      tied: !tensors.has("output.weight"),
      biases: TYPES[family].biases.filter((name) => hasBias(checkpoint, name, layers)),
      layerKinds: kinds,
      window,
      ropes: {
        full: { frequencies },
        // Local layers keep base 10,000 and no scaling (Gemma 3 report, section 2).
        sliding: {
          frequencies: ropeFrequencies(config.number("rope.freq_base_swa", BOUNDS.ropeBase, 10_000), dims),
        },
      },
    },
    place,
  );
}

/** Without a window, or one of 0, all layers see everything. The pattern is a period, or a list of which layers slide. */
function gemmaLayers(config: Fields, layers: number): Layers {
  const window = config.number("attention.sliding_window", BOUNDS.window, 0);
  if (window === 0) return full(layers);
  const key = "attention.sliding_window_pattern";
  const pattern = config.value(key);
  if (typeof pattern === "number" || pattern === undefined)
    return { kinds: slidingPattern(layers, config.number(key, BOUNDS.pattern, GEMMA3_PATTERN)), window };
  const slides = config.list(key)!;
  if (slides.length !== layers) throw config.error(key, pattern, `${layers} values, one for each layer`);
  const kinds = slides.map((value): LayerKind => {
    if (value === true || value === 1) return "sliding";
    if (value === false || value === 0) return "full";
    throw config.error(key, value, "true or false for each layer");
  });
  return { kinds, window };
}

/**
 * The series, its linear scaling, and llama3 scaling, which GGUF ships as one divisor a pair in `rope_freqs.weight` (only
 * llama's graph takes it). A factor without a type is linear; files of 2023 call it `scale_linear`; 0 means none.
 */
async function fullFrequencies(checkpoint: Checkpoint, config: Fields, dims: number): Promise<Float64Array> {
  const { tensors, name: place } = checkpoint;
  const base = config.number("rope.freq_base", BOUNDS.ropeBase, 10_000);
  const scaling = config.text("rope.scaling.type", "linear");
  if (scaling !== "none" && scaling !== "linear")
    throw new UnsupportedError(
      `${place}: RoPE scaling ${describe(scaling)}`,
      "Types that are: none, linear.",
    );
  const key = config.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  const unscaled = scaling === "none" || !config.has(key) || config.value(key) === 0;
  const frequencies = ropeFrequencies(base, dims, unscaled ? 1 : config.number(key, BOUNDS.ropeFactor));
  const divisors = config.prefix === "llama." ? tensors.get(ROPE_DIVISORS) : undefined;
  if (!divisors) return frequencies;
  const found = divisors.rows * divisors.cols;
  if (found !== frequencies.length)
    throw new FormatError(`${place}: ${ROPE_DIVISORS}`, `${found} values`, `${frequencies.length}`);
  const values = await f32Rows(divisors, 0, divisors.rows);
  return frequencies.map((frequency, i) => frequency / values[i]);
}

/** Read with the config: no operation of the graph takes it. */
export const ROPE_DIVISORS = "rope_freqs.weight";

/** UnsupportedError when the file says something else than `expected`, which holds where it says nothing. */
function same(config: Fields, key: string, expected: number): void {
  const found = config.value(key) ?? expected;
  if (found === expected) return;
  throw new UnsupportedError(
    `${config.place}: ${config.prefix}${key} ${describe(found)}`,
    `Allowed: ${expected}.`,
  );
}

/** A number, or an array of one number repeated: some files give a value for each layer. */
function uniform(config: Fields, key: string, bound: Bound, fallback?: number): number {
  const found = config.value(key);
  if (found === undefined || typeof found !== "object") return config.number(key, bound, fallback);
  const values = config.list(key)!;
  if (values.length === 0) throw config.error(key, found, "a number, or one for each layer");
  if (values.some((value) => value !== values[0]))
    throw new UnsupportedError(`${key} that differs between layers`);
  return new Fields({ [key]: values[0] }, config.place).number(key, bound);
}
