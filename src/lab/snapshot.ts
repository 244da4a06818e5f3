/**
 * What is known at one time, as maps: every analysis is a function of it, whether the entries came from a journal or a database.
 * The first result of an experiment counts; a later one with other numbers is a replicate, a check of the first.
 */
import type {
  Entry,
  FailureEntry,
  ModelEntry,
  NoteEntry,
  ProposalEntry,
  ResultEntry,
  SpecEntry,
  TextEntry,
} from "./types.ts";

/** Means of two answers to one experiment agree within this share: threads may sum in another order. */
const AGREEMENT = 0.02;

export class Snapshot {
  readonly models = new Map<string, ModelEntry>();
  readonly texts = new Map<string, TextEntry>();
  readonly specs = new Map<string, SpecEntry>();
  readonly experiments = new Map<string, ProposalEntry>();
  /** By experiment. */
  readonly results = new Map<string, ResultEntry>();
  /** By experiment: what came after the first result, with other losses. */
  readonly replicates = new Map<string, ResultEntry[]>();
  /** By experiment. */
  readonly failures = new Map<string, FailureEntry[]>();
  readonly notes: NoteEntry[] = [];
  /** By experiment: how many of its failures were cleared by a retry. */
  readonly #forgiven = new Map<string, number>();
  /** Entries in the order in which they arrived. */
  readonly entries: Entry[] = [];
  readonly #ids = new Set<string>();

  constructor(entries: Iterable<Entry> = []) {
    for (const entry of entries) this.add(entry);
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** false: it was known. */
  add(entry: Entry): boolean {
    if (this.#ids.has(entry.id)) return false;
    this.#ids.add(entry.id);
    this.entries.push(entry);
    switch (entry.kind) {
      case "model":
        this.models.set(entry.id, entry);
        break;
      case "text":
        this.texts.set(entry.id, entry);
        break;
      case "spec":
        this.specs.set(entry.id, entry);
        break;
      case "experiment":
        this.experiments.set(entry.id, entry);
        break;
      case "result":
        if (this.results.has(entry.experiment)) push(this.replicates, entry.experiment, entry);
        else this.results.set(entry.experiment, entry);
        break;
      case "failure":
        push(this.failures, entry.experiment, entry);
        break;
      case "retry":
        this.#forgiven.set(entry.experiment, this.failures.get(entry.experiment)?.length ?? 0);
        break;
      case "note":
        this.notes.push(entry);
        break;
    }
    return true;
  }

  /** disputed: two results that do not agree; analyses leave it out. */
  state(experiment: string): "waiting" | "done" | "failed" | "dead" | "disputed" {
    const first = this.results.get(experiment);
    if (first) {
      const others = this.replicates.get(experiment) ?? [];
      const near = ({ klMean }: ResultEntry) =>
        Math.abs(klMean - first.klMean) <= AGREEMENT * Math.max(klMean, first.klMean);
      return others.every(near) ? "done" : "disputed";
    }
    const failures = this.failures.get(experiment)?.slice(this.#forgiven.get(experiment) ?? 0) ?? [];
    if (failures.length === 0) return "waiting";
    return failures.some(({ final }) => final) ? "dead" : "failed";
  }
}

function push<T>(map: Map<string, T[]>, key: string, item: T): void {
  const list = map.get(key);
  if (list) list.push(item);
  else map.set(key, [item]);
}
