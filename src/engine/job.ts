/**
 * One request of a text to the device: to read its ids, and to give logits or tokens after them. Tracks its progress.
 */
import type { Beginnings } from "../cache/beginnings.ts";
import { blocksOf } from "../cache/layers.ts";
import { type BlockKey, keyOf } from "../cache/node.ts";
import { type PageCopy, TextPages } from "../cache/text-pages.ts";
import { TextStates } from "../cache/text-states.ts";
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
import { type Guess, Lookup } from "./lookup.ts";
import type { RowLogits, Tokens } from "./tokens.ts";

export interface JobOptions {
  /** What the text shall hold. */
  ids: readonly number[];
  /** Of the last of them: logits are wanted. Default 0; 1 with `tokens`. */
  outputs?: number;
  /** A generation after them. */
  tokens?: Tokens;
  /** Tokens of the generation that are guessed and checked at once, at most. Default 0. */
  guesses?: number;
  /** Guesses where the text itself offers none. */
  draft?: Draft | null;
  /** Tokens for which pages are set aside from the beginning. Default: those of `ids`. */
  reserve?: number;
  signal?: AbortSignal;
  /** Tokens read so far of `total` that were new. */
  onProgress?: (tokens: number, total: number) => void;
  /** Of the last of them: they are processed even if pages hold them. Default: those that give logits. */
  fresh?: number;
  /** What fills its pages instead of steps, once it has them. */
  work?: (job: Job) => Promise<void>;
  /** Rows are the labelled value of this name instead of logits. */
  label?: string;
  /** What is done with the step of all that is fresh, instead of running it. */
  instead?: (step: Step) => Promise<void>;
}

/** Tokens of a generation after which its states are kept as those on the way of a prompt are. */
const KEPT_EACH = 512;

/** What of a job is in a step. */
export interface JobPart {
  readonly job: Job;
  readonly from: number;
  readonly to: number;
  readonly outputs: number;
  /** Its last ids, which are guessed: each has an output, as has the one before them. */
  readonly guess: readonly number[];
  readonly sampling: Sampling | null;
  /** Tokens of a prompt among its rows, for what they cost. */
  readonly isPrompt: boolean;
  readonly epoch: number;
  readonly state: RunState | null;
  readonly packed: RunPacked | null;
}

/** A job on its way through the scheduler. */
export class Job {
  /** The prompt, and after it what is chosen, as it becomes known. */
  readonly ids: number[];
  readonly prompt: number;
  readonly outputs: number;
  /** This much may be known already. */
  readonly most: number;
  readonly reserve: number;
  readonly tokens: Tokens | null;
  readonly options: JobOptions;
  /** Resolves when it has ended, rejects with what ended it early. A generation's tokens report the same. */
  readonly ended: Promise<void>;
  /** Logits of the prompt's last `outputs` tokens. */
  readonly rows: Float32Array[] = [];
  /** Its row in the page tables. */
  row = -1;
  /** In the order of admission. */
  began = 0;
  /** When that was, by `performance.now`. */
  beganMs = 0;
  /** The last step that it was part of. */
  servedAt = 0;
  isEnded = false;
  /** Tokens of `ids` that its pages held when it ended. */
  held = 0;
  /** Tokens in steps so far, also those whose ids are not known. */
  sent = 0;
  /** Of these, in steps that the device has taken. */
  ran = 0;
  /** Counts how often what was sent became void: parts of an earlier epoch do not count. */
  epoch = 0;
  /** Guesses that were checked, and those of them that were right. */
  drafted = 0;
  accepted = 0;
  /** A step with guesses is under way. */
  #isChecking = false;
  #lookup: Lookup | null = null;
  #pages: TextPages | null = null;
  #states: TextStates | null = null;
  /** Where reading stops, so that states are kept there. */
  readonly #cuts = new Set<number>();
  /** By other job: what both begin with. */
  readonly #shared = new WeakMap<Job, number>();
  #kept = 0;
  #read = 0;
  readonly #keys: string[] = [];
  #settle!: { resolve: () => void; reject: (error: unknown) => void };

  constructor(options: JobOptions) {
    const { ids, tokens = null, outputs = tokens ? 1 : 0, reserve = ids.length } = options;
    this.options = options;
    this.ids = [...ids];
    this.prompt = ids.length;
    this.outputs = outputs;
    this.most = ids.length - Math.max(outputs, options.fresh ?? 0);
    this.reserve = reserve;
    this.tokens = tokens;
    this.ended = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // A generation's error comes by its tokens; this one may have no listener.
    this.ended.catch(() => {});
  }

  get draft(): Draft | null {
    return this.options.draft ?? null;
  }

  get pages(): TextPages {
    if (!this.#pages) throw new Error("the job has no pages");
    return this.#pages;
  }

  /** null: the graph has no recurrent states. */
  get states(): TextStates | null {
    return this.#states;
  }

  readonly key: BlockKey = (block) => {
    this.#keys[block] ??= keyOf(this.ids, block);
    return this.#keys[block];
  };

  /** Tokens of the prompt that did not have to be read. */
  get reused(): number {
    return this.prompt - this.#read;
  }

  /** Part of the prompt is not sent yet. */
  get isReading(): boolean {
    return this.sent < this.prompt && !this.options.work;
  }

  /** The prompt may be sent up to here: rows for `instead` have a step of their own. */
  get readable(): number {
    const end = this.options.instead && this.sent < this.most ? this.most : this.prompt;
    return Math.min(end, ...[...this.#cuts].filter((cut) => cut > this.sent));
  }

  /** Its next rows have a step of their own, for `instead`. */
  get isApart(): boolean {
    return this.options.instead !== undefined && this.sent === this.most;
  }

  /** keptStates: of positions on its way, at a time. */
  start(beginnings: Beginnings, keptStates: number): PageCopy[] {
    this.beganMs = performance.now();
    const pages = new TextPages(beginnings);
    this.#pages = pages;
    const copies = this.options.work ? [] : pages.start(this.ids, this.key, this.most);
    if (beginnings.states) this.#states = new TextStates(beginnings, pages, keptStates);
    if (this.options.work) return [];
    this.#kept = this.sent = this.ran = pages.tokens;
    if (this.#states)
      for (const cut of cutsOf({ from: this.sent, known: pages.known, prompt: this.prompt }))
        this.#cuts.add(cut);
    return copies;
  }

  /** It reads what `other` is about to read, too, and waits; that one keeps its states where both part. */
  follows(other: Job): boolean {
    let end = this.#shared.get(other);
    if (end === undefined) {
      end = sharedTokens(this, other);
      this.#shared.set(other, end);
      other.#cuts.add(end);
    }
    return this.sent < end && other.sent < end;
  }

  /** Positions before this one it never goes back to. */
  get settled(): number {
    if (!this.tokens) return this.sent;
    // The last token that is known may have to run again; what a caller has not taken it may leave.
    return Math.min(this.ids.length - 1, this.prompt + this.tokens.accepted);
  }

  /** Uses what other texts with the same beginning have read since. */
  catchUp(): void {
    const block = Math.floor(this.sent / PAGE_SLOTS);
    // Rarely is the next block there, and to see that is cheap.
    if (this.sent !== this.pages.tokens || !this.pages.last.children.has(this.key(block))) return;
    if (!this.pages.extend(this.ids, this.key, this.most)) return;
    this.#states?.jump();
    this.sent = this.ran = this.pages.tokens;
    this.#progress();
  }

  /** It generates, and a step may give its next token. */
  get isReady(): boolean {
    const isBusy = this.isReading || this.#isChecking || this.draft?.isBusy;
    return !isBusy && this.tokens?.isWanted === true;
  }

  /** What may come after its known tokens: at most `most`, which may reach past those that are awaited. */
  guess(most: number): Guess {
    this.#lookup ??= new Lookup(this.ids);
    return this.#lookup.next(most);
  }

  /** Asks the draft model for `count` tokens after the known ones. */
  startDraft(count: number): void {
    this.draft!.start(this.ids, count, this.tokens!.draw, (error) => {
      if (error) this.tokens!.fail(error.error);
      else this.tokens!.onChange();
    });
  }

  /** Guesses that its next row may have with it. */
  get mostGuesses(): number {
    return Math.min(this.options.guesses ?? 0, (this.tokens?.wanted ?? 0) - 1);
  }

  part(to: number, guess: readonly number[] = []): JobPart {
    const { sent: from, prompt } = this;
    const isPrompt = from < prompt;
    const outputs = isPrompt ? Math.max(0, to - Math.max(from, prompt - this.outputs)) : to - from;
    const sampling = this.tokens && outputs > 0 ? this.tokens.ask(1 + guess.length) : null;
    this.sent = to;
    this.#isChecking = guess.length > 0;
    const state = this.#states?.advance(to) ?? null;
    // Guesses may be void.
    const packed = this.pages.pack(from, to - guess.length);
    return { job: this, from, to, outputs, guess, sampling, isPrompt, epoch: this.epoch, state, packed };
  }

  /** The device has taken the step. Of guesses nothing is held until they have proved right. */
  took(part: JobPart): void {
    if (this.isEnded) return;
    if (part.epoch === this.epoch) this.#advance(part);
    // Once its blocks are known, and also of a part that is void: the device has packed them.
    this.pages.packed();
    if (part.from < this.prompt && part.epoch === this.epoch) this.#progress();
  }

  #advance({ to, from, guess, epoch }: JobPart): void {
    this.ran = to - guess.length;
    // A row that is run again was read before.
    if (epoch === 0) this.#read += Math.max(0, Math.min(to, this.prompt) - from);
    this.#note();
    if (from < this.prompt || to % KEPT_EACH === 0) this.#states?.keep(to, this.#cuts.has(to));
  }

  /** What the device chose after each output; null: it could not. What comes after an end token is dropped. */
  chose(ids: readonly (number | null)[], part: JobPart): void {
    const first = this.ids.length;
    if (this.isEnded || this.isDone || part.epoch !== this.epoch) return;
    for (const [i, id] of ids.entries()) {
      if (id === null || this.tokens!.refuses(id)) {
        this.tokens!.byHost();
        this.epoch++;
        const last = this.ids.length - 1;
        this.sent = this.ran = this.#states?.back(last) ?? last;
        break;
      }
      this.tokens!.chose(id);
      this.#push(id);
      if (id !== part.guess[i] || this.isDone) break;
    }
    this.#checked(part, first);
  }

  /** Looks at the logits of its outputs. */
  async look(rows: readonly RowLogits[], part: JobPart): Promise<void> {
    if (!this.tokens) {
      const { label } = this.options;
      for (const row of rows) this.rows.push(await (label ? row.labelled!(label) : row.all()));
      return;
    }
    const { ids } = this;
    const first = ids.length;
    const chose = (id: number) => {
      if (!this.isEnded) this.#push(id);
    };
    await this.tokens.choose({ rows, guess: part.guess, ids, chose, done: () => this.#checked(part, first) });
  }

  /** What follows the first guess that was wrong is void. first: where what was chosen begins. */
  #checked({ guess }: JobPart, first: number): void {
    if (guess.length === 0) return this.draft?.passed();
    const chosen = this.ids.length - first;
    let right = 0;
    while (right < chosen && guess[right] === this.ids[first + right]) right++;
    this.drafted += guess.length;
    this.accepted += right;
    if (this.draft?.after(first)?.[0] === guess[0]) this.draft?.learn(guess.length, right);
    this.#isChecking = false;
    if (this.isEnded) return;
    this.sent = this.ids.length - 1;
    this.tokens!.settle(chosen - 1);
  }

  /** Gives its pages back. error: what ended it; null: it has all it wanted, or its caller wants no more. */
  end(error: { error: unknown } | null): void {
    this.isEnded = true;
    this.draft?.end();
    if (this.#pages) {
      this.held = this.#pages.tokens;
      this.#states?.release();
      this.#pages.release();
    }
    if (error) {
      this.tokens?.fail(error.error);
      this.#settle.reject(error.error);
    } else this.#settle.resolve();
  }

  /** It needs nothing more from the device. */
  get isDone(): boolean {
    if (this.tokens) return this.tokens.isOver || this.tokens.failure !== null;
    return !this.options.work && this.ran >= this.prompt && this.rows.length >= this.outputs;
  }

  /** As a step has it. */
  run({ from, to, outputs, guess, sampling, state, packed }: JobPart): Run {
    const known = to - guess.length - from;
    const idAt = (i: number) => (i < known ? (this.ids[from + i] ?? CHOSEN) : guess[i - known]);
    const ids = Uint32Array.from({ length: to - from }, (_, i) => idAt(i));
    return { text: this.row, position: from, ids, outputs, sampling, state, packed };
  }

  /** Pages of a pool that it needs in all, with its reserve; of a bounded one `more` than its window. */
  wants(window: number | null, more = 0): number {
    const all = blocksOf(Math.max(this.reserve, this.prompt));
    return window === null ? all : Math.min(all, blocksOf(window) + 2 + more);
  }

  #push(id: number): void {
    // The row that it was chosen after was that of the last id.
    if (this.#isChecking) this.ran = this.ids.length;
    this.ids.push(id);
    this.#note();
  }

  /** What the device has taken and whose ids are known is held. */
  #note(): void {
    const { pages } = this;
    const to = Math.min(this.ran, this.ids.length);
    if (to <= pages.tokens) return;
    pages.wrote(this.ids.slice(pages.tokens, to));
    // The last token may have to be run again.
    pages.trim(to - 1);
  }

  #progress(): void {
    const { prompt } = this;
    this.options.onProgress?.(Math.min(this.pages.tokens, prompt) - this.#kept, prompt - this.#kept);
  }
}
