/**
 * Reads a Hugging Face config.json for the families. What all families share is read here; a family gives the defaults
 * of its class in transformers. `rope-parameters.ts` reads RoPE.
 */
import type { Activation } from "../device/contract.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError, UnsupportedError } from "../format/errors.ts";
import { describe } from "../format/json.ts";
import { BOUNDS } from "./bounds.ts";
import {
  type AttentionSpec,
  type DeltaSpec,
  type FeedForwardSpec,
  headDimOf,
  type LayerSpec,
  type ModelConfig,
  mixerOf,
  PLAIN,
  type RopeConfig,
} from "./config.ts";
import { COMMON_FOLDER, checkKeys, type Keys, NARROWING_FOLDER } from "./keys.ts";
import type { NamedFamily } from "./names.ts";
import { Fields, type Metadata } from "./read.ts";
import { type LayerType, type RopeOptions, ropeOf } from "./rope-parameters.ts";

/** transformers' names of activations (ACT2FN). Three of them are the same function. */
const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: "silu",
  swish: "silu",
  gelu_pytorch_tanh: "geluTanh",
  gelu_new: "geluTanh",
  gelu_fast: "geluTanh",
};

/** What a `model_type` needs to have its config read. */
export interface FolderReading {
  /** The class's attributes: the values of missing keys. */
  readonly defaults: Metadata;
  readonly keys: Keys;
  /** A multimodal model: the language model's config is under text_config. */
  readonly nested?: boolean;
}

export class FolderFile {
  readonly place: string;
  /** The language model's config, with the class's defaults. */
  readonly config: Fields;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly #outer: Fields;

  constructor(
    readonly checkpoint: Checkpoint,
    readonly family: NamedFamily,
    readonly modelType: string,
    type: FolderReading,
  ) {
    this.place = `${checkpoint.name}/config.json`;
    const outer = new Fields(checkpoint.metadata, this.place);
    const { nested = false, defaults, keys } = type;
    checkKeys(outer, nested ? COMMON_FOLDER : keys, NARROWING_FOLDER);
    const own = nested ? (outer.object("text_config") ?? new Fields({}, this.place)) : outer;
    if (own !== outer) checkKeys(own, keys, NARROWING_FOLDER);
    const config = new Fields({ ...defaults, ...own.values }, own.place);
    this.config = config;
    this.#outer = nested ? outer : config;
    this.layers = config.number("num_hidden_layers", BOUNDS.layers);
    this.hidden = config.number("hidden_size", BOUNDS.hidden);
    this.heads = config.number("num_attention_heads", BOUNDS.heads);
    this.kvHeads = config.numberOrNull("num_key_value_heads", BOUNDS.kvHeads) ?? this.heads;
    this.headDim =
      config.numberOrNull("head_dim", BOUNDS.headDim) ?? headDimOf(this.hidden, this.heads, this.place);
  }

  /** Everything but the layers. */
  whole(own: Partial<ModelConfig> = {}): Omit<ModelConfig, "layers"> {
    const { config } = this;
    const name = config.value("_name_or_path");
    return {
      ...PLAIN,
      family: this.family.name,
      name: typeof name === "string" ? name : this.modelType,
      hidden: this.hidden,
      vocab: config.number("vocab_size", BOUNDS.vocab),
      trainedContext: config.number("max_position_embeddings", BOUNDS.trainedContext),
      normEpsilon: config.number("rms_norm_eps", BOUNDS.normEpsilon),
      activation: own.activation ?? this.activation("hidden_act"),
      tied: this.#tied(),
      biases: [],
      ...own,
    };
  }

  /** `own`: how a layer's attention differs from Llama's, or the mixer that replaces it. */
  layersOf(
    own: (layer: number) => Partial<AttentionSpec> | DeltaSpec,
    feedForward: (layer: number) => FeedForwardSpec = this.dense(),
  ): LayerSpec[] {
    const { heads, kvHeads, headDim } = this;
    return Array.from({ length: this.layers }, (_, layer) => ({
      mixer: mixerOf({ heads, kvHeads, headDim, cacheOf: layer }, own(layer)),
      feedForward: feedForward(layer),
      outputScale: 1,
    }));
  }

  dense(): (layer: number) => FeedForwardSpec {
    const width = this.config.number("intermediate_size", BOUNDS.ffn);
    return () => ({ width, experts: null });
  }

  /** transformers has two names for this key; files may contain either or both. */
  expertCount(fallback: number): number {
    const key = this.config.has("num_experts") ? "num_experts" : "num_local_experts";
    return this.config.number(key, BOUNDS.experts, fallback);
  }

  rope(options?: RopeOptions): RopeConfig {
    return ropeOf(this.config, this.headDim, options);
  }

  flag(key: string): boolean {
    return this.config.flag(key);
  }

  /** null in the file means none. */
  softcap(key: string): number {
    return this.config.numberOrNull(key, BOUNDS.softcap) ?? 0;
  }

  multiplier(key: string): number {
    return this.config.number(key, BOUNDS.multiplier);
  }

  activation(key: string): Activation {
    const name = this.config.text(key);
    if (Object.hasOwn(ACTIVATIONS, name)) return ACTIVATIONS[name];
    throw new UnsupportedError(
      `${this.config.place}: ${key} ${describe(name)}`,
      `Known: ${Object.keys(ACTIVATIONS).join(", ")}.`,
    );
  }

  /** `layer_types`, one for each layer; null if missing. Throws FormatError for a wrong count or an unknown kind. */
  layerTypes(): readonly LayerType[] | null {
    const { config, layers } = this;
    const types = config.list("layer_types");
    if (types === null) return null;
    if (types.length !== layers)
      throw config.error("layer_types", types, `${layers} kinds, one for each layer`);
    return types.map((kind) => {
      if (kind === "full_attention" || kind === "sliding_attention") return kind;
      throw config.error("layer_types", kind, '"full_attention", "sliding_attention"');
    });
  }

  /**
   * The window of each layer; null: it attends to all positions. From `layer_types`, or, if they are missing, from the
   * layers that the class lets slide. If the file has no `window`, a sliding layer is an error with the advice
   * `wayOut`.
   */
  windows(
    slides: (layer: number) => boolean,
    window = this.config.numberOrNull("sliding_window", BOUNDS.window),
    wayOut?: string,
  ): (number | null)[] {
    const types = this.layerTypes();
    const sliding = (layer: number) => (types ? types[layer] === "sliding_attention" : slides(layer));
    return Array.from({ length: this.layers }, (_, layer) => {
      if (!sliding(layer)) return null;
      if (window !== null) return window;
      if (wayOut) throw this.config.error("layer_types", "sliding_attention", wayOut);
      throw this.config.error("sliding_window", null, "a number, since some layers slide");
    });
  }

  /** If the file has both matrices they are separate, whatever the config says: transformers ties only equal ones. */
  #tied(): boolean {
    const { name, tensors } = this.checkpoint;
    if (["lm_head.weight", "language_model.lm_head.weight"].some((head) => tensors.has(head))) return false;
    if (this.#outer.flag("tie_word_embeddings", true)) return true;
    throw new FormatError(
      name,
      "no lm_head.weight, and tie_word_embeddings is false or left to its default of false",
    );
  }
}
