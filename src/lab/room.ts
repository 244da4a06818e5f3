/**
 * How many experiments may wait: few, so that proposals follow from results that are known when they run, and no study
 * fills the queue of all. Pure.
 */
import type { Snapshot } from "./snapshot.ts";
import type { Entry } from "./types.ts";

/** Experiments that wait for each worker, shared among the studies that wait. */
const EACH = 2;

/** What is working now. */
export interface Crew {
  readonly workers: number;
  /** Experiments that are being computed. */
  readonly claimed: ReadonlySet<string>;
}

/** How many experiments of `study` may be added before too many of them wait; 0: none. */
export function roomFor(known: Snapshot, study: string, { workers, claimed }: Crew): number {
  const waiting = new Map([[study, 0]]);
  for (const proposal of known.experiments.values()) {
    if (claimed.has(proposal.id) || !/waiting|failed/.test(known.state(proposal.id))) continue;
    waiting.set(proposal.study, (waiting.get(proposal.study) ?? 0) + 1);
  }
  const most = Math.max(1, Math.floor((EACH * workers) / waiting.size));
  return Math.max(0, most - waiting.get(study)!);
}

/** Proposals for which there is no room yet. Only in memory: the next proposer will propose them again. */
export class Backlog {
  #entries: Entry[] = [];

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  put(entries: readonly Entry[]): void {
    this.#entries = [...entries];
  }

  /** The `count` experiments with the largest priority, and all proposed entries that are not experiments. */
  take(count: number): Entry[] {
    const isProposal = (entry: Entry) => entry.kind === "experiment";
    const proposals = this.#entries.filter(isProposal).sort((a, b) => b.priority - a.priority);
    const others = this.#entries.filter((entry) => !isProposal(entry));
    this.#entries = proposals.slice(count);
    return [...others, ...proposals.slice(0, count)];
  }
}
