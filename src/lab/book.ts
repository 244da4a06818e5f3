/**
 * What runs experiments needs of a lab's memory. `JournalBook` (journal-book.ts) is one process over one file; a database
 * serves many behind the same calls.
 */
import type { Snapshot } from "./snapshot.ts";
import type { Entry, Experiment, FailureEntry, ResultEntry, Spec, TextEntry } from "./types.ts";

export interface Claim {
  /** experimentId. */
  readonly id: string;
  readonly experiment: Experiment;
  readonly spec: Spec;
  readonly text: TextEntry;
  /** From 1. */
  readonly attempt: number;
  /** The book's own. */
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
   * An experiment that nobody has done and nobody else has claimed, studies by turns, within one the largest priority first; null: none now. `can`: what
   * this worker offers; an experiment is given only to one that offers all it needs.
   */
  claim(worker: string, can: readonly string[]): Promise<Claim | null>;
  /** Keeps what a claim came to. "replicate": somebody was faster. */
  record(claim: Claim, entry: ResultEntry | FailureEntry): Promise<"recorded" | "replicate">;
  /** The claim was not tried: others may have it. */
  release(claim: Claim): Promise<void>;
  snapshot(): Promise<Snapshot>;
  /** How many experiments of a study may be added before more than two wait for each worker, shared among studies that wait. */
  room(study: string): Promise<number>;
  close(): Promise<void>;
}
