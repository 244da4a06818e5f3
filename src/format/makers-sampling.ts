/**
 * What a model's makers say of how its tokens are to be chosen: generation_config.json of a folder, `general.sampling.*` of a
 * GGUF (llama.cpp, LLM_KV_GENERAL_SAMPLING_*). Owns these names and their ranges. What they do not say stays open here.
 */
import { FormatError } from "./errors.ts";
import { describe, type JsonObject } from "./json.ts";

/** undefined: not said. */
export interface MakersSampling {
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repeatPenalty?: number;
  readonly repeatLast?: number;
  /** Ids that never come, and those that do not come first. */
  readonly suppress: readonly number[];
  readonly suppressFirst: readonly number[];
}

const MOST_IDS = 1 << 20;

type Numbers = Omit<MakersSampling, "suppress" | "suppressFirst">;
const RANGES: Readonly<Record<keyof Numbers, readonly [low: number, high: number, whole?: true]>> = {
  temperature: [0, 100],
  topK: [-1, 2 ** 31, true],
  topP: [0, 1],
  minP: [0, 1],
  repeatPenalty: [Number.MIN_VALUE, 100],
  repeatLast: [-1, 2 ** 31, true],
};

export const GGUF_SAMPLING: Readonly<Record<keyof Numbers, string>> = {
  temperature: "general.sampling.temp",
  topK: "general.sampling.top_k",
  topP: "general.sampling.top_p",
  minP: "general.sampling.min_p",
  repeatPenalty: "general.sampling.penalty_repeat",
  repeatLast: "general.sampling.penalty_last_n",
};

const CONFIG: Readonly<Partial<Record<keyof Numbers, string>>> = {
  temperature: "temperature",
  topK: "top_k",
  topP: "top_p",
  minP: "min_p",
  repeatPenalty: "repetition_penalty",
};

/** transformers' values where a file that samples says nothing. */
const SAMPLED: Numbers = { temperature: 1, topK: 50, topP: 1, minP: 0 };

/** FormatError for a value out of its range. */
export function samplingFromGguf(metadata: Readonly<Record<string, unknown>>): MakersSampling {
  return { ...numbers(metadata, GGUF_SAMPLING, "the file's keys"), suppress: [], suppressFirst: [] };
}

/**
 * generation_config.json. `do_sample: false` is the likeliest token; where it is missing, values of a sampler mean that one is
 * wanted. FormatError for a value out of its range.
 */
export function samplingFromConfig(config: JsonObject): MakersSampling {
  const place = "generation_config.json";
  const said = numbers(config, CONFIG, place);
  const ids = (key: string) => idList(config[key], `${place}: ${key}`);
  const lists = { suppress: ids("suppress_tokens"), suppressFirst: ids("begin_suppress_tokens") };
  const { repeatPenalty } = said;
  if (config.do_sample === false)
    return { temperature: 0, ...(repeatPenalty && { repeatPenalty }), ...lists };
  const samples =
    config.do_sample === true || ["temperature", "topK", "topP", "minP"].some((key) => key in said);
  return samples ? { ...SAMPLED, ...said, ...lists } : { ...said, ...lists };
}

function numbers(
  values: Readonly<Record<string, unknown>>,
  names: Readonly<Partial<Record<keyof Numbers, string>>>,
  place: string,
): Numbers {
  const found: Partial<Record<keyof Numbers, number>> = {};
  for (const [option, name] of Object.entries(names) as [keyof Numbers, string][]) {
    const value = Object.hasOwn(values, name) ? values[name] : undefined;
    if (value === undefined || value === null) continue;
    const [low, high, whole = false] = RANGES[option];
    const fits =
      typeof value === "number" && value >= low && value <= high && (!whole || Number.isInteger(value));
    if (!fits) {
      const least = low === Number.MIN_VALUE ? "above 0" : low;
      throw new FormatError(
        `${place}: ${name}`,
        describe(value),
        `${whole ? "integers " : ""}${least} to ${high}`,
      );
    }
    // A GGUF has them as float32: 0.7 is 0.699999988.
    found[option] = whole ? value : Number(value.toPrecision(6));
  }
  return found;
}

function idList(value: unknown, place: string): number[] {
  if (value === undefined || value === null) return [];
  const isId = (id: unknown) => Number.isSafeInteger(id) && (id as number) >= 0;
  if (!Array.isArray(value) || value.length > MOST_IDS || !value.every(isId))
    throw new FormatError(place, describe(value), "a list of token ids");
  return value;
}
