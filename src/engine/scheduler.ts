/**
 * Runs the steps for the jobs of many texts; nothing else calls the allocation. It admits jobs and assigns the rows of
 * the page tables; pick.ts chooses the rows of a step. A job that fails or is aborted gives its pages back at once.
 * Calls take effect in their order, so pages and rows can be reassigned while steps that use them are still running.
 */
import { type Beginning, Beginnings } from "../cache/beginnings.ts";
import { recentOf, recentWindow } from "../cache/layers.ts";
import { keyOf } from "../cache/node.ts";
import type { BlockPages } from "../cache/saved-cache.ts";
import { LEAST_SLOTS, WORK_SLOTS } from "../cache/text-states.ts";
import {
  type Allocation,
  type Device,
  type Graph,
  MORE_CHOSEN,
  PAGE_SLOTS,
  type Pool,
  type Ran,
} from "../device/contract.ts";
import { tablesOf } from "../device/facts.ts";
import { AbortedError, ArgumentError, DeviceError, NibbleError } from "../format/errors.ts";
import type { DraftModel } from "./draft.ts";
import type { Job, JobPart } from "./job.ts";
import { Pace } from "./pace.ts";
import { pickStep } from "./pick.ts";
import { rowLogits } from "./row-logits.ts";

export interface SchedulerOptions {
  readonly context: number;
  readonly vocab: number;
  /** Maximum tokens of a text that are guessed and checked in one step. Default 0: none. */
  readonly guess?: number;
  /** The time to which rows of prompts may lengthen a step while texts generate. Default 50. */
  readonly stretchMs?: number;
  /** Default: performance.now. */
  readonly clock?: () => number;
}

/** Steps that wait for the device's choices: enough to keep it busy, and few that are wasted when a text ends. */
const MOST_UNDER_WAY = 4;

export class Scheduler {
  readonly graph: Graph;
  readonly allocation: Allocation;
  readonly device: Pick<Device, "name" | "chooses">;
  /**
   * The host reads rows of a table by the ids of a step, so no step is submitted before they are known. A device that
   * chooses then only saves the second submit and the host's sampling: 4 bytes come back, not 2,048 of candidates.
   * Between two tokens it waits until those have arrived and the next row is there (35,840 bytes in Gemma 4 E2B, 43,008
   * in E4B). This would end only with the table in its memory (4.4 and 5.3 GiB in BF16), as WebGPU has no buffer that
   * host and kernels share, and the next row is not known.
   */
  readonly needsIds: boolean;
  readonly context: number;
  readonly vocab: number;
  readonly guesses: number;
  readonly beginnings: Beginnings;
  /** Jobs that wait, in order of arrival. */
  readonly #waiting: Job[] = [];
  readonly #running = new Set<Job>();
  readonly #freeRows: number[];
  /** The content of the device's tables: by pool, [texts, blocks]. */
  readonly #tables: Uint32Array[];
  readonly #pace: Pace;
  /** Calls other than steps, each made between two steps. */
  readonly #calls: (() => Promise<void>)[] = [];
  #underWay = 0;
  /** Chosen ids are passed on in the order of the steps. */
  #heard: Promise<void> = Promise.resolve();
  #steps = 0;
  #admitted = 0;
  /** How many callers keep pages without running; they will give them back, so a text that finds none waits. */
  #keepers = 0;
  /** The first waiting job found no pages. */
  #isFull = false;
  #isLooping = false;
  #isKicked = false;
  #wake = () => {};
  #closed: Error | null = null;
  #draft: DraftModel | null = null;

  constructor(
    graph: Graph,
    allocation: Allocation,
    device: Pick<Device, "name" | "chooses">,
    options: SchedulerOptions,
  ) {
    this.graph = graph;
    this.allocation = allocation;
    this.device = device;
    this.needsIds = tablesOf(graph).length > 0;
    this.context = options.context;
    this.vocab = options.vocab;
    // A state cannot go back to the token before a wrong guess.
    const isStateless = graph.states.length === 0;
    this.guesses = isStateless ? Math.min(options.guess ?? 0, graph.maxOutputs - 1, MORE_CHOSEN) : 0;
    this.beginnings = new Beginnings(graph.pools, graph.stateSlots, recentOf(graph));
    this.#freeRows = Array.from({ length: graph.texts }, (_, i) => graph.texts - 1 - i);
    this.#tables = graph.pools.map(() => new Uint32Array(graph.texts * graph.blocks).fill(UNKNOWN));
    this.#pace = new Pace(options.stretchMs ?? 50, options.clock);
  }

  /** It guesses if texts do not contain the continuation already. */
  get draft(): DraftModel | null {
    return this.#draft;
  }

  /** Throws ArgumentError if it checks no guesses. */
  guessWith(draft: DraftModel): void {
    if (this.guesses === 0)
      throw new ArgumentError("draft", "given", "none: a model with recurrent states checks no guesses");
    this.#draft = draft;
  }

  /** Texts that run or are about to, and those that wait for a row or for pages. */
  get activity(): { running: number; waiting: number } {
    const starting = this.#isFull ? 0 : Math.min(this.#freeRows.length, this.#waiting.length);
    return { running: this.#running.size + starting, waiting: this.#waiting.length - starting };
  }

  /** Pages of all pools, by use. */
  get pages(): { free: number; idle: number; used: number } {
    const sum = (of: (pool: Beginnings["pools"][number]) => number) =>
      this.beginnings.pools.reduce((all, pool) => all + of(pool), 0);
    const [free, idle] = [sum(({ free }) => free), sum(({ idle }) => idle)];
    return { free, idle, used: sum(({ pool }) => pool.pages) - free - idle };
  }

  /** Token slots of the cache that has one for every token: in total, used by running texts, and kept from others. */
  get cache(): { tokens: number; used: number; known: number } {
    const { pools, recent } = this.beginnings;
    const isFull = ({ pool }: (typeof pools)[number]) => pool.window === null && pool.id !== recent?.pool;
    const { pool, free, idle } = pools.find(isFull) ?? pools[0];
    const [tokens, known] = [pool.pages * PAGE_SLOTS, idle * PAGE_SLOTS];
    return { tokens, used: tokens - known - free * PAGE_SLOTS, known };
  }

  submit(job: Job): void {
    const { signal } = job.options;
    if (this.#closed || signal?.aborted)
      return job.end({ error: this.#closed ?? new AbortedError("waiting for its turn") });
    if (signal) {
      const aborted = () => this.end(job, { error: new AbortedError(this.#doing(job)) });
      signal.addEventListener("abort", aborted, { once: true });
      job.ended.finally(() => signal.removeEventListener("abort", aborted)).catch(() => {});
    }
    if (job.tokens) job.tokens.onChange = () => this.#kick();
    this.#waiting.push(job);
    this.#kick();
  }

  /** Ends a job in any state. */
  end(job: Job, error: { error: unknown } | null = null): void {
    if (job.isEnded) return;
    const at = this.#waiting.indexOf(job);
    if (at >= 0) this.#waiting.splice(at, 1);
    if (this.#running.delete(job)) this.#freeRows.push(job.tableRow);
    job.end(error);
    this.#kick();
  }

  /** Makes a call of the allocation other than a step, between two steps. */
  alone<T>(call: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(this.#closed);
      this.#calls.push(() => call().then(resolve, reject));
      this.#kick();
    });
  }

  /** Keeps the cached prefix of `ids` until `release`. */
  keep(ids: readonly number[]): Kept {
    const found = this.beginnings.longest(ids, (block) => keyOf(ids, block), ids.length);
    const { held, release } = this.beginnings.pin(found);
    this.#keepers++;
    return {
      tokens: found.tokens,
      held,
      slot: found.state?.index ?? null,
      release: () => {
        release();
        this.#keepers--;
        this.#kick();
      },
    };
  }

  /** Waiting and later jobs end with `error`, running ones with a DeviceError. */
  close(error: Error): void {
    if (this.#closed) return;
    this.#closed = error;
    for (const job of [...this.#waiting]) this.end(job, { error });
    const failed = new DeviceError(this.device.name, "the device is closed");
    for (const job of [...this.#running]) this.end(job, { error: failed });
    this.#kick();
  }

  #doing(job: Job): string {
    if (!this.#running.has(job)) return "waiting for its turn";
    return job.isReading || !job.tokens ? "reading the prompt" : "generating";
  }

  #kick(): void {
    this.#isKicked = true;
    this.#wake();
    if (this.#isLooping) return;
    this.#isLooping = true;
    this.#loop();
  }

  async #loop(): Promise<void> {
    // Jobs that are submitted at the same time share the first step.
    await null;
    while (await this.#round());
  }

  /** Does all that can be done now, then waits for more; false: nothing is left to wait for. */
  async #round(): Promise<boolean> {
    this.#isKicked = false;
    try {
      while (await this.#next());
    } catch (error) {
      for (const job of [...this.#running, ...this.#waiting]) this.end(job, { error });
    }
    if (this.#isKicked) return true;
    if (this.#underWay === 0) this.#pace.idle();
    if (this.#running.size === 0 && this.#waiting.length === 0 && this.#underWay === 0) {
      // Before anything is awaited: the next kick starts another loop.
      this.#isLooping = false;
      return false;
    }
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    return true;
  }

  /** Does the next thing; false: there is none until something changes. */
  async #next(): Promise<boolean> {
    const call = this.#calls.shift();
    if (call) await call();
    for (const job of this.#running) if (job.isDone) this.end(job);
    await this.#admit();
    if (this.#closed || this.#underWay >= MOST_UNDER_WAY) return call !== undefined;
    const { parts, stuck } = pickStep(this.#running, {
      maxTokens: this.graph.maxTokens,
      maxOutputs: this.graph.maxOutputs,
      context: this.context,
      promptRows: () => this.#pace.promptRows(),
      cost: (rows) => this.#pace.cost.of(rows),
      hasSlot: (job) => this.#hasSlot(job),
      grow: (job, to) => this.#grow(job, to),
    });
    if (parts.length > 0) {
      await this.#run(parts);
      return true;
    }
    if (!stuck || this.#underWay + this.#keepers > 0) return call !== undefined;
    if (stuck.tokens && !stuck.isReading) stuck.tokens.end("cache");
    else this.end(stuck, { error: new NibbleError("memory", CACHE_FULL) });
    return true;
  }

  /** Admits jobs, in order, while there are a row and pages. */
  async #admit(): Promise<void> {
    for (let job = this.#waiting[0]; job && this.#freeRows.length > 0; job = this.#waiting[0]) {
      const found = job.found(this.beginnings);
      this.#isFull = !this.#fits(job, found);
      if (this.#isFull) return;
      this.#waiting.shift();
      job.tableRow = this.#freeRows.pop()!;
      job.order = ++this.#admitted;
      this.#running.add(job);
      try {
        for (const { pool, from, to } of job.start(this.beginnings, this.#keptStates, found))
          await this.allocation.copyPage(this.graph.pools[pool], from, to);
        if (job.isEnded) continue;
        job.pages.copied();
        // All of it was cached.
        if (job.isDone) this.end(job);
        const ended = (error: { error: unknown } | null) => this.end(job, error);
        job.options.fill?.(job).then(
          () => ended(null),
          (error: unknown) => ended({ error }),
        );
      } catch (error) {
        this.end(job, { error });
      }
    }
  }

  /** Whether there are pages for it, not counting those reserved for others. */
  #fits(job: Job, { blocks, full }: Beginning): boolean {
    return this.beginnings.pools.every(({ pool, available }, i) => {
      let shared = 0;
      for (let block = this.beginnings.firstSeen(i, full * PAGE_SLOTS); block < full; block++)
        if ((blocks[block].pages[i]?.users ?? 0) > 0) shared++;
      return job.wants(...this.#window(pool)) - shared <= available - this.#setAside(i, job);
    });
  }

  /** Pages of a pool that are reserved for running jobs other than `job` and not taken yet. */
  #setAside(pool: number, job: Job): number {
    const window = this.#window(this.graph.pools[pool]);
    let sum = 0;
    for (const other of this.#running)
      if (other !== job) sum += Math.max(0, other.wants(...window) - other.pages.held(pool));
    return sum;
  }

  /** The limit of a text's pages in a pool. */
  #window({ id, window }: Pool): [window: number | null, more: number] {
    const { recent } = this.beginnings;
    return recent?.pool === id ? [recentWindow(recent.tokens), recent.firstPages] : [window, 0];
  }

  #grow(job: Job, to: number): number {
    const { pages } = job;
    if (pages.room < to)
      pages.grow(to, (pool) => this.beginnings.pools[pool].available > this.#setAside(pool, job));
    return Math.min(to, pages.room);
  }

  /** How many states to keep along each text: half of what running texts leave; the rest is for the ends of texts. */
  get #keptStates(): number {
    const { texts, stateSlots } = this.graph;
    return Math.max(1, Math.floor((stateSlots - WORK_SLOTS * texts) / (2 * texts)));
  }

  /**
   * Whether there is a slot for the states after the job's next run. LEAST_SLOTS are reserved for each row of the
   * tables.
   */
  #hasSlot(job: Job): boolean {
    const { states } = job;
    if (!states) return true;
    states.settle(job.settled);
    if (states.isReady) return true;
    if (states.held >= LEAST_SLOTS && this.beginnings.states!.available <= this.#slotsOfOthers(job))
      return false;
    return states.reserve(states.held < WORK_SLOTS);
  }

  #slotsOfOthers(job: Job): number {
    let sum = LEAST_SLOTS * this.#freeRows.length;
    for (const other of this.#running)
      if (other !== job) sum += Math.max(0, LEAST_SLOTS - (other.states?.held ?? 0));
    return sum;
  }

  async #run(parts: readonly JobPart[]): Promise<void> {
    const { allocation } = this;
    this.#steps++;
    for (const { job } of parts) {
      job.servedAt = this.#steps;
      this.#setPages(job);
    }
    const all = parts.reduce((sum, { from, to }) => sum + to - from, 0);
    const promptRows = parts.reduce((sum, { isPrompt, from, to }) => sum + (isPrompt ? to - from : 0), 0);
    const { job, from } = parts[0];
    const ownStep = from === job.mostReused ? job.options.ownStep : undefined;
    const ended = ownStep ? () => {} : this.#pace.begin({ promptRows, rows: all - promptRows });
    const fail = (error: unknown) => {
      for (const { job } of parts) this.end(job, { error });
    };
    try {
      const step = { runs: parts.map((part) => part.job.run(part)) };
      if (ownStep) await ownStep.run(step);
      const ran = ownStep ? null : await allocation.run(step);
      for (const part of parts) this.#accepted(part);
      const chosen = parts.filter(({ sampling }) => sampling);
      if (ran && chosen.length > 0) this.#receive(ran, chosen, ended, fail);
      let output = 0;
      for (const part of parts) {
        const { job, outputs, sampling } = part;
        const first = output;
        output += outputs;
        if (outputs === 0 || sampling || job.isEnded) continue;
        const rows = Array.from({ length: outputs }, (_, i) => rowLogits(this, first + i));
        await job.onLogits(rows, part);
        ended();
      }
      if (!this.device.chooses) ended();
    } catch (error) {
      fail(error);
    }
  }

  /** A callback for progress may throw; it may also abort the job. */
  #accepted(part: JobPart): void {
    try {
      part.job.onAccepted(part);
    } catch (error) {
      this.end(part.job, { error });
    }
  }

  /** Does not wait: the device's choices arrive while the next steps run. */
  #receive(ran: Ran, parts: readonly JobPart[], ended: () => void, fail: (error: unknown) => void): void {
    this.#underWay++;
    const { chosen } = ran;
    this.#heard = this.#heard.then(async () => {
      try {
        const ids = await chosen;
        ended();
        let first = 0;
        for (const part of parts) part.job.onChosen(ids.slice(first, (first += part.outputs)), part);
      } catch (error) {
        fail(error);
      }
      this.#underWay--;
      this.#kick();
    });
  }

  /** Sends the device the pages that are new in the job's row of the tables. */
  #setPages(job: Job): void {
    const { blocks, pools } = this.graph;
    job.pages.tables(
      (pool) => this.#tables[pool].subarray(job.tableRow * blocks, (job.tableRow + 1) * blocks),
      (pool, first, pages) => this.allocation.setPages(pools[pool], job.tableRow, first, pages),
    );
  }
}

/** A kept prefix of a text, with the slot of its states if it has any. */
export interface Kept {
  readonly tokens: number;
  readonly held: readonly BlockPages[];
  readonly slot: number | null;
  readonly release: () => void;
}

/** No page has this number. */
const UNKNOWN = 0xffffffff;

const CACHE_FULL =
  "the cache is full of texts that run at the same time; ask for more cache tokens or fewer texts at once";
