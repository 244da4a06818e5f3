/**
 * What a model is, in our vocabulary, whatever file it came from. Owns the shape's names and its sanity checks.
 * Refuses to know foreign keys: `config-gguf.ts` and `config-safetensors.ts` map them here, once.
 */
import type { Activation } from "../device/contract.ts";
import { FormatError } from "../format/errors.ts";
import { BOUNDS, outside } from "./bounds.ts";

export type LayerKind = "full" | "sliding";

/** A projection that may have a bias. */
export type BiasName = "query" | "key" | "value" | "attended" | "gate" | "up" | "down" | "output";

export interface RopeConfig {
  /** Radians per position of each pair, [rotated dims / 2], with the model's own scaling applied. */
  readonly frequencies: Float64Array;
}

export interface ModelConfig {
  readonly family: string;
  readonly name: string;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ffn: number;
  readonly vocab: number;
  /** Positions the model was trained for. */
  readonly trainedContext: number;
  readonly normEpsilon: number;
  readonly activation: Activation;
  /** Factor on the embeddings; Gemma uses sqrt(hidden). */
  readonly embeddingScale: number;
  /** Factor on q.k. */
  readonly attentionScale: number;
  /** Logits are cap * tanh(logits / cap); 0: as they are. */
  readonly logitSoftcap: number;
  /** The output matrix is the embedding. */
  readonly tied: boolean;
  /** Projections with a bias, in every layer. */
  readonly biases: readonly BiasName[];
  /** By layer. */
  readonly layerKinds: readonly LayerKind[];
  /** Positions that a sliding layer sees. */
  readonly window: number;
  readonly ropes: Readonly<Record<LayerKind, RopeConfig>>;
}

/** Numbers that a reader may have made of others. */
const CHECKED = [
  "layers",
  "hidden",
  "heads",
  "kvHeads",
  "headDim",
  "ffn",
  "vocab",
  "trainedContext",
] as const;

/** Throws FormatError when the numbers cannot describe a model; gives the config back otherwise. */
export function checkConfig(config: ModelConfig, place: string): ModelConfig {
  for (const key of CHECKED) {
    const allowed = outside(config[key], BOUNDS[key]);
    if (allowed !== null) throw new FormatError(place, `${key} is ${config[key]}`, allowed);
  }
  const { heads, kvHeads, headDim, layerKinds, layers, window, attentionScale } = config;
  if (heads % kvHeads !== 0)
    throw new FormatError(place, `${heads} query heads over ${kvHeads} KV heads`, "a multiple");
  if (headDim % 16 !== 0) throw new FormatError(place, `head size ${headDim}`, "multiples of 16");
  if (!(attentionScale > 0 && Number.isFinite(attentionScale)))
    throw new FormatError(place, `attention scale ${attentionScale}`, "positive");
  if (layerKinds.length !== layers)
    throw new FormatError(place, `${layerKinds.length} layer kinds for ${layers} layers`, "one for each");
  if (layerKinds.includes("sliding") && !(Number.isInteger(window) && window >= 1))
    throw new FormatError(place, `sliding window ${window}`, "a positive integer");
  for (const { frequencies } of Object.values(config.ropes)) {
    if (frequencies.length * 2 > headDim || frequencies.length === 0)
      throw new FormatError(
        place,
        `RoPE turns ${frequencies.length * 2} of ${headDim} dims`,
        `2 to ${headDim}`,
      );
    if (!frequencies.every((f) => f >= 0 && f <= 1e3))
      throw new FormatError(place, "a RoPE frequency is not a finite positive number", "0 to 1000 radians");
  }
  return config;
}

/** Every `period`-th layer is full, the others slide (Gemma 3: five local layers to one global). */
export function slidingPattern(layers: number, period: number): LayerKind[] {
  return Array.from({ length: layers }, (_, i) => ((i + 1) % period === 0 ? "full" : "sliding"));
}

/** The head size where a file leaves it to the width. */
export function headDimOf(hidden: number, heads: number, place: string): number {
  if (hidden % heads === 0) return hidden / heads;
  throw new FormatError(place, `${hidden} values over ${heads} heads without a head size`, "a multiple");
}
