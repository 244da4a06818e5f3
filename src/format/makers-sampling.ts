/**
 * The sampling defaults of a model's makers: generation_config.json of a folder, `general.sampling.*` of a GGUF
 * (llama.cpp, LLM_KV_GENERAL_SAMPLING_*). Values that they do not give stay undefined here.
 */
import { FormatError } from "./errors.ts";
import { describe, type JsonObject } from "./json.ts";

/** undefined: not given. */
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

/** transformers' defaults for a file that asks for sampling. */
const SAMPLED: Numbers = { temperature: 1, topK: 50, topP: 1, minP: 0 };

/** Throws FormatError for a value out of range. */
export function samplingFromGguf(metadata: Readonly<Record<string, unknown>>): MakersSampling {
  return { ...numbers(metadata, GGUF_SAMPLING, "the file's keys"), suppress: [], suppressFirst: [] };
}

/**
 * generation_config.json. `do_sample: false` means greedy; if it is missing, sampler values imply sampling. Throws
 * FormatError for a value out of range.
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
    // A GGUF stores float32: 0.7 is 0.699999988.
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
