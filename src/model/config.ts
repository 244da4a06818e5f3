/**
 * What a model is, in our vocabulary, whatever file it came from: facts of the whole, and of each layer its own. Owns the
 * shape's names and its sanity checks. Refuses to know foreign keys: the families map them here, once.
 */
import { type Activation, MOST_KERNEL } from "../device/contract.ts";
import { turnedPairs } from "../device/rope-angles.ts";
import { FormatError } from "../format/errors.ts";
import { BOUNDS, type Bound, outside } from "./bounds.ts";

/** A projection that may have a bias. */
export type BiasName =
  | ("query" | "queryGate" | "key" | "value" | "attended" | "gate" | "up" | "down" | "output")
  | ("router" | "expertGate" | "expertUp" | "expertDown" | "inputGate" | "inputOutput");

export interface RopeConfig {
  /** Radians per position of each pair, [rotated dims / 2], with the model's own scaling applied. */
  readonly frequencies: Float64Array;
  /** Factor on what is turned: YaRN's and LongRoPE's attention factor. Default 1. */
  readonly magnitude?: number;
  /** LongRoPE: the frequencies where texts may be longer than `beyond` positions. */
  readonly long?: { readonly beyond: number; readonly frequencies: Float64Array };
}

/** Grouped-query attention (arXiv 2305.13245). */
export interface AttentionSpec {
  readonly kind: "attention";
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Positions that a query sees, its own among them; null: all before it. */
  readonly window: number | null;
  /** null: positions do not count. */
  readonly rope: RopeConfig | null;
  /** Factor on q.k. */
  readonly scale: number;
  /** Scores are cap * tanh(score / cap); 0: as they are. */
  readonly softcap: number;
  /** One more score a head, learned, that takes its share of the softmax and has no value. */
  readonly sinks: boolean;
  /** RMSNorm of q and k before RoPE: of each head with the same weight, or of all heads at once. */
  readonly headNorms: "each" | "all" | null;
  /** Values are normed by head, without weight. */
  readonly valueNorm: boolean;
  /** A projection of their own, or what was projected for the keys, before its norm and RoPE. */
  readonly values: "own" | "keys";
  /** Whose keys and values it attends to: its own number, or that of an earlier layer. */
  readonly cacheOf: number;
  /** What was attended to is multiplied by a sigmoid of another projection, value by value. */
  readonly outputGate: boolean;
}

/** A gated delta net (arXiv 2412.06464): a short convolution over q, k and v, and a recurrent state of each value head. */
export interface DeltaSpec {
  readonly kind: "delta";
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  /** Tokens that the convolution sees. */
  readonly kernel: number;
  /** Value head h reads key head h % keyHeads; else heads that share one stand side by side. */
  readonly tiled: boolean;
}

export interface ExpertsSpec {
  readonly count: number;
  /** How many of them a token takes. */
  readonly k: number;
  /** Of each. */
  readonly width: number;
  /** The weights of the chosen add up to 1. */
  readonly normalise: boolean;
}

export interface FeedForwardSpec {
  /** Of what every token passes: all of it without experts, next to them otherwise; 0: none. */
  readonly width: number;
  readonly experts: ExpertsSpec | null;
}

/** What one layer of a model is made of. */
export interface LayerSpec {
  readonly mixer: AttentionSpec | DeltaSpec;
  readonly feedForward: FeedForwardSpec;
  /** Factor on what the layer hands on. */
  readonly outputScale: number;
}

/** A checkpoint's facts, in the same words for all families. */
export interface ModelConfig {
  readonly family: string;
  readonly name: string;
  readonly hidden: number;
  readonly vocab: number;
  /** Positions the model was trained for. */
  readonly trainedContext: number;
  readonly normEpsilon: number;
  readonly activation: Activation;
  /** Of the activation; 0: none. */
  readonly activationLimit: number;
  /** Factor on the embeddings; Gemma uses sqrt(hidden). */
  readonly embeddingScale: number;
  /** Factor on what attention and feed-forward add to the stream. */
  readonly residualScale: number;
  /** Factor on the logits. */
  readonly logitScale: number;
  /** Logits are cap * tanh(logits / cap); 0: as they are. */
  readonly logitSoftcap: number;
  /** Values that each layer gets of a token besides the stream; 0: none. */
  readonly perLayerInput: number;
  /** The output matrix is the embedding. */
  readonly tied: boolean;
  /** Projections with a bias, in every layer. */
  readonly biases: readonly BiasName[];
  readonly layers: readonly LayerSpec[];
}

/** The attention of a layer that has it. */
export function attentionIn({ mixer }: LayerSpec): AttentionSpec {
  if (mixer.kind !== "attention") throw new Error(`a layer of kind ${mixer.kind} does not attend`);
  return mixer;
}

/**
 * Dims of a key that a cache has to hold beside the value where both are norms of one projection: key = weight * value before
 * RoPE, so that only the dims that turn differ by more than a factor, which a query can take over. 0: both are held whole.
 */
export function turnedDims({ values, valueNorm, headNorms, rope, headDim }: AttentionSpec): number {
  if (values !== "keys" || !valueNorm || headNorms !== "each" || !rope || rope.long) return 0;
  const dims = 2 * (turnedPairs(rope) ?? 0);
  // Formats hold multiples of 16.
  return dims % 16 === 0 && dims < headDim ? dims : 0;
}

/** Of all layers that attend. */
export function attentionsOf({
  layers,
}: Pick<ModelConfig, "layers">): { layer: number; spec: AttentionSpec }[] {
  return layers.flatMap(({ mixer: spec }, layer) => (spec.kind === "attention" ? [{ layer, spec }] : []));
}

/** What most families have, for those who change some of it. */
export const PLAIN = {
  activation: "silu",
  activationLimit: 0,
  embeddingScale: 1,
  residualScale: 1,
  logitScale: 1,
  logitSoftcap: 0,
  perLayerInput: 0,
} as const;

/** Attention as in Llama, but for what is given. */
export function attentionOf(
  own: Pick<AttentionSpec, "heads" | "kvHeads" | "headDim" | "cacheOf"> & Partial<AttentionSpec>,
): AttentionSpec {
  return {
    ...{ kind: "attention", window: null, rope: null, scale: 1 / Math.sqrt(own.headDim), softcap: 0 },
    ...{ sinks: false, headNorms: null, valueNorm: false, values: "own", outputGate: false },
    ...own,
  };
}

/** What a family says of a layer: of its attention what is not Llama's, or another mixer. */
export function mixerOf(
  shape: Parameters<typeof attentionOf>[0],
  own: Partial<AttentionSpec> | DeltaSpec,
): LayerSpec["mixer"] {
  return own.kind === "delta" ? own : attentionOf({ ...shape, ...own });
}

/** Throws FormatError when the numbers cannot describe a model; gives the config back otherwise. */
export function checkConfig(config: ModelConfig, place: string): ModelConfig {
  const within = (name: string, found: number, bound: Bound) => {
    const allowed = outside(found, bound);
    if (allowed !== null) throw new FormatError(place, `${name} is ${found}`, allowed);
  };
  // Numbers that a reader may have made of others.
  for (const key of ["hidden", "vocab", "trainedContext"] as const) within(key, config[key], BOUNDS[key]);
  within("layers", config.layers.length, BOUNDS.layers);
  config.layers.forEach(({ mixer, feedForward }, layer) => {
    if (mixer.kind === "delta") checkDelta(mixer, place, within);
    else checkAttention(mixer, layer, config, place, within);
    const { width, experts } = feedForward;
    if (width > 0 || !experts) within("ffn", width, BOUNDS.ffn);
    if (!experts) return;
    within("experts", experts.count, BOUNDS.experts);
    within("experts of a token", experts.k, { least: 1, most: experts.count, whole: true });
    within("width of an expert", experts.width, BOUNDS.ffn);
  });
  return config;
}

type Within = (name: string, found: number, bound: Bound) => void;

function checkDelta(spec: DeltaSpec, place: string, within: Within): void {
  const { keyHeads, valueHeads, keyDim, valueDim } = spec;
  within("keyHeads", keyHeads, BOUNDS.heads);
  within("valueHeads", valueHeads, BOUNDS.heads);
  within("keyDim", keyDim, BOUNDS.headDim);
  within("valueDim", valueDim, BOUNDS.headDim);
  within("kernel", spec.kernel, { least: 2, most: MOST_KERNEL, whole: true });
  if (valueHeads % keyHeads !== 0)
    throw new FormatError(place, `${valueHeads} value heads over ${keyHeads} key heads`, "a multiple");
  for (const dim of [keyDim, valueDim])
    if (dim % 16 !== 0) throw new FormatError(place, `head size ${dim}`, "multiples of 16");
}

function checkAttention(
  spec: AttentionSpec,
  layer: number,
  { layers }: ModelConfig,
  place: string,
  within: Within,
): void {
  const { heads, kvHeads, headDim, window, scale, cacheOf, rope } = spec;
  for (const key of ["heads", "kvHeads", "headDim"] as const) within(key, spec[key], BOUNDS[key]);
  if (heads % kvHeads !== 0)
    throw new FormatError(place, `${heads} query heads over ${kvHeads} KV heads`, "a multiple");
  if (headDim % 16 !== 0) throw new FormatError(place, `head size ${headDim}`, "multiples of 16");
  if (!(scale > 0 && Number.isFinite(scale)))
    throw new FormatError(place, `attention scale ${scale}`, "positive");
  if (window !== null && !(Number.isInteger(window) && window >= 1))
    throw new FormatError(place, `sliding window ${window}`, "a positive integer");
  if (cacheOf !== layer) {
    const other = layers[cacheOf]?.mixer;
    const fits = cacheOf < layer && other?.kind === "attention" && other.cacheOf === cacheOf;
    if (!fits || other.kvHeads !== kvHeads || other.headDim !== headDim || other.window !== window)
      throw new FormatError(
        place,
        `layer ${layer} attends to the cache of layer ${cacheOf}`,
        "one of its kind before it",
      );
  }
  for (const frequencies of rope ? [rope.frequencies, ...(rope.long ? [rope.long.frequencies] : [])] : []) {
    if (frequencies.length * 2 > headDim || frequencies.length === 0)
      throw new FormatError(
        place,
        `RoPE turns ${frequencies.length * 2} of ${headDim} dims`,
        `2 to ${headDim}`,
      );
    if (!frequencies.every((f) => f >= 0 && f <= 1e3))
      throw new FormatError(place, "a RoPE frequency is not a finite positive number", "0 to 1000 radians");
  }
}

/** The window of each layer where every `period`-th sees everything and the others slide; a period of 0: all slide. */
export function slidingPattern(layers: number, period: number, window: number): (number | null)[] {
  return Array.from({ length: layers }, (_, i) => ((i + 1) % period === 0 ? null : window));
}

/** The head size where a file leaves it to the width. */
export function headDimOf(hidden: number, heads: number, place: string): number {
  if (hidden % heads === 0) return hidden / heads;
  throw new FormatError(place, `${hidden} values over ${heads} heads without a head size`, "a multiple");
}
