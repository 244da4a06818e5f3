/**
 * A Hugging Face config.json -> ModelConfig. What each `model_type` reads, and what holds where it says nothing, is its
 * family's (`families/`); RoPE's spellings are `rope-parameters.ts`'s.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError, UnsupportedError } from "../format/errors.ts";
import { describe } from "../format/json.ts";
import { BOUNDS } from "./bounds.ts";
import { checkConfig, headDimOf, type ModelConfig } from "./config.ts";
import type { FolderType } from "./families/family.ts";
import { gemma3Folder, gemma3ImagesFolder } from "./families/gemma3.ts";
import { llamaFolder } from "./families/llama.ts";
import { mistralFolder } from "./families/mistral.ts";
import { qwen2Folder, qwen3Folder } from "./families/qwen.ts";
import { COMMON_FOLDER, checkKeys, NARROWING_FOLDER } from "./keys.ts";
import { Fields } from "./read.ts";
import { ropeOf, ropesByKind } from "./rope-parameters.ts";

const TYPES: Readonly<Record<string, FolderType>> = {
  llama: llamaFolder,
  mistral: mistralFolder,
  qwen2: qwen2Folder,
  qwen3: qwen3Folder,
  gemma3_text: gemma3Folder,
  gemma3: gemma3ImagesFolder,
};

/** transformers' names of activations (ACT2FN); three are one function written in three ways. */
const ACTIVATIONS: Readonly<Record<string, ModelConfig["activation"]>> = {
  silu: "silu",
  swish: "silu",
  gelu_pytorch_tanh: "geluTanh",
  gelu_new: "geluTanh",
  gelu_fast: "geluTanh",
};

export function configFromSafetensors(checkpoint: Checkpoint): ModelConfig {
  const place = `${checkpoint.name}/config.json`;
  const outer = new Fields(checkpoint.metadata, place);
  const type = outer.text("model_type");
  if (!Object.hasOwn(TYPES, type))
    throw new UnsupportedError(`Model type ${describe(type)}`, `Known: ${Object.keys(TYPES).join(", ")}.`);
  const { family, defaults, keys, activation, layers: layersOf, biases } = TYPES[type];
  checkKeys(outer, type === "gemma3" ? COMMON_FOLDER : keys, NARROWING_FOLDER);
  // A model that sees images nests its language model; only that part is used.
  const own = type === "gemma3" ? (outer.object("text_config") ?? new Fields({}, place)) : outer;
  if (own !== outer) checkKeys(own, keys, NARROWING_FOLDER);
  const config = new Fields({ ...defaults, ...own.values }, own.place);

  const name = config.value("_name_or_path");
  const layers = config.number("num_hidden_layers", BOUNDS.layers);
  const hidden = config.number("hidden_size", BOUNDS.hidden);
  const heads = config.number("num_attention_heads", BOUNDS.heads);
  const headDim = config.numberOrNull("head_dim", BOUNDS.headDim) ?? headDimOf(hidden, heads, place);
  const { kinds, window } = layersOf(config, layers);
  const gemma = family === "gemma3";
  const rope = gemma ? null : ropeOf(config, headDim);

  return checkConfig(
    {
      family,
      name: typeof name === "string" ? name : type,
      layers,
      hidden,
      heads,
      kvHeads: config.numberOrNull("num_key_value_heads", BOUNDS.kvHeads) ?? heads,
      headDim,
      ffn: config.number("intermediate_size", BOUNDS.ffn),
      vocab: config.number("vocab_size", BOUNDS.vocab),
      trainedContext: config.number("max_position_embeddings", BOUNDS.trainedContext),
      normEpsilon: config.number("rms_norm_eps", BOUNDS.normEpsilon),
      activation: activationOf(config, activation),
      embeddingScale: gemma ? Math.fround(Math.sqrt(hidden)) : 1,
      attentionScale:
        1 / Math.sqrt(gemma ? config.number("query_pre_attn_scalar", BOUNDS.queryScalar) : headDim),
      logitSoftcap: config.numberOrNull("final_logit_softcapping", BOUNDS.softcap) ?? 0,
      tied: tiedOf(checkpoint, type === "gemma3" ? outer : config),
      biases: biases(config),
      layerKinds: kinds,
      window,
      ropes: rope ? { full: rope, sliding: rope } : ropesByKind(config, headDim),
    },
    place,
  );
}

/** Both matrices in the file are two matrices, whatever the config says: transformers ties equal ones only. */
function tiedOf({ name, tensors }: Checkpoint, config: Fields): boolean {
  if (["lm_head.weight", "language_model.lm_head.weight"].some((head) => tensors.has(head))) return false;
  if (config.flag("tie_word_embeddings", true)) return true;
  throw new FormatError(
    name,
    "no lm_head.weight, and tie_word_embeddings is false or left to its default of false",
  );
}

function activationOf(config: Fields, key: string): ModelConfig["activation"] {
  const name = config.text(key);
  if (Object.hasOwn(ACTIVATIONS, name)) return ACTIVATIONS[name];
  throw new UnsupportedError(
    `${config.place}: ${key} ${describe(name)}`,
    `Known: ${Object.keys(ACTIVATIONS).join(", ")}.`,
  );
}
