/**
 * The loop of a worker: claim, run, record, until nothing is left or a signal stops it. Where nothing can be claimed `idle` may
 * propose more. Errors become failure entries; the book decides whether an experiment is tried again.
 */
import { AbortedError } from "../format/errors.ts";
import type { Claim, LabBook, Runner } from "./book.ts";
import { identified } from "./spec.ts";
import type { FailureEntry, ResultEntry } from "./types.ts";
import { workerName } from "./worker-name.ts";

export type WorkEvent =
  | { readonly kind: "claimed"; readonly claim: Claim }
  | { readonly kind: "recorded"; readonly claim: Claim; readonly entry: ResultEntry | FailureEntry };

export interface WorkOptions {
  readonly book: LabBook;
  readonly runner: Runner;
  readonly worker?: string;
  readonly can: readonly string[];
  readonly signal: AbortSignal;
  readonly onEvent?: (event: WorkEvent) => void | Promise<void>;
  /** Nothing can be claimed: true when there may be more now, false to end. Default: to end. */
  readonly idle?: () => Promise<boolean>;
}

/** The most tries of one experiment in a book that does not count by itself. */
export const MOST_ATTEMPTS = 3;

/** Resolves with how many experiments it recorded. When `signal` fires, running work is given back. */
export async function work(options: WorkOptions): Promise<number> {
  const { book, runner, can, signal, onEvent, idle } = options;
  const { worker = workerName() } = options;
  let recorded = 0;
  while (!signal.aborted) {
    const claim = await book.claim(worker, can);
    if (!claim) {
      if (!(await idle?.())) break;
      continue;
    }
    await onEvent?.({ kind: "claimed", claim });
    let entry: ResultEntry | FailureEntry;
    try {
      entry = await runner.run(claim, signal);
    } catch (error) {
      if (signal.aborted || error instanceof AbortedError) {
        await book.release(claim);
        break;
      }
      entry = failure(claim, worker, error as Error);
    }
    await book.record(claim, entry);
    recorded++;
    await onEvent?.({ kind: "recorded", claim, entry });
  }
  return recorded;
}

function failure(claim: Claim, worker: string, error: Error): FailureEntry {
  const isMemory = error instanceof RangeError || /out of memory/i.test(error.message);
  return identified({
    ...({ kind: "failure", experiment: claim.id, worker, attempt: claim.attempt } as const),
    outcome: error.name === "TimeoutError" ? "timeout" : isMemory ? "memory" : "error",
    error: error.message,
    // The same number again after each time that it is given back.
    final: claim.attempt % MOST_ATTEMPTS === 0,
    at: new Date().toISOString(),
  });
}
