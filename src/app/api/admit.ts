/**
 * One generation from a request to its result. Admitted ones wait for their turn in the order of arrival, and end with their
 * client or with the server.
 */
import type { OpenGrammar } from "../../answer/grammar/grammar.ts";
import {
  DeviceError,
  type GenerateOptions,
  type GenerationResult,
  type Piece,
  type PromptOptions,
} from "../../index.ts";
import { joinedSignal } from "../joined-signal.ts";
import { ApiError } from "./errors.ts";
import type { Served } from "./served.ts";

/** An admitted generation; `cancel` ends it early. */
export interface AdmittedRun {
  start(
    onPiece: (piece: Piece) => void | Promise<void>,
    onPrompt?: GenerateOptions["onPrompt"],
  ): Promise<GenerationResult>;
  cancel(): void;
}

/** Throws ApiError 503 if too many requests wait already, for their turn or for their grammar. */
export function checkRoom({ model, grammars, mostWaiting }: Served): void {
  const { running, waiting } = model.activity;
  const all = waiting + grammars.opening;
  // Some may wait although fewer run: the cache has no space for more.
  const room = waiting > 0 ? running : model.plan.parallel;
  if (running + all < room + mostWaiting) return;
  throw new ApiError(503, `${all} requests are waiting already; try again later`, {
    code: "queue_full",
    headers: { "retry-after": "1" },
  });
}

/**
 * Throws ApiError 503 if too many wait already. Callers call `start` at once. The grammar is closed when the generation
 * ends, or does not begin.
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
      const generation = model.generateFrom(ids, { ...options, ...more });
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
