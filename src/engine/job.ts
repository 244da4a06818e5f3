/**
 * A request of a text to the device: to read its ids, and to return logits or tokens after them. Tracks how much of it
 * has been sent and has run; what the text holds of the cache is text-cache.ts, its guesses are guesses.ts.
 */
import type { Beginning, Beginnings } from "../cache/beginnings.ts";
import { blocksOf } from "../cache/layers.ts";
import { type BlockKey, keyOf } from "../cache/node.ts";
import { type Prefix, TextCache } from "../cache/text-cache.ts";
import type { PageCopy, TextPages } from "../cache/text-pages.ts";
import type { TextStates } from "../cache/text-states.ts";
import {
  CHOSEN,
  PAGE_SLOTS,
  type Run,
  type RunPacked,
  type RunState,
  type Sampling,
  type Step,
} from "../device/contract.ts";
import { cutsOf, sharedTokens } from "./cuts.ts";
import type { Draft } from "./draft.ts";
import { Guesses } from "./guesses.ts";
import type { RowLogits } from "./row-logits.ts";
import type { Tokens } from "./tokens.ts";

export interface JobOptions {
  /** What the text should contain. */
  ids: readonly number[];
  /** How many of the last ids need logits. Default 0; 1 with `tokens`. */
  outputs?: number;
  /** The generation that follows them. */
  tokens?: Tokens;
  /** Maximum tokens of the generation that are guessed and checked at once. Default 0. */
  guesses?: number;
  /** Guesses if the text itself offers none. */
  draft?: Draft | null;
  /** Tokens for which pages are reserved from the beginning. Default: those of `ids`. */
  reserve?: number;
  signal?: AbortSignal;
  /** Tokens read so far, of `total` new ones. */
  onProgress?: (tokens: number, total: number) => void;
  /** Rows are the labelled value of this name instead of logits. */
  label?: string;
  /** The last ids are a step of their own, even if the cache has them, which `run` runs in place of the allocation. */
  ownStep?: OwnStep;
  /** Fills the job's pages, once it has them: there are no steps. */
  fill?: (job: Job) => Promise<void>;
}

interface OwnStep {
  readonly ids: number;
  run(step: Step): Promise<void>;
}

/** A generation keeps its states after this many tokens, as a prompt does on its way. */
const KEPT_EACH = 512;

/** The part of a job that is in a step. */
export interface JobPart {
  readonly job: Job;
  readonly from: number;
  readonly to: number;
  readonly outputs: number;
  /** Its last ids, which are guessed: each has an output, as has the one before them. */
  readonly guess: readonly number[];
  readonly sampling: Sampling | null;
  /** Its rows include tokens of a prompt, which cost differently. */
  readonly isPrompt: boolean;
  readonly epoch: number;
  readonly state: RunState | null;
  readonly packed: RunPacked | null;
}

/** A job on its way through the scheduler. */
export class Job {
  /** The prompt, followed by the chosen ids as they become known. */
  readonly ids: number[];
  /** Tokens of the prompt: `ids` before anything is chosen. */
  readonly promptTokens: number;
  readonly outputs: number;
  /** Tokens that may come from the cache. */
  readonly mostReused: number;
  readonly reserve: number;
  readonly tokens: Tokens | null;
  /** null: it generates nothing. */
  readonly guesses: Guesses | null;
  readonly options: JobOptions;
  /**
   * Resolves when it has ended; rejects with the error that ended it early, which a generation's tokens report, too.
   */
  readonly ended: Promise<void>;
  /** Logits, or labelled values, of the prompt's last `outputs` tokens. */
  readonly outputRows: Float32Array[] = [];
  /** Its row in the page tables, from admission to its end. */
  tableRow = -1;
  /** Its number in the order of admission. */
  order = 0;
  /** The time of admission, by `performance.now`. */
  beganMs = 0;
  /** The last step that included it. */
  servedAt = 0;
  isEnded = false;
  /** Tokens of `ids` in its pages when it ended. */
  held = 0;
  /** Tokens in steps so far, including those whose ids are not known. */
  sent = 0;
  /** Those of the sent tokens whose steps the device has accepted. */
  ran = 0;
  /** Counts how often sent tokens became void: parts of an earlier epoch are ignored. */
  epoch = 0;
  /** null before its admission. */
  #cache: TextCache | null = null;
  /** Positions at which reading pauses, so that states are kept there. */
  readonly #cuts = new Set<number>();
  /** By other job: the length of the common prefix. */
  readonly #shared = new WeakMap<Job, number>();
  /** Tokens that were in the cache at its admission. */
  #kept = 0;
  /** Tokens of the prompt that were read. */
  #read = 0;
  readonly #keys: string[] = [];
  #settle!: { resolve: () => void; reject: (error: unknown) => void };

  constructor(options: JobOptions) {
    const { ids, tokens = null, outputs = tokens ? 1 : 0, reserve = ids.length, ownStep } = options;
    const { guesses = 0, draft = null } = options;
    this.options = options;
    this.ids = [...ids];
    this.promptTokens = ids.length;
    this.outputs = outputs;
    this.mostReused = ids.length - Math.max(outputs, ownStep?.ids ?? 0);
    this.reserve = reserve;
    this.tokens = tokens;
    this.guesses = tokens && new Guesses(this.ids, tokens, { most: guesses, draft });
    this.ended = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // A generation's error is reported by its tokens; this one may have no listener.
    this.ended.catch(() => {});
  }

  get cache(): TextCache {
    if (!this.#cache) throw new Error("the job has no pages");
    return this.#cache;
  }

  get pages(): TextPages {
    return this.cache.pages;
  }

  /** null: the graph has no recurrent states. */
  get states(): TextStates | null {
    return this.#cache?.states ?? null;
  }

  get #prefix(): Prefix {
    return { ids: this.ids, key: this.key, most: this.mostReused };
  }

  readonly key: BlockKey = (block) => {
    this.#keys[block] ??= keyOf(this.ids, block);
    return this.#keys[block];
  };

  /** Tokens of the prompt that were in the cache. */
  get reused(): number {
    return this.promptTokens - this.#read;
  }

  /** Part of the prompt is not sent yet. */
  get isReading(): boolean {
    return this.sent < this.promptTokens && !this.options.fill;
  }

  /** The prompt may be sent up to here. */
  get readable(): number {
    const end = this.options.ownStep && this.sent < this.mostReused ? this.mostReused : this.promptTokens;
    return Math.min(end, ...[...this.#cuts].filter((cut) => cut > this.sent));
  }

  /** Its next rows are `ownStep`. */
  get isApart(): boolean {
    return this.options.ownStep !== undefined && this.sent === this.mostReused;
  }

  /** The prefix of it that is in the cache now; a job that fills its pages itself shares none. */
  found(beginnings: Beginnings): Beginning {
    return beginnings.longest(this.ids, this.key, this.options.fill ? 0 : this.mostReused);
  }

  /** keptStates: how many positions on its way keep their states at a time. found: the result of `found`. */
  start(beginnings: Beginnings, keptStates: number, found: Beginning): readonly PageCopy[] {
    this.beganMs = performance.now();
    const { fill } = this.options;
    const cache = new TextCache(beginnings, keptStates, fill ? null : this.#prefix, found);
    this.#cache = cache;
    const { tokens, known } = cache.pages;
    if (!fill) this.#kept = this.sent = this.ran = tokens;
    if (cache.states && !fill)
      for (const cut of cutsOf({ from: tokens, known, prompt: this.promptTokens })) this.#cuts.add(cut);
    return cache.copies;
  }

  /**
   * Whether it waits because `other` is about to read the same tokens; that one keeps its states where both diverge.
   */
  follows(other: Job): boolean {
    let end = this.#shared.get(other);
    if (end === undefined) {
      end = sharedTokens(this, other);
      this.#shared.set(other, end);
      other.#cuts.add(end);
    }
    return this.sent < end && other.sent < end;
  }

  /** It never goes back before this position. */
  get settled(): number {
    if (!this.tokens) return this.sent;
    // The last known token may have to run again; tokens that a caller has not taken may be dropped.
    return Math.min(this.ids.length - 1, this.promptTokens + this.tokens.accepted);
  }

  /** Reuses what other texts with the same prefix have read since. */
  catchUp(): void {
    const block = Math.floor(this.sent / PAGE_SLOTS);
    // The next block is rarely there, and this check is cheap.
    if (this.sent !== this.pages.tokens || !this.pages.last.children.has(this.key(block))) return;
    if (!this.cache.extend(this.#prefix)) return;
    this.sent = this.ran = this.pages.tokens;
    this.#progress();
  }

  /** It generates, and a step may produce its next token. */
  get isReady(): boolean {
    return !this.isReading && !this.guesses?.isBusy && this.tokens?.isWanted === true;
  }

  part(to: number, guess: readonly number[] = []): JobPart {
    const { sent: from, promptTokens: prompt } = this;
    const isPrompt = from < prompt;
    const outputs = isPrompt ? Math.max(0, to - Math.max(from, prompt - this.outputs)) : to - from;
    const sampling = this.tokens && outputs > 0 ? this.tokens.ask(1 + guess.length) : null;
    this.sent = to;
    this.guesses?.sent(guess.length);
    const held = this.cache.send(from, to, guess.length);
    return { job: this, from, to, outputs, guess, sampling, isPrompt, epoch: this.epoch, ...held };
  }

  /** The device has accepted the step. Guesses are not counted as read until they are known to be right. */
  onAccepted(part: JobPart): void {
    if (this.isEnded) return;
    if (part.epoch === this.epoch) this.#advance(part);
    // Once its blocks are known, and also for a void part: the device has packed them.
    this.pages.packed();
    if (part.from < this.promptTokens && part.epoch === this.epoch) this.#progress();
  }

  #advance({ to, from, guess, epoch }: JobPart): void {
    this.ran = to - guess.length;
    // A row that is run again was read before.
    if (epoch === 0) this.#read += Math.max(0, Math.min(to, this.promptTokens) - from);
    this.#note();
    if (from < this.promptTokens || to % KEPT_EACH === 0) this.states?.keep(to, this.#cuts.has(to));
  }

  /** The device has chosen an id after each output; null: it could not. What follows an end token is dropped. */
  onChosen(ids: readonly (number | null)[], part: JobPart): void {
    const first = this.ids.length;
    if (this.isEnded || this.isDone || part.epoch !== this.epoch) return;
    for (const [i, id] of ids.entries()) {
      if (id === null || this.tokens!.refuses(id)) {
        this.tokens!.byHost();
        this.epoch++;
        this.sent = this.ran = this.cache.back(this.ids.length - 1);
        break;
      }
      this.tokens!.chose(id);
      this.#push(id);
      if (id !== part.guess[i] || this.isDone) break;
    }
    this.#checked(part, first);
  }

  /** Logits of its outputs can be read. */
  async onLogits(rows: readonly RowLogits[], part: JobPart): Promise<void> {
    if (!this.tokens) {
      const { label } = this.options;
      for (const row of rows) this.outputRows.push(await (label ? row.labelled!(label) : row.all()));
      return;
    }
    const { ids } = this;
    const first = ids.length;
    const chose = (id: number) => {
      if (!this.isEnded) this.#push(id);
    };
    await this.tokens.choose({ rows, guess: part.guess, ids, chose, done: () => this.#checked(part, first) });
  }

  /** Drops what follows the first wrong guess. first: the start of the chosen ids. */
  #checked({ guess }: JobPart, first: number): void {
    this.guesses!.learn(guess, first);
    if (guess.length === 0 || this.isEnded) return;
    this.sent = this.ids.length - 1;
    this.tokens!.settle(this.ids.length - first - 1);
  }

  /** Gives its pages back. error: what ended it; null: it is finished, or its caller wants no more. */
  end(error: { error: unknown } | null): void {
    this.isEnded = true;
    this.guesses?.end();
    if (this.#cache) {
      this.held = this.pages.tokens;
      this.#cache.release();
    }
    if (error) {
      this.tokens?.fail(error.error);
      this.#settle.reject(error.error);
    } else this.#settle.resolve();
  }

  /** It needs nothing more from the device. */
  get isDone(): boolean {
    if (this.tokens) return this.tokens.isOver || this.tokens.failure !== null;
    return !this.options.fill && this.ran >= this.promptTokens && this.outputRows.length >= this.outputs;
  }

  /** The part as a run of a step. */
  run({ from, to, outputs, guess, sampling, state, packed }: JobPart): Run {
    const known = to - guess.length - from;
    const idAt = (i: number) => (i < known ? (this.ids[from + i] ?? CHOSEN) : guess[i - known]);
    const ids = Uint32Array.from({ length: to - from }, (_, i) => idAt(i));
    return { text: this.tableRow, position: from, ids, outputs, sampling, state, packed };
  }

  /**
   * Pages of a pool that it needs in all, including its reserve; for a pool with a window, `more` beyond the window.
   */
  wants(window: number | null, more = 0): number {
    const all = blocksOf(Math.max(this.reserve, this.promptTokens));
    return window === null ? all : Math.min(all, blocksOf(window) + 2 + more);
  }

  #push(id: number): void {
    // The row after which it was chosen was that of the last id.
    if (this.guesses?.isChecking) this.ran = this.ids.length;
    this.ids.push(id);
    this.#note();
  }

  /** Tokens whose rows are accepted and whose ids are known count as read. */
  #note(): void {
    this.cache.wrote(this.ids, Math.min(this.ran, this.ids.length));
  }

  #progress(): void {
    const { promptTokens: prompt } = this;
    this.options.onProgress?.(Math.min(this.pages.tokens, prompt) - this.#kept, prompt - this.#kept);
  }
}
