/**
 * A model's configuration in our vocabulary, whatever file it was read from: facts of the whole model, and a spec for
 * each layer. Foreign keys never get here: the families map them once.
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
  /** Radians per position of each pair, [rotary dims / 2], with the model's own scaling applied. */
  readonly frequencies: Float64Array;
  /** Factor on the rotary dims: the attention factor of YaRN and LongRoPE. Default 1. */
  readonly magnitude?: number;
  /** LongRoPE: the frequencies to use if texts may be longer than `beyond` positions. */
  readonly long?: { readonly beyond: number; readonly frequencies: Float64Array };
}

/** Grouped-query attention (arXiv 2305.13245). */
export interface AttentionSpec {
  readonly kind: "attention";
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Positions that a query attends to, including its own; null: all earlier ones. */
  readonly window: number | null;
  /** null: no position encoding. */
  readonly rope: RopeConfig | null;
  /** Factor on q.k. */
  readonly scale: number;
  /** Scores become cap * tanh(score / cap); 0: no cap. */
  readonly softcap: number;
  /** A learned extra score for each head, which takes part in the softmax and has no value. */
  readonly sinks: boolean;
  /** RMSNorm of q and k before RoPE: each head by itself with a shared weight, or all heads at once. */
  readonly headNorms: "each" | "all" | null;
  /** Values are normed by head, without a weight. */
  readonly valueNorm: boolean;
  /** Values have their own projection, or are the key projection before its norm and RoPE. */
  readonly values: "own" | "keys";
  /** The layer whose KV cache this one attends to: its own number, or an earlier layer's. */
  readonly cacheOf: number;
  /** The attention output is multiplied by the sigmoid of another projection, element by element. */
  readonly outputGate: boolean;
}

/**
 * A gated delta net (arXiv 2412.06464): a short convolution over q, k and v, and a recurrent state for each value head.
 */
export interface DeltaSpec {
  readonly kind: "delta";
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  /** Tokens that the convolution covers. */
  readonly kernel: number;
  /** True: value head h uses key head h % keyHeads. False: value heads with the same key head are adjacent. */
  readonly tiled: boolean;
}

export interface ExpertsSpec {
  readonly count: number;
  /** Experts that each token uses. */
  readonly k: number;
  /** Width of each expert. */
  readonly width: number;
  /** The weights of the chosen experts are normalized to a sum of 1. */
  readonly normalise: boolean;
}

export interface FeedForwardSpec {
  /**
   * Width of the dense feed-forward: the only one without experts, or the shared one that runs besides the experts; 0:
   * none.
   */
  readonly width: number;
  readonly experts: ExpertsSpec | null;
}

/** The components of one layer. */
export interface LayerSpec {
  readonly mixer: AttentionSpec | DeltaSpec;
  readonly feedForward: FeedForwardSpec;
  /** Factor on the layer's output. */
  readonly outputScale: number;
}

/** A checkpoint's configuration, in the same words for all families. */
export interface ModelConfig {
  readonly family: string;
  readonly name: string;
  readonly hidden: number;
  readonly vocab: number;
  /** Positions that the model was trained for. */
  readonly trainedContext: number;
  readonly normEpsilon: number;
  readonly activation: Activation;
  /** Limit of the activation's inputs; 0: none. */
  readonly activationLimit: number;
  /** Factor on the embeddings; Gemma uses sqrt(hidden). */
  readonly embeddingScale: number;
  /** Factor on the outputs of attention and feed-forward before they are added to the residual. */
  readonly residualScale: number;
  /** Factor on the logits. */
  readonly logitScale: number;
  /** Logits become cap * tanh(logits / cap); 0: no cap. */
  readonly logitSoftcap: number;
  /** Size of the input that each layer gets for a token besides the residual; 0: none. */
  readonly perLayerInput: number;
  /** The output matrix is the embedding. */
  readonly tied: boolean;
  /** Projections that have a bias, in every layer. */
  readonly biases: readonly BiasName[];
  readonly layers: readonly LayerSpec[];
}

/** A layer's attention spec; throws for a layer of another kind. */
export function attentionIn({ mixer }: LayerSpec): AttentionSpec {
  if (mixer.kind !== "attention") throw new Error(`a layer of kind ${mixer.kind} does not attend`);
  return mixer;
}

/**
 * How many dims of a key a cache must hold in addition to the value, if both are norms of one projection. Before RoPE
 * key = weight * value, and the query can absorb that factor, so only the rotary dims have to be held. 0: key and
 * value are held whole.
 */
export function turnedDims({ values, valueNorm, headNorms, rope, headDim }: AttentionSpec): number {
  if (values !== "keys" || !valueNorm || headNorms !== "each" || !rope || rope.long) return 0;
  const dims = 2 * (turnedPairs(rope) ?? 0);
  // Cache formats hold multiples of 16.
  return dims % 16 === 0 && dims < headDim ? dims : 0;
}

/** The layers that attend, with their specs. */
export function attentionsOf({
  layers,
}: Pick<ModelConfig, "layers">): { layer: number; spec: AttentionSpec }[] {
  return layers.flatMap(({ mixer: spec }, layer) => (spec.kind === "attention" ? [{ layer, spec }] : []));
}

/** Defaults of the whole model that most families use. */
export const PLAIN = {
  activation: "silu",
  activationLimit: 0,
  embeddingScale: 1,
  residualScale: 1,
  logitScale: 1,
  logitSoftcap: 0,
  perLayerInput: 0,
} as const;

/** Llama's attention, with the given fields replaced. */
export function attentionOf(
  own: Pick<AttentionSpec, "heads" | "kvHeads" | "headDim" | "cacheOf"> & Partial<AttentionSpec>,
): AttentionSpec {
  return {
    ...{ kind: "attention", window: null, rope: null, scale: 1 / Math.sqrt(own.headDim), softcap: 0 },
    ...{ sinks: false, headNorms: null, valueNorm: false, values: "own", outputGate: false },
    ...own,
  };
}

/** A layer's mixer: attention that differs from Llama's in the given fields, or a delta net. */
export function mixerOf(
  shape: Parameters<typeof attentionOf>[0],
  own: Partial<AttentionSpec> | DeltaSpec,
): LayerSpec["mixer"] {
  return own.kind === "delta" ? own : attentionOf({ ...shape, ...own });
}

/** Returns the config. Throws FormatError if its numbers cannot describe a model. */
export function checkConfig(config: ModelConfig, place: string): ModelConfig {
  const within = (name: string, found: number, bound: Bound) => {
    const allowed = outside(found, bound);
    if (allowed !== null) throw new FormatError(place, `${name} is ${found}`, allowed);
  };
  // Readers may have computed these from other numbers.
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
        `layer ${layer} attends to the KV cache of layer ${cacheOf}`,
        "an earlier layer with the same KV heads, head size and window",
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
      throw new FormatError(
        place,
        "a RoPE frequency is negative, not finite or above 1000",
        "0 to 1000 radians",
      );
  }
}

/**
 * The window of each layer: every `period`-th attends to all positions, the others slide; with a period of 0 all slide.
 */
export function slidingPattern(layers: number, period: number, window: number): (number | null)[] {
  return Array.from({ length: layers }, (_, i) => ((i + 1) % period === 0 ? null : window));
}

/** The head size for files that give only the width and the number of heads. */
export function headDimOf(hidden: number, heads: number, place: string): number {
  if (hidden % heads === 0) return hidden / heads;
  throw new FormatError(place, `${hidden} values over ${heads} heads without a head size`, "a multiple");
}
