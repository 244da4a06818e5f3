/**
 * The fields that say how tokens are chosen and when to end, the same for chat and completions. Owns their names, those
 * of OpenAI and those that llama.cpp and vLLM added, and the refusal of what is not done here: a value that would
 * change the answer is never silently dropped.
 */
import { type GenerateOptions, type SampleOptions, sampler } from "../../index.ts";
import { unsupported } from "./errors.ts";
import { checked, type Fields } from "./fields.ts";

/** The library's names and the request's. */
const NAMES: Readonly<Record<keyof SampleOptions, readonly [string, ...string[]]>> = {
  temperature: ["temperature"],
  topK: ["top_k"],
  topP: ["top_p"],
  minP: ["min_p"],
  repeatPenalty: ["repeat_penalty", "repetition_penalty"],
  repeatLast: ["repeat_last_n"],
  seed: ["seed"],
};

const MOST_STOPS = 16;
const LONGEST_STOP = 1024;
const MOST_TOKENS = 2 ** 31;
/** What clients of llama.cpp send for no limit. */
const NO_LIMIT = -1;

/** What a request asks of the sampler and the loop; `defaults` where it says nothing. */
export function readSampling(fields: Fields, defaults: GenerateOptions): GenerateOptions {
  refuseWhatIsNotDone(fields);
  const sampling: Record<string, unknown> = {};
  const used: Record<string, string> = {};
  for (const [option, names] of Object.entries(NAMES)) {
    const name = names.find((known) => fields.has(known)) ?? names[0];
    used[option] = fields.place(name);
    if (fields.has(name) && typeof fields.any(name) !== "number") throw fields.wrong(name, "a number");
    const found = fields.any(name) ?? defaults[option as keyof SampleOptions];
    if (found !== undefined) sampling[option] = found;
  }
  const { seed } = checked(used, () => sampler(sampling as SampleOptions));
  return {
    ...(sampling as SampleOptions),
    seed,
    maxTokens: readMaxTokens(fields, defaults),
    stop: readStop(fields),
    // As llama.cpp and vLLM call it; for benches.
    ignoreEnd: fields.boolean("ignore_eos") ?? false,
  };
}

function readMaxTokens(fields: Fields, { maxTokens }: GenerateOptions): number | undefined {
  const range = { low: 0, high: MOST_TOKENS, integer: true };
  const read = (name: string) => (fields.any(name) === NO_LIMIT ? undefined : fields.number(name, range));
  const asked = read("max_completion_tokens") ?? read("max_tokens");
  // The server's own limit is one: a request may ask for less.
  return asked === undefined || maxTokens === undefined ? (asked ?? maxTokens) : Math.min(asked, maxTokens);
}

function readStop(fields: Fields): string[] {
  const found = fields.any("stop");
  const stops = found === undefined ? [] : Array.isArray(found) ? found : [found];
  const isText = (stop: unknown) => typeof stop === "string" && stop !== "" && stop.length <= LONGEST_STOP;
  if (stops.length > MOST_STOPS || !stops.every(isText))
    throw fields.wrong(
      "stop",
      `a text or up to ${MOST_STOPS} of them, each of 1 to ${LONGEST_STOP} characters`,
    );
  return stops;
}

/** Fields that would change the answer, and the values of theirs that do not. */
const NOT_DONE: readonly (readonly [name: string, neutral: (value: unknown) => boolean, wayOut: string])[] = [
  ["n", (value) => value === 1, "This server gives one answer a request: ask again for another."],
  ["best_of", (value) => value === 1, "This server gives one answer a request."],
  ["presence_penalty", (value) => value === 0, "repeat_penalty weakens what was said."],
  ["frequency_penalty", (value) => value === 0, "repeat_penalty weakens what was said."],
  ["logit_bias", (value) => typeof value === "object" && Object.keys(value ?? {}).length === 0, ""],
  ["echo", (value) => value === false, ""],
  ["suffix", (value) => value === "", ""],
  ["functions", (value) => Array.isArray(value) && value.length === 0, "It was replaced by tools."],
  ["function_call", (value) => value === "none", "It was replaced by tool_choice."],
  ["audio", () => false, ""],
  ["web_search_options", () => false, ""],
  ["modalities", (value) => Array.isArray(value) && value.every((kind) => kind === "text"), ""],
];

function refuseWhatIsNotDone(fields: Fields): void {
  for (const [name, isNeutral, wayOut] of NOT_DONE) {
    const found = fields.any(name);
    if (found === undefined || isNeutral(found)) continue;
    throw unsupported(fields.place(name), `${name} is not supported. ${wayOut}`.trimEnd());
  }
}
