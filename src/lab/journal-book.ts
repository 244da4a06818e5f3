/**
 * A lab's memory of one process: a journal, and its contents in maps. What was added or recorded is on the disk before a
 * call resolves; claims are only in memory, so what was running when the process ended is claimed again.
 */
import type { Claim, LabBook } from "./book.ts";
import { checkParts } from "./check-entry.ts";
import { Journal } from "./journal.ts";
import { roomFor } from "./room.ts";
import { Snapshot } from "./snapshot.ts";
import { Order } from "./turns.ts";
import type { Entry, FailureEntry, ProposalEntry, ResultEntry } from "./types.ts";

export class JournalBook implements LabBook {
  readonly #journal: Journal;
  readonly #known: Snapshot;
  readonly #claimed = new Set<string>();
  readonly #order = new Order();
  readonly #workers = new Set<string>();

  private constructor(journal: Journal) {
    this.#journal = journal;
    this.#known = new Snapshot(journal.entries);
  }

  static async open(path: string): Promise<JournalBook> {
    return new JournalBook(await Journal.open(path));
  }

  async add(entries: readonly Entry[]): Promise<number> {
    const fresh: Entry[] = [];
    const ids = new Set<string>();
    for (const entry of entries)
      if (!this.#known.has(entry.id) && !ids.has(entry.id)) {
        ids.add(entry.id);
        fresh.push(entry);
      }
    if (fresh.length === 0) return 0;
    checkParts(fresh, (id) => this.#known.has(id) || ids.has(id));
    await this.#journal.append(fresh);
    for (const entry of fresh) this.#known.add(entry);
    return fresh.length;
  }

  async claim(worker: string, can: readonly string[]): Promise<Claim | null> {
    this.#workers.add(worker);
    let best: ProposalEntry | null = null;
    // The proposal with the largest priority, in the study that was served longest ago.
    const isBefore = (one: ProposalEntry, other: ProposalEntry) => {
      const turn = this.#order.of(one.study) - this.#order.of(other.study);
      return turn === 0 ? one.priority > other.priority : turn < 0;
    };
    for (const proposal of this.#known.experiments.values()) {
      if (best && !isBefore(proposal, best)) continue;
      if (this.#claimed.has(proposal.id) || !proposal.needs.every((need) => can.includes(need))) continue;
      const state = this.#known.state(proposal.id);
      if (state === "waiting" || state === "failed") best = proposal;
    }
    if (!best) return null;
    const { id, experiment } = best;
    // A journal that somebody has cut may lack them.
    checkParts([best], (part) => this.#known.specs.has(part) || this.#known.texts.has(part));
    const spec = this.#known.specs.get(experiment.spec)!;
    const text = this.#known.texts.get(experiment.text)!;
    this.#claimed.add(id);
    this.#order.served(best.study);
    const attempt = (this.#known.failures.get(id)?.length ?? 0) + 1;
    return { id, experiment, spec: spec.body, text, attempt };
  }

  async record(claim: Claim, entry: ResultEntry | FailureEntry): Promise<"recorded" | "replicate"> {
    const isSecond = entry.kind === "result" && this.#known.results.has(claim.id);
    await this.add([entry]);
    this.#claimed.delete(claim.id);
    return isSecond ? "replicate" : "recorded";
  }

  async release(claim: Claim): Promise<void> {
    this.#claimed.delete(claim.id);
  }

  async snapshot(): Promise<Snapshot> {
    return this.#known;
  }

  async room(study: string): Promise<number> {
    return roomFor(this.#known, study, { workers: this.#workers.size, claimed: this.#claimed });
  }

  close(): Promise<void> {
    return this.#journal.close();
  }
}
