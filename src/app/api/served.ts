/** What all routes share: the served model with its defaults and limits, and prompts as its tokens. */

import type { Grammars } from "../../answer/grammar/grammars.ts";
import {
  ContextError,
  type GenerateOptions,
  type GenerationResult,
  type LanguageModel,
  type Pooling,
  type Prompt,
  type PromptOptions,
} from "../../index.ts";
import { ApiError } from "./errors.ts";
import type { UnknownField } from "./field-rules.ts";
import type { Fields } from "./fields.ts";
import type { Metrics } from "./metrics.ts";

export interface Served {
  readonly model: LanguageModel;
  /** The model's names for clients: the first is reported, all are accepted. */
  readonly names: readonly [string, ...string[]];
  /** Time since which it is offered, in seconds of Unix time. */
  readonly created: number;
  readonly metrics: Metrics;
  readonly grammars: Grammars;
  /** For options that a request does not set. */
  readonly defaults: GenerateOptions;
  /** How embeddings are pooled if the model's file does not say. */
  readonly pooling?: Pooling;
  readonly mostBodyBytes: number;
  /** Requests that may wait for their turn. */
  readonly mostWaiting: number;
  /** Fires when the server stops waiting for answers. */
  readonly closing: AbortSignal;
  readonly unknownField: UnknownField;
  /** Called with internal errors. */
  log(error: unknown): void;
  /** Called for each refused request: status, method, route and reason, for a log. */
  refused?(line: string): void;
  /** Why the device cannot generate, if the last generation failed because of it; null: it can. */
  failure: string | null;
  /**
   * Keeps the model from being closed until the returned function is called. Default: it is never closed before the server ends.
   */
  hold?(): () => void;
  /** Called for every generation that reached its end. */
  done?(result: GenerationResult, seconds: number): void;
}

/** ApiError 404 for a model that is not here; a request without one means ours. */
export function checkModel(fields: Fields, { names }: Served): void {
  const asked = fields.text("model");
  if (asked === undefined || names.includes(asked)) return;
  throw new ApiError(
    404,
    `the model ${JSON.stringify(asked.slice(0, 100))} is not served here; there is ${JSON.stringify(names[0])}`,
    { param: "model", code: "model_not_found" },
  );
}

/** The prompt's ids; other clients are answered meanwhile. ContextError when they do not fit. */
export async function encode(
  served: Served,
  prompt: Prompt,
  options: PromptOptions & { signal: AbortSignal },
): Promise<number[]> {
  return fitting(served, await served.model.encodeInSlices(prompt, options));
}

/** Returns the ids. Throws ContextError if they do not fit. */
export function fitting({ model }: Served, ids: number[]): number[] {
  if (ids.length > model.plan.context) throw new ContextError(ids.length, model.plan.context);
  if (ids.length === 0) throw new ApiError(400, "the prompt is empty; at least one token is needed");
  return ids;
}
