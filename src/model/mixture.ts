/**
 * Chooses the type of each tensor when a model is quantized to GGUF: llama.cpp's mixtures (llama-quant.cpp), which
 * spend more bits on tensors that are small and matter much: the output, the values, the down projections of some
 * layers.
 */
import { UnsupportedError } from "../format/errors.ts";
import type { QuantizedType } from "../format/quantize.ts";
import { BLOCKS } from "../format/tensor.ts";
import { attentionsOf, type ModelConfig } from "./config.ts";

/** A mixture: the type of most tensors, and `general.file_type` (llama.h, enum llama_ftype). */
interface Mixture {
  readonly type: QuantizedType;
  readonly fileType: number;
}

export const MIXTURES = {
  f32: { type: "f32", fileType: 0 },
  f16: { type: "f16", fileType: 1 },
  bf16: { type: "bf16", fileType: 32 },
  q8_0: { type: "q8_0", fileType: 7 },
  q6_k: { type: "q6_k", fileType: 18 },
  q5_k_m: { type: "q5_k", fileType: 17 },
  q5_k_s: { type: "q5_k", fileType: 16 },
  q5_1: { type: "q5_1", fileType: 9 },
  q5_0: { type: "q5_0", fileType: 8 },
  q4_k_m: { type: "q4_k", fileType: 15 },
  q4_k_s: { type: "q4_k", fileType: 14 },
  q4_1: { type: "q4_1", fileType: 3 },
  q4_0: { type: "q4_0", fileType: 2 },
  q3_k_l: { type: "q3_k", fileType: 13 },
  q3_k_m: { type: "q3_k", fileType: 12 },
  q3_k_s: { type: "q3_k", fileType: 11 },
  q2_k: { type: "q2_k", fileType: 10 },
} as const satisfies Record<string, Mixture>;

export type MixtureName = keyof typeof MIXTURES;

/** The usual mixture of a K type. */
const SHORT: Readonly<Record<string, MixtureName>> = { q3_k: "q3_k_m", q4_k: "q4_k_m", q5_k: "q5_k_m" };

/** Finds a mixture by the name that a person types. Throws UnsupportedError, which lists the known names. */
export function mixtureOf(name: string): MixtureName {
  const lower = name.toLowerCase();
  const long = Object.hasOwn(SHORT, lower) ? SHORT[lower] : lower;
  if (Object.hasOwn(MIXTURES, long)) return long as MixtureName;
  const known = [...Object.keys(MIXTURES), ...Object.keys(SHORT)];
  throw new UnsupportedError(`quantizing to ${JSON.stringify(name)}`, `Known: ${known.join(", ")}.`);
}

/** A tensor of the new file, by its GGUF name; dims with the fastest axis first. */
export interface MixedTensor {
  readonly name: string;
  readonly dims: readonly number[];
}

/** Small tensors, or tensors that no matrix product reads, keep their type. */
const KEPT = /_norm\.weight$|ffn_gate_inp\.weight$|per_layer_model_proj|ssm_conv1d/;

/** The type of each tensor; null: unchanged. weighed: an importance matrix weighs the errors. */
export function mixTypes(
  name: MixtureName,
  tensors: readonly MixedTensor[],
  config: ModelConfig,
  weighed = false,
): (QuantizedType | null)[] {
  const { type } = MIXTURES[name];
  const values = tensors.filter(({ name }) => isValues(name)).sort((a, b) => layerOf(a) - layerOf(b));
  const order = new Map(values.map((tensor, i) => [tensor.name, i]));
  return tensors.map((tensor) => {
    const { name: own, dims } = tensor;
    const matrix = dims.slice(1).some((dim) => dim > 1);
    if (!matrix || !own.endsWith("weight") || KEPT.test(own)) return null;
    if (BLOCKS[type].elements === 1) return type;
    const place = { layer: layerOf(tensor), value: order.get(own) ?? 0, values: values.length, weighed };
    return fitting(wider(name, own, dims[0], place, config), dims[0]);
  });
}

const isValues = (name: string) => /attn_(v|qkv)\.weight$/.test(name);
const layerOf = ({ name }: MixedTensor) => Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? 0);

/** llama.cpp's use_more_bits: the first and last eighth of the layers, and every third between. */
function isOuter(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}

interface Place {
  readonly layer: number;
  /** The index of this value projection among the model's. */
  readonly value: number;
  readonly values: number;
  readonly weighed: boolean;
}

function wider(
  mixture: MixtureName,
  name: string,
  cols: number,
  { layer, value, values, weighed }: Place,
  config: ModelConfig,
): QuantizedType {
  const { type } = MIXTURES[mixture];
  const layers = config.layers.length;
  const [{ spec }] = attentionsOf(config);
  const queriesPerKv = spec.heads / spec.kvHeads;
  const eight = config.layers.some(({ feedForward }) => feedForward.experts?.count === 8);
  const isOutput =
    name === "output.weight" || (config.tied && /^(per_layer_)?token_embd\.weight$/.test(name));
  if (isOutput) return type === "q8_0" || cols % BLOCKS.q6_k.elements !== 0 ? "q8_0" : "q6_k";

  if (isValues(name)) {
    if (eight) return "q8_0";
    const found = ofValues();
    // In the 70B eight heads share one value projection, so more bits cost little.
    const seventy = layers === 80 && spec.heads !== spec.kvHeads;
    return seventy && (found === "q3_k" || found === "q4_k") ? "q5_k" : found;
  }
  if (/attn_k\.weight$/.test(name)) return eight ? "q8_0" : type;
  if (/attn_output\.weight$/.test(name)) {
    if (eight) return type === "q2_k" || type === "q3_k" || type === "q4_k" ? "q5_k" : type;
    if (mixture === "q2_k") return "q3_k";
    return mixture === "q3_k_m" ? "q4_k" : mixture === "q3_k_l" ? "q5_k" : type;
  }
  if (!/ffn_down/.test(name)) return type;
  switch (mixture) {
    case "q2_k":
      return "q3_k";
    case "q3_k_m":
      return layer < Math.floor(layers / 16) ? "q5_k" : "q4_k";
    case "q3_k_l":
      return "q5_k";
    case "q4_k_m":
    case "q5_k_m":
      return isOuter(layer, layers) ? "q6_k" : type;
    case "q4_k_s":
      return layer < Math.floor(layers / 8) ? "q5_k" : type;
    case "q4_0":
    case "q5_0":
      // llama.cpp keeps the older mixture if there is no importance matrix.
      if (weighed && layer < Math.floor(layers / 8)) return type === "q4_0" ? "q4_1" : "q5_1";
      return type;
    default:
      return type;
  }

  function ofValues(): QuantizedType {
    switch (mixture) {
      case "q2_k":
        return queriesPerKv >= 4 ? "q4_k" : "q3_k";
      case "q3_k_m":
        return value < 2 ? "q5_k" : "q4_k";
      case "q3_k_l":
        return "q5_k";
      case "q4_k_m":
      case "q5_k_m":
        return isOuter(value, values) ? "q6_k" : type;
      case "q4_k_s":
        return value < 4 ? "q5_k" : type;
      default:
        return type;
    }
  }
}

/** Rows that are not whole blocks of 256 get blocks of 32 of the next larger type, and f16 if even those do not fit. */
const NARROWER: Partial<Record<QuantizedType, QuantizedType>> = {
  ...{ q2_k: "q4_0", q3_k: "q4_0", q4_k: "q5_0", q5_k: "q5_1", q6_k: "q8_0" },
};

function fitting(type: QuantizedType, cols: number): QuantizedType {
  if (cols % BLOCKS[type].elements === 0) return type;
  const narrower = NARROWER[type] ?? type;
  return cols % BLOCKS[narrower].elements === 0 ? narrower : "f16";
}
