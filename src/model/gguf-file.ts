/**
 * Reads a GGUF's key-values for the families. What all families share is read here, by the names of the GGUF
 * specification (ggml/docs/gguf.md); defaults are those of llama.cpp's loader. What a family's files leave implicit is
 * in the family.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError, UnsupportedError } from "../format/errors.ts";
import { describe } from "../format/json.ts";
import type { Tensor } from "../format/tensor.ts";
import { BOUNDS, type Bound } from "./bounds.ts";
import {
  type AttentionSpec,
  type BiasName,
  type DeltaSpec,
  type FeedForwardSpec,
  headDimOf,
  type LayerSpec,
  type ModelConfig,
  mixerOf,
  PLAIN,
  type RopeConfig,
  slidingPattern,
} from "./config.ts";
import { checkKeys, type Keys, NARROWING_GGUF } from "./keys.ts";
import { hasTensor, type NamedFamily } from "./names.ts";
import { Fields } from "./read.ts";
import { ropeFrequencies, yarnFrequencies, yarnMagnitude } from "./rope.ts";
import { f32Rows } from "./tensors.ts";

/** Divisors of the RoPE frequencies. They become part of the config, so no operation of a graph reads these tensors. */
export const ROPE_DIVISORS = "rope_freqs.weight";
const LONG_FACTORS = "rope_factors_long.weight";
const SHORT_FACTORS = "rope_factors_short.weight";
export const isRopeTensor = (name: string): boolean =>
  /^rope_(freqs|factors_long|factors_short)\.weight$/.test(name);

export interface GgufRope {
  /** Default: what the file says, or the head size. */
  readonly dims?: number;
  /** Default "rope.freq_base", and 10,000 if the file has neither. */
  readonly baseKey?: string;
  /** Apply the file's divisors of frequencies, or its long and short factors. */
  readonly divisors?: boolean;
  /** YaRN's ramp begins at whole pairs, as in llama.cpp. */
  readonly truncate?: boolean;
}

/** What a `general.architecture` needs to have its files read. */
export interface GgufReading {
  readonly keys: Keys;
  /** Used if the file has them. */
  readonly biases: readonly BiasName[];
}

export class GgufCheckpoint {
  readonly fields: Fields;
  readonly place: string;
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly layers: number;
  readonly hidden: number;
  /** For each layer. */
  readonly heads: readonly number[];
  readonly kvHeads: readonly number[];
  /** For layers without a head size of their own. */
  readonly headDim: number;

  constructor(
    readonly checkpoint: Checkpoint,
    readonly family: NamedFamily,
    readonly architecture: string,
    readonly type: GgufReading,
  ) {
    const { metadata, tensors, name } = checkpoint;
    this.place = name;
    this.tensors = tensors;
    const fields = new Fields(metadata, name, `${architecture}.`);
    this.fields = fields;
    checkKeys(fields, type.keys, NARROWING_GGUF);
    if (!tensors.has("token_embd.weight"))
      throw new FormatError(name, "there is no tensor token_embd.weight");
    this.layers = fields.number("block_count", BOUNDS.layers);
    this.hidden = fields.number("embedding_length", BOUNDS.hidden);
    this.heads = this.byLayer("attention.head_count", BOUNDS.heads);
    this.kvHeads = fields.has("attention.head_count_kv")
      ? // Layers without attention may have 0.
        this.byLayer("attention.head_count_kv", { ...BOUNDS.kvHeads, least: 0 })
      : this.heads;
    this.headDim = fields.has("attention.key_length")
      ? fields.number("attention.key_length", BOUNDS.headDim)
      : headDimOf(this.hidden, this.heads[0], name);
    this.same("embedding_length_out", this.hidden);
    this.same("attention.value_length", this.headDim);
  }

  /** A number, or an array with one for each layer. */
  byLayer(key: string, bound: Bound): number[] {
    const found = this.fields.value(key);
    if (found === undefined || typeof found !== "object")
      return new Array<number>(this.layers).fill(this.fields.number(key, bound));
    const values = this.fields.list(key)!;
    if (values.length !== this.layers)
      throw this.fields.error(key, found, `a number, or ${this.layers}, one for each layer`);
    return values.map((value) => new Fields({ [key]: value }, this.place).number(key, bound));
  }

  /** Throws UnsupportedError if the file has another value than `expected`, which is also the default. */
  same(key: string, expected: number): void {
    const found = this.fields.value(key) ?? expected;
    if (found === expected) return;
    throw new UnsupportedError(
      `${this.place}: ${this.fields.prefix}${key} ${describe(found)}`,
      `Allowed: ${expected}.`,
    );
  }

  /** Everything but the layers. */
  whole(own: Partial<ModelConfig> = {}): Omit<ModelConfig, "layers"> {
    const { fields, tensors, checkpoint, family, layers } = this;
    const general = new Fields(checkpoint.metadata, this.place);
    return {
      ...PLAIN,
      family: family.name,
      name: general.text("general.name", this.architecture),
      hidden: this.hidden,
      vocab: tensors.get("token_embd.weight")!.rows,
      trainedContext: fields.number("context_length", BOUNDS.trainedContext),
      normEpsilon: fields.number("attention.layer_norm_rms_epsilon", BOUNDS.normEpsilon),
      tied: !tensors.has("output.weight"),
      biases: this.type.biases.filter((name) => hasTensor(checkpoint, family.names, `${name}Bias`, layers)),
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
      mixer: mixerOf({ heads: heads[layer], kvHeads: kvHeads[layer], headDim, cacheOf: layer }, own(layer)),
      feedForward: feedForward(layer),
      outputScale: 1,
    }));
  }

  /** A dense feed-forward in each layer. */
  dense(): (layer: number) => FeedForwardSpec {
    const widths = this.byLayer("feed_forward_length", BOUNDS.ffn);
    return (layer) => ({ width: widths[layer], experts: null });
  }

  /** 0 means none. */
  softcap(key: string, fallback = 0): number {
    return this.fields.value(key) === 0 ? 0 : (this.fields.numberOrNull(key, BOUNDS.softcap) ?? fallback);
  }

  /** llama.cpp reads a factor of 0 as none. */
  multiplier(key: string): number {
    return this.fields.value(key) === 0 ? 1 : (this.fields.numberOrNull(key, BOUNDS.multiplier) ?? 1);
  }

  /**
   * The window of each layer; null: it attends to all positions. All layers do if there is neither a window nor a
   * `fallback`, or a window of 0. The pattern is a period, or a list that says which layers slide.
   */
  windows(period: number, fallback = 0): (number | null)[] {
    const { fields, layers } = this;
    const window = fields.number("attention.sliding_window", BOUNDS.window, fallback);
    if (window === 0) return new Array<null>(layers).fill(null);
    const key = "attention.sliding_window_pattern";
    const pattern = fields.value(key);
    if (typeof pattern === "number" || pattern === undefined)
      return slidingPattern(layers, fields.number(key, BOUNDS.pattern, period), window);
    const slides = fields.list(key)!;
    if (slides.length !== layers) throw fields.error(key, pattern, `${layers} values, one for each layer`);
    return slides.map((value) => {
      if (value === true || value === 1) return window;
      if (value === false || value === 0) return null;
      throw fields.error(key, value, "true or false for each layer");
    });
  }

  /**
   * The plain frequencies and their scalings: linear, YaRN, and what GGUF stores as one divisor for each pair (llama3,
   * LongRoPE). A factor without a type is linear; files of 2023 call it `scale_linear`; 0 means none.
   */
  async rope(options: GgufRope = {}): Promise<RopeConfig> {
    const { baseKey = "rope.freq_base", divisors = false, truncate = true, ...own } = options;
    const { fields, place, tensors } = this;
    const dims = own.dims ?? fields.number("rope.dimension_count", BOUNDS.headDim, this.headDim);
    const base = fields.number(baseKey, BOUNDS.ropeBase, 10_000);
    const scaling = fields.text("rope.scaling.type", "linear");
    if (!["none", "linear", "yarn", "longrope"].includes(scaling))
      throw new UnsupportedError(
        `${place}: RoPE scaling ${describe(scaling)}`,
        "Supported types: none, linear, yarn, longrope.",
      );
    const key = fields.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
    const unscaled = scaling === "none" || !fields.has(key) || fields.value(key) === 0;
    const factor = unscaled ? 1 : fields.number(key, BOUNDS.ropeFactor);
    // Both are factors on the same values.
    const attention = this.multiplier("rope.scaling.attn_factor");
    if (scaling === "yarn") return this.#yarn(base, dims, factor, attention, truncate);
    const plain = ropeFrequencies(base, dims, scaling === "longrope" ? 1 : factor);
    const over = async (name: string) => {
      const tensor = tensors.get(name);
      if (!tensor) return plain;
      const found = tensor.rows * tensor.cols;
      if (found !== plain.length)
        throw new FormatError(`${place}: ${name}`, `${found} values`, `${plain.length}`);
      const values = await f32Rows(tensor, 0, tensor.rows);
      return plain.map((frequency, i) => frequency / values[i]);
    };
    if (divisors && tensors.has(LONG_FACTORS)) return this.#long(over, attention);
    return {
      frequencies: divisors ? await over(ROPE_DIVISORS) : plain,
      ...(attention !== 1 && { magnitude: attention }),
    };
  }

  /** The plain frequencies, for layers that no scaling applies to. */
  plainRope(baseKey: string, base: number, dims: number): RopeConfig {
    return { frequencies: ropeFrequencies(this.fields.number(baseKey, BOUNDS.ropeBase, base), dims) };
  }

  #yarn(base: number, dims: number, factor: number, attention: number, truncate: boolean): RopeConfig {
    const { fields } = this;
    // DeepSeek's mscale_all_dim, as a factor of the logarithm; 0: YaRN's own.
    const log = fields.number("rope.scaling.yarn_log_multiplier", BOUNDS.yarnWeight, 0);
    const turns = (key: string, fallback: number) =>
      fields.number(`rope.scaling.yarn_beta_${key}`, BOUNDS.yarnTurns, fallback);
    return {
      frequencies: yarnFrequencies({
        ...{ base, dims, factor, truncate },
        originalContext: this.#originalContext(),
        betaFast: turns("fast", 32),
        betaSlow: turns("slow", 1),
      }),
      magnitude: (yarnMagnitude(factor) / yarnMagnitude(factor, log)) * attention,
    };
  }

  async #long(over: (name: string) => Promise<Float64Array>, attention: number): Promise<RopeConfig> {
    const beyond = this.#originalContext();
    return {
      frequencies: await over(SHORT_FACTORS),
      magnitude: attention,
      long: { beyond, frequencies: await over(LONG_FACTORS) },
    };
  }

  #originalContext(): number {
    const trained = this.fields.number("context_length", BOUNDS.trainedContext);
    return this.fields.number("rope.scaling.original_context_length", BOUNDS.trainedContext, trained);
  }
}
