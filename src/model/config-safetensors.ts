/**
 * A Hugging Face config.json -> ModelConfig. Both spellings of RoPE are read: `rope_parameters` (transformers 5) and
 * `rope_theta` with `rope_scaling` (before). Keys: the families' configuration classes in transformers.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError, UnsupportedError } from "../format/errors.ts";
import { checkConfig, type LayerKind, type ModelConfig, slidingPattern } from "./config.ts";
import { type Metadata, readNumber, readObject, readString } from "./read.ts";
import { llama3Scaled, ropeFrequencies } from "./rope.ts";

const FAMILIES: Readonly<Record<string, string>> = {
  llama: "llama",
  mistral: "llama",
  qwen2: "qwen2",
  qwen3: "qwen3",
  gemma3_text: "gemma3",
  gemma3: "gemma3",
};

/** Published Gemma 3 configs leave out what equals the defaults of transformers' Gemma3TextConfig. */
const GEMMA3_DEFAULTS: Metadata = {
  vocab_size: 262_208,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  hidden_activation: "gelu_pytorch_tanh",
  max_position_embeddings: 131_072,
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  rope_local_base_freq: 10_000,
  query_pre_attn_scalar: 256,
  sliding_window: 4096,
};

export function configFromSafetensors(checkpoint: Checkpoint): ModelConfig {
  const place = `${checkpoint.name}/config.json`;
  const type = readString(checkpoint.metadata, "model_type", place);
  const family = FAMILIES[type];
  if (!Object.hasOwn(FAMILIES, type))
    throw new UnsupportedError(
      `Model type ${JSON.stringify(type)}`,
      `Known: ${Object.keys(FAMILIES).join(", ")}.`,
    );
  // A multimodal Gemma 3 nests its language model; only that part is used.
  const own = readObject(checkpoint.metadata, "text_config", place) ?? checkpoint.metadata;
  const config: Metadata = family === "gemma3" ? { ...GEMMA3_DEFAULTS, ...own } : own;
  const number = (key: string, fallback?: number) => readNumber(config, key, place, fallback);

  const hidden = number("hidden_size");
  const heads = number("num_attention_heads");
  const layers = number("num_hidden_layers");
  const headDim = number("head_dim", hidden / heads);
  const gemma = family === "gemma3";
  const layerKinds = layerKindsOf(config, type, layers, place);
  if (typeof config.attn_logit_softcapping === "number" || typeof config.final_logit_softcapping === "number")
    throw new UnsupportedError(`Logit softcapping in ${type}`);

  return checkConfig(
    {
      family,
      name: readString(config, "_name_or_path", place, type),
      layers,
      hidden,
      heads,
      kvHeads: number("num_key_value_heads", heads),
      headDim,
      ffn: number("intermediate_size"),
      vocab: number("vocab_size"),
      trainedContext: number("max_position_embeddings"),
      normEpsilon: number("rms_norm_eps"),
      activation: activationOf(config, place),
      embeddingScale: gemma ? Math.fround(Math.sqrt(hidden)) : 1,
      attentionScale: 1 / Math.sqrt(gemma ? number("query_pre_attn_scalar", headDim) : headDim),
      tied: !["lm_head.weight", "language_model.lm_head.weight"].some((name) => checkpoint.tensors.has(name)),
      layerKinds,
      window: layerKinds.includes("sliding") ? number("sliding_window") : 0,
      ropes: {
        full: { frequencies: frequenciesOf(config, "full_attention", headDim, place) },
        sliding: { frequencies: frequenciesOf(config, "sliding_attention", headDim, place) },
      },
    },
    place,
  );
}

function layerKindsOf(config: Metadata, type: string, layers: number, place: string): LayerKind[] {
  if (!(layers >= 1 && layers <= 1024))
    throw new FormatError(place, `num_hidden_layers is ${layers}`, "1 to 1024");
  const types = config.layer_types;
  if (Array.isArray(types))
    return types.map((kind, i) => {
      if (kind === "full_attention") return "full";
      if (kind === "sliding_attention") return "sliding";
      throw new UnsupportedError(`Layer kind ${JSON.stringify(kind)} of layer ${i}`);
    });
  if (type.startsWith("gemma3"))
    return slidingPattern(layers, readNumber(config, "sliding_window_pattern", place, 6));
  const slides = typeof config.sliding_window === "number" && config.use_sliding_window !== false;
  const firstSliding = readNumber(config, "max_window_layers", place, 0);
  return Array.from({ length: layers }, (_, i) => (slides && i >= firstSliding ? "sliding" : "full"));
}

function activationOf(config: Metadata, place: string): ModelConfig["activation"] {
  const name = readString(
    config,
    "hidden_activation",
    place,
    readString(config, "hidden_act", place, "silu"),
  );
  if (name === "silu") return "silu";
  if (name === "gelu_pytorch_tanh") return "geluTanh";
  throw new UnsupportedError(`Activation ${JSON.stringify(name)}`);
}

function frequenciesOf(config: Metadata, kind: string, headDim: number, place: string): Float64Array {
  const sliding = kind === "sliding_attention";
  const parameters = readObject(config, "rope_parameters", place);
  const scaling = (parameters && readObject(parameters, kind, place)) ?? parameters;
  if (scaling) return scaled(readNumber(scaling, "rope_theta", place), scaling, headDim, place);
  const local = config.rope_local_base_freq;
  if (sliding && typeof local === "number") return ropeFrequencies(local, headDim);
  const base = readNumber(config, "rope_theta", place, 10_000);
  return scaled(base, readObject(config, "rope_scaling", place) ?? {}, headDim, place);
}

function scaled(base: number, scaling: Metadata, headDim: number, place: string): Float64Array {
  const type = readString(scaling, "rope_type", place, readString(scaling, "type", place, "default"));
  if (readNumber(scaling, "partial_rotary_factor", place, 1) !== 1)
    throw new UnsupportedError("Partial RoPE");
  const plain = ropeFrequencies(base, headDim);
  switch (type) {
    case "default":
      return plain;
    case "linear":
      return ropeFrequencies(base, headDim, readNumber(scaling, "factor", place));
    case "llama3":
      return llama3Scaled(plain, {
        factor: readNumber(scaling, "factor", place),
        lowFrequencyFactor: readNumber(scaling, "low_freq_factor", place),
        highFrequencyFactor: readNumber(scaling, "high_freq_factor", place),
        originalContext: readNumber(scaling, "original_max_position_embeddings", place),
      });
    default:
      throw new UnsupportedError(`RoPE scaling ${JSON.stringify(type)}`);
  }
}
