/**
 * The lab's memory that many processes share (`LabBook`): over the store, it sends heartbeats for the attempts that it has
 * given out, ends those of workers that send none, and keeps results that cannot be recorded. Waiting for the database
 * happens in the executor.
 */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { Claim, LabBook } from "./book.ts";
import { AwayError, type Executor } from "./executor.ts";
import { roomFor } from "./room.ts";
import { Snapshot } from "./snapshot.ts";
import type { Spool } from "./spool.ts";
import type { Store, Taken } from "./store.ts";
import { Turns } from "./turns.ts";
import type { Entry, FailureEntry, ResultEntry } from "./types.ts";

export interface BeatOptions {
  /** Interval of the heartbeat. */
  readonly beatMs: number;
  /** After this long without a heartbeat an attempt is lost. */
  readonly silentMs: number;
}

export class StoreBook implements LabBook {
  readonly store: Store;
  readonly #executor: Executor;
  readonly #spool: Spool;
  readonly #options: BeatOptions;
  readonly #open = new Map<string, Taken>();
  /** By name, what it can. */
  readonly #workers = new Map<string, readonly string[]>();
  /** By what a worker can. */
  readonly #turns = new Map<string, Turns>();
  readonly #snapshot = new Snapshot();
  #since: string | null = null;
  #reading: Promise<Snapshot> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #ticking: Promise<void> | null = null;
  #closed = false;
  /** Since when this process has reached the database without a gap: only then can it judge the silence of others. */
  #steadySince = performance.now();
  #beatAt = performance.now();

  constructor(store: Store, executor: Executor, spool: Spool, options: BeatOptions) {
    this.store = store;
    this.#executor = executor;
    this.#spool = spool;
    this.#options = options;
  }

  add(entries: readonly Entry[]): Promise<number> {
    return this.store.add(entries);
  }

  async claim(worker: string, can: readonly string[]): Promise<Claim | null> {
    this.#workers.set(worker, can);
    this.#schedule();
    const key = JSON.stringify([...can].sort());
    const turns = this.#turns.get(key) ?? new Turns();
    this.#turns.set(key, turns);
    const { isOld } = turns;
    if (isOld) turns.know(await this.store.queuesFor(can));
    const found = await this.#takeFrom(turns, worker);
    if (found || isOld) return found;
    turns.know(await this.store.queuesFor(can));
    return this.#takeFrom(turns, worker);
  }

  async #takeFrom(turns: Turns, worker: string): Promise<Claim | null> {
    for (const { name } of turns.order()) {
      const claim = await this.#take(name, worker);
      if (!claim) continue;
      turns.served(name);
      return claim;
    }
    return null;
  }

  async #take(queue: string, worker: string): Promise<Claim | null> {
    const taken = await this.store.take(queue, worker, randomUUID());
    if (taken === null) return null;
    this.#open.set(taken.attempt, taken);
    const { spec, text, number, proposal } = taken;
    return {
      id: taken.experiment,
      experiment: proposal.experiment,
      spec,
      text,
      attempt: number,
      token: taken,
    };
  }

  async record(claim: Claim, entry: ResultEntry | FailureEntry): Promise<"recorded" | "replicate"> {
    const taken = claim.token as Taken;
    try {
      if (entry.kind === "result") return await this.store.recordResult(taken, entry);
      return (await this.store.recordFailure(taken, entry)) ? "recorded" : "replicate";
    } catch (error) {
      if (!(error instanceof AwayError)) throw error;
      // A failure that cannot be recorded is found by the sweep.
      if (entry.kind === "result") await this.#spool.keep(entry);
      return "recorded";
    } finally {
      this.#open.delete(taken.attempt);
    }
  }

  async release(claim: Claim): Promise<void> {
    const taken = claim.token as Taken;
    this.#open.delete(taken.attempt);
    await this.store.release(taken);
  }

  snapshot(): Promise<Snapshot> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #read(): Promise<Snapshot> {
    const { entries, next } = await this.store.entriesSince(this.#since);
    for (const entry of entries) this.#snapshot.add(entry);
    this.#since = next;
    return this.#snapshot;
  }

  async room(study: string): Promise<number> {
    const [known, crew] = [await this.snapshot(), await this.store.crew(this.#options.silentMs)];
    // Those of this process may not have sent a heartbeat yet.
    return roomFor(known, study, { ...crew, workers: Math.max(crew.workers, this.#workers.size) });
  }

  #schedule(): void {
    if (this.#timer || this.#ticking || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#ticking = this.tick()
        .catch(() => {})
        .finally(() => {
          this.#ticking = null;
          this.#schedule();
        });
    }, this.#options.beatMs).unref();
  }

  /** Sends a heartbeat; ends attempts of workers that sent none; records what is kept. Called every `beatMs`. */
  async tick(): Promise<void> {
    const { silentMs } = this.#options;
    const [host, pid] = [hostname(), process.pid];
    const workers = [...this.#workers].map(([name, can]) => ({ name, host, pid, can }));
    await this.store.beat(workers, [...this.#open.keys()]);
    const now = performance.now();
    // The database was unavailable, or this process slept: others could not send heartbeats either.
    if (now - this.#beatAt > silentMs / 2) this.#steadySince = now;
    this.#beatAt = now;
    if (now - this.#steadySince > silentMs) await this.store.sweep(silentMs);
    await this.#spool.empty((entries) => this.store.add(entries));
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
    await this.#executor.close();
    await this.#ticking;
  }
}
