/**
 * The fields that say how tokens are chosen and when to end, the same for chat and completions. The names are those
 * of OpenAI and those that llama.cpp and vLLM added. Ranges are the library's.
 */

import { shown } from "../../answer/object-fields.ts";
import { type GenerateOptions, type SampleOptions, sampler } from "../../index.ts";
import { badValue } from "./errors.ts";
import { checked, type Fields } from "./fields.ts";
import type { Served } from "./served.ts";

/** The library's names and the request's. */
const NAMES: Readonly<Record<Exclude<keyof SampleOptions, "logitBias">, readonly [string, ...string[]]>> = {
  temperature: ["temperature"],
  topK: ["top_k"],
  topP: ["top_p"],
  minP: ["min_p"],
  repeatPenalty: ["repeat_penalty", "repetition_penalty"],
  repeatLast: ["repeat_last_n"],
  presencePenalty: ["presence_penalty"],
  frequencyPenalty: ["frequency_penalty"],
  seed: ["seed"],
};

const MOST_STOPS = 16;
const LONGEST_STOP = 1024;
const MOST_TOKENS = 2 ** 31;
/** llama.cpp's value for no limit. */
const NO_LIMIT = -1;

/** A request's options for the sampler and the loop; `defaults` for those it does not set. */
export function readSampling(fields: Fields, { defaults, model }: Served): GenerateOptions {
  const sampling: Record<string, unknown> = {};
  const used: Record<string, string> = {};
  for (const [option, names] of Object.entries(NAMES)) {
    const [name = names[0], other] = names.filter((known) => fields.has(known));
    if (other !== undefined && fields.any(other) !== fields.any(name))
      throw fields.wrong(other, `what ${name} says`);
    used[option] = fields.place(name);
    if (fields.has(name) && typeof fields.any(name) !== "number") throw fields.wrong(name, "a number");
    const found = fields.any(name) ?? defaults[option as keyof typeof NAMES];
    if (found !== undefined) sampling[option] = found;
  }
  const logitBias = readBias(fields, model.tokenizer.vocab);
  if (logitBias) sampling.logitBias = logitBias;
  const { seed } = checked({ ...used, logitBias: "logit_bias" }, () => sampler(sampling as SampleOptions));
  return {
    ...(sampling as SampleOptions),
    seed,
    maxTokens: readMaxTokens(fields, defaults),
    stop: readStop(fields),
    // The name in llama.cpp and vLLM; for benches.
    ignoreEnd: fields.boolean("ignore_eos") ?? false,
  };
}

/** By the ids of tokens, as /tokenize gives them. Ranges are the library's. */
function readBias(fields: Fields, vocab: number): SampleOptions["logitBias"] {
  const found = fields.object("logit_bias")?.record as Record<number, number> | undefined;
  const wrong = Object.keys(found ?? {}).find((id) => !(/^\d+$/.test(id) && Number(id) < vocab));
  if (wrong === undefined) return found;
  throw badValue("logit_bias", `about ${shown(wrong)}`, `ids of tokens, 0 to ${vocab - 1}`);
}

function readMaxTokens(fields: Fields, { maxTokens }: GenerateOptions): number | undefined {
  const range = { low: 0, high: MOST_TOKENS, integer: true };
  const asked = ["max_completion_tokens", "max_tokens", "n_predict"].flatMap((name) =>
    fields.any(name) === NO_LIMIT ? [] : (fields.number(name, range) ?? []),
  );
  // All limits hold, including the server's own.
  const limits = [...asked, ...(maxTokens === undefined ? [] : [maxTokens])];
  return limits.length === 0 ? undefined : Math.min(...limits);
}

function readStop(fields: Fields): string[] {
  const found = fields.any("stop");
  const stops = found === undefined ? [] : Array.isArray(found) ? found : [found];
  const isText = (stop: unknown) => typeof stop === "string" && stop.length <= LONGEST_STOP;
  if (stops.length > MOST_STOPS || !stops.every(isText))
    throw fields.wrong(
      "stop",
      `a text or up to ${MOST_STOPS} of them, each of up to ${LONGEST_STOP} characters`,
    );
  // As in llama.cpp: forms send an empty one if there is none.
  return stops.filter((stop) => stop !== "");
}
