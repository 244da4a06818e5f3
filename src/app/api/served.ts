/**
 * What all routes share: the model, defaults and bounds. Also the life of one generation from a request to its result:
 * admitted ones wait for their turn in the order of arrival, and end with their client, or with the server.
 */

import type { OpenGrammar } from "../../answer/grammar/grammar.ts";
import type { Grammars } from "../../answer/grammar/grammars.ts";
import {
  ContextError,
  DeviceError,
  type GenerateOptions,
  type GenerationResult,
  type LanguageModel,
  type Piece,
  type Pooling,
  type Prompt,
  type PromptOptions,
} from "../../index.ts";
import { joinedSignal } from "../joined-signal.ts";
import { ApiError } from "./errors.ts";
import type { UnknownField } from "./field-rules.ts";
import type { Fields } from "./fields.ts";
import type { Metrics } from "./metrics.ts";

export interface Served {
  readonly model: LanguageModel;
  /** The model's names for clients: the first is reported, all are accepted. */
  readonly names: readonly [string, ...string[]];
  /** Since when, in seconds of Unix time. */
  readonly created: number;
  readonly metrics: Metrics;
  readonly grammars: Grammars;
  /** For options that a request does not set. */
  readonly defaults: GenerateOptions;
  /** Of embeddings, where the model's file has none. */
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

/** The same ids. ContextError when they do not fit. */
export function fitting({ model }: Served, ids: number[]): number[] {
  if (ids.length > model.plan.context) throw new ContextError(ids.length, model.plan.context);
  if (ids.length === 0) throw new ApiError(400, "the prompt is empty; at least one token is needed");
  return ids;
}

/** An admitted generation; `cancel` ends it early. */
export interface AdmittedRun {
  start(
    onPiece: (piece: Piece) => void | Promise<void>,
    onPrompt?: GenerateOptions["onPrompt"],
  ): Promise<GenerationResult>;
  cancel(): void;
}

/** ApiError 503 when too many requests wait already, for their turn or for their grammar. */
export function checkRoom({ model, grammars, mostWaiting }: Served): void {
  const { running, waiting } = model.activity;
  const all = waiting + grammars.opening;
  // Also where some wait although fewer run: the cache has no room for more.
  const room = waiting > 0 ? running : model.plan.parallel;
  if (running + all < room + mostWaiting) return;
  throw new ApiError(503, `${all} requests are waiting already; try again later`, {
    code: "queue_full",
    headers: { "retry-after": "1" },
  });
}

/**
 * ApiError 503 when too many wait already. `start` is called at once. The grammar is closed when the generation ends,
 * or does not begin.
 */
export function admit(
  served: Served,
  request: Request,
  ids: readonly number[],
  options: GenerateOptions & Pick<PromptOptions, "raw">,
  grammar: OpenGrammar | null,
): AdmittedRun {
  const { model, metrics, closing } = served;
  try {
    checkRoom(served);
  } catch (error) {
    grammar?.close();
    throw error;
  }
  const letGo = served.hold?.();
  // It does not wait for the grammar's answer.
  const joined = joinedSignal([request.signal, closing], () => grammar?.close());
  const { signal, abort: cancel } = joined;
  const release = () => {
    joined.release();
    letGo?.();
  };
  const start: AdmittedRun["start"] = async (onPiece, onPrompt) => {
    const started = performance.now();
    const seconds = () => (performance.now() - started) / 1000;
    let isFirst = true;
    try {
      const more = { signal, constraint: grammar ?? undefined, ...(onPrompt ? { onPrompt } : {}) };
      const generation = model.generate({ ids }, { ...options, ...more });
      for await (const piece of generation) {
        if (isFirst) metrics.firstToken(seconds());
        isFirst = false;
        // Waits for a slow reader.
        await onPiece(piece);
      }
      const result = await generation.result();
      served.failure = null;
      metrics.generated(result, seconds());
      served.done?.(result, seconds());
      return result;
    } catch (error) {
      if (error instanceof DeviceError) served.failure = error.message;
      metrics.cancelled();
      throw error;
    } finally {
      grammar?.close();
      release();
    }
  };
  const end = () => {
    cancel();
    // It may never have started.
    release();
  };
  return { start, cancel: end };
}
