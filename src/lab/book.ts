/**
 * What running experiments needs from a lab's memory. `JournalBook` (journal-book.ts) serves one process over one file; a
 * database serves many with the same interface.
 */
import type { Snapshot } from "./snapshot.ts";
import type { Entry, Experiment, FailureEntry, ResultEntry, Spec, TextEntry } from "./types.ts";

export interface Claim {
  /** experimentId. */
  readonly id: string;
  readonly experiment: Experiment;
  readonly spec: Spec;
  readonly text: TextEntry;
  /** Number of the attempt, from 1. */
  readonly attempt: number;
  /** The book's identifier of the attempt. */
  readonly token?: unknown;
}

/** Computes claims, here or in another process. */
export interface Runner {
  run(claim: Claim, signal: AbortSignal): Promise<ResultEntry>;
  close(): Promise<void>;
}

export interface LabBook {
  /** Adds what is new and resolves, when it is safe, with how many entries were. Experiments among them can be claimed. */
  add(entries: readonly Entry[]): Promise<number>;
  /**
   * An experiment without a result or another claim, studies in rotation, the largest priority of a study first; null: none now.
   * `can`: what this worker offers; an experiment is given only to one that offers all it needs.
   */
  claim(worker: string, can: readonly string[]): Promise<Claim | null>;
  /** Records the outcome of a claim. "replicate": another result came first. */
  record(claim: Claim, entry: ResultEntry | FailureEntry): Promise<"recorded" | "replicate">;
  /** The claim was not attempted and becomes available again. */
  release(claim: Claim): Promise<void>;
  snapshot(): Promise<Snapshot>;
  /** How many experiments of a study may be added before more than two wait for each worker, shared among studies that wait. */
  room(study: string): Promise<number>;
  close(): Promise<void>;
}
