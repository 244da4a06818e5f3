/** Checks names of options: a misspelt one is an error and not a default. Lists those of `generate`. */
import { ArgumentError } from "../format/errors.ts";
import type { GenerateOptions } from "./generate.ts";

/** Including the prompt's. */
const OF_GENERATE: Readonly<Record<keyof GenerateOptions | "raw" | "template", true>> = {
  ...{ maxTokens: true, stop: true, ignoreEnd: true, special: true, logprobs: true, guess: true },
  ...{ sampler: true, constraint: true, signal: true, onPrompt: true, raw: true, template: true },
  ...{ temperature: true, topK: true, topP: true, minP: true, seed: true, logitBias: true },
  ...{ repeatPenalty: true, repeatLast: true, presencePenalty: true, frequencyPenalty: true },
};

/** Throws ArgumentError for a name that is neither one of these nor of `more`. */
export function checkNames(options: object, more: readonly string[] = []): void {
  checkKnown(options, [...more, ...Object.keys(OF_GENERATE)]);
}

/** Throws ArgumentError for a name that is not in `known`. */
export function checkKnown(options: object, known: readonly string[]): void {
  const found = Object.keys(options).find((name) => !known.includes(name));
  if (found !== undefined) throw new ArgumentError("option", found, known.join(", "));
}
