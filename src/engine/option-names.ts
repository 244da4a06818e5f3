/** Names of options: a misspelt one is an error and not a default. Owns those of `generate`. */
import { ArgumentError } from "../format/errors.ts";
import type { GenerateOptions } from "./generate.ts";

/** The prompt's included. */
const OF_GENERATE: Readonly<Record<keyof GenerateOptions | "raw" | "template", true>> = {
  ...{ maxTokens: true, stop: true, ignoreEnd: true, special: true, logprobs: true, guess: true },
  ...{ sampler: true, constraint: true, signal: true, onPrompt: true, raw: true, template: true },
  ...{ temperature: true, topK: true, topP: true, minP: true, seed: true, logitBias: true },
  ...{ repeatPenalty: true, repeatLast: true, presencePenalty: true, frequencyPenalty: true },
};

/** ArgumentError for a name that is none of these and none of `more`. */
export function checkNames(options: object, more: readonly string[] = []): void {
  checkKnown(options, [...more, ...Object.keys(OF_GENERATE)]);
}

/** ArgumentError for a name that is none of `known`. */
export function checkKnown(options: object, known: readonly string[]): void {
  const found = Object.keys(options).find((name) => !known.includes(name));
  if (found !== undefined) throw new ArgumentError("option", found, known.join(", "));
}
