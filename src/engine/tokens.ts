/**
 * The source of a generation's tokens: a device that chooses by itself, so that steps need not wait for ids, or this
 * host, from as few logits as the options need. Both give the same ids for the same seed. Also holds tokens that are
 * chosen and not yet taken. A constraint is computed while the device works; if it is not done when the logits arrive,
 * they are copied and the device continues with other texts.
 */
import type { Sampling } from "../device/contract.ts";
import type { Suppressed } from "./default-sampling.ts";
import { wrongLogits } from "./finite.ts";
import { type Likelihood, likelihood } from "./likelihood.ts";
import type { Sampler } from "./sample.ts";

/** Restricts what may come next as a text grows, for example a grammar. It has a state, so it serves one generation. */
export interface Constraint {
  /**
   * Which tokens may come next: bit id % 32 of word id / 32, [vocab / 32 words, rounded up]; null: any. If no bit is
   * set, the text is complete and the generation ends. Called once at the start and once after each token; while it is
   * awaited, others use the device.
   */
  allowed(): Int32Array | null | Promise<Int32Array | null>;
  /** Called for each token of the text. */
  accept(id: number): void | Promise<void>;
}

export interface TokensOptions {
  /** Maximum number of tokens. */
  most: number;
  /** No token comes after such an id. */
  isEnd?: (id: number) => boolean;
  /** Return the N most likely alternatives with each token; undefined: no likelihoods. */
  logprobs?: number;
  constraint?: Constraint;
  /** Ids that never come. */
  suppressed?: Suppressed | null;
  /** The index of the seed's random number for the first token. Default 0. */
  draw?: number;
  /** Only the row after a known token may be requested. Default false. */
  needsIds?: boolean;
}

export interface Token {
  readonly id: number;
  readonly likelihood?: Likelihood;
}

/** Why there are no more tokens. complete: the constraint allows none; cache: running texts fill the cache. */
export type Ending = "complete" | "cache";

/** The logits of one output row, read as far as needed. */
export interface RowLogits {
  all(): Promise<Float32Array>;
  /** The `count` largest logits [vocab], -Infinity for the others; null: only `all` has them. */
  largest(count: number): Promise<Float32Array | null>;
  /** The output matrix's input: the labelled value of this name. */
  labelled?(name: string): Promise<Float32Array>;
}

/** Tokens that a device may choose before the first of them is taken. */
const AHEAD = 8;
/** The same for the host: one that is being looked at, and one whose step runs meanwhile. */
const HOST_AHEAD = 2;

/** A step's results for a text, and the guesses that its rows after the first were computed for. */
export interface Checked {
  readonly rows: readonly RowLogits[];
  readonly guess: readonly number[];
  /** The text so far; chosen ids are added to it. */
  readonly ids: readonly number[];
  chose(id: number): void;
  /** No more will be chosen from these rows. */
  done(): void;
}

export class Tokens {
  readonly #sample: Sampler;
  readonly #options: TokensOptions;
  /** The host chooses: the device cannot, or more than ids is needed. */
  #isByHost: boolean;
  /** Chosen and not taken. */
  readonly #ready: Token[] = [];
  #asked = 0;
  #chosen = 0;
  #taken = 0;
  #accepted = 0;
  /** Tokens beyond one that the last step gave. */
  #extra = 0;
  /** What may come next; null: the constraint is still computing. */
  #allowed: { readonly mask: Int32Array | null } | null = ANY;
  /** Resolves when it is known, or never will be. */
  #asking: Promise<void> = Promise.resolve();
  #isOver = false;
  #ending: Ending | null = null;
  #failure: { error: unknown } | null = null;
  #wake = () => {};
  /** Called when another step may have become possible, or none is wanted any more. */
  onChange = () => {};

  /** canChoose: whether the device can, with such options. */
  constructor(sample: Sampler, options: TokensOptions, canChoose: (sampling: Sampling) => boolean) {
    this.#sample = sample;
    this.#options = options;
    const sampling = sample.sampling(0);
    this.#isByHost =
      options.logprobs !== undefined ||
      options.constraint !== undefined ||
      sampling === null ||
      !canChoose(sampling);
    this.#isOver = options.most === 0;
    if (!this.#isOver) this.#asking = this.#ask(null);
  }

  /**
   * The next token; null: there is none (`ending` says why, or `most` is reached). Tokens returned before are now
   * accepted.
   */
  async next(): Promise<Token | null> {
    this.#accepted = this.#taken;
    for (;;) {
      const token = this.#ready.shift();
      if (token) {
        this.#taken++;
        this.onChange();
        return token;
      }
      if (this.#failure) throw this.#failure.error;
      if (this.#isOver) return null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  get ending(): Ending | null {
    return this.#ending;
  }

  /** Tokens that were followed by a request for another: part of the text for good. */
  get accepted(): number {
    return this.#accepted;
  }

  /** No more will be chosen. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** A step may produce another token. */
  get isWanted(): boolean {
    const { most } = this.#options;
    if (this.#isOver || this.#asked >= most) return false;
    const ahead = this.#asked - this.#taken - this.#extra;
    const isKnown = this.#asked === this.#chosen;
    if (this.#isByHost) return isKnown && ahead < HOST_AHEAD;
    return (isKnown || !this.#options.needsIds) && ahead < AHEAD;
  }

  /** Tokens that are requested and not chosen yet. */
  get awaited(): number {
    return this.#asked - this.#chosen;
  }

  /** The index of the random number for the next requested token. */
  get draw(): number {
    return (this.#options.draw ?? 0) + this.#asked;
  }

  /** Tokens that may still be requested. */
  get wanted(): number {
    return this.#options.most - this.#asked;
  }

  /** A step will give N more tokens, or fewer. Returns the options for the device; null: the host uses `choose`. */
  ask(count = 1): Sampling | null {
    const { draw } = this;
    this.#asked += count;
    return this.#isByHost ? null : this.#sample.sampling(draw);
  }

  /** Cancels requested tokens that are not chosen yet. extra: tokens beyond one that came at once. */
  settle(extra: number): void {
    this.#asked = this.#chosen;
    this.#extra = extra;
    this.onChange();
  }

  /** The device cannot exclude suppressed ids: if it has chosen one, the host chooses. */
  refuses(id: number): boolean {
    return this.#options.suppressed?.has(id, this.#isFirst) ?? false;
  }

  /** The token to be chosen is the answer's first. */
  get #isFirst(): boolean {
    return (this.#options.draw ?? 0) + this.#chosen === 0;
  }

  /** The device has chosen. */
  chose(id: number): void {
    this.#come({ id });
  }

  /**
   * The device could not choose, and for such texts this tends to recur: the host chooses from now on, and pending
   * requests are void.
   */
  byHost(): void {
    this.#isByHost = true;
    this.#asked = this.#chosen;
  }

  /**
   * The host chooses after each row, as long as the next row is that of the chosen token. Resolves when the rows are no
   * longer needed; `chose` and `done` are called before or after that, or never.
   */
  async choose({ rows, guess, ids, chose, done }: Checked): Promise<void> {
    const { logprobs, suppressed = null, draw = 0 } = this.#options;
    const drawn = (logits: Float32Array) => this.#sample.next(logits, ids, draw + this.#chosen);
    const come = (id: number, given: Float32Array) => {
      this.#come(logprobs === undefined ? { id } : { id, likelihood: likelihood(given, id, logprobs) });
      chose(id);
      return id;
    };
    /**
     * A suppressed id is replaced by one drawn from the others, with another random number, so that the others keep
     * their proportions.
     */
    const again = (all: Float32Array, mask: Int32Array | null) => {
      const { logits } = within(all, suppressed!.within(mask, this.#isFirst));
      return this.#sample.next(logits, ids, draw + this.#chosen + AGAIN);
    };
    let at = 0;
    for (; at < rows.length && this.#allowed; at++) {
      const { mask } = this.#allowed;
      const found = await this.#logits(rows[at], ids, mask);
      if (!found) return;
      const first = drawn(found.logits);
      const id = come(this.refuses(first) ? again(await rows[at].all(), mask) : first, found.given);
      if (id !== guess[at] || this.#isOver) return done();
    }
    if (at === rows.length) return done();
    const given: Float32Array[] = [];
    for (const row of rows.slice(at)) given.push(await row.all());
    this.#asking = this.#asking.then(async () => {
      for (const logits of given) {
        if (this.#isOver || this.#failure || !this.#allowed || this.#areWrong(logits, ids)) return;
        const { mask } = this.#allowed;
        const first = drawn(within(logits, mask).logits);
        const id = come(this.refuses(first) ? again(logits, mask) : first, logits);
        if (id !== guess[at++]) break;
        await this.#asking;
      }
      done();
      this.onChange();
    });
  }

  end(ending: Ending | null = null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#ending = ending;
    this.#wake();
    this.onChange();
  }

  fail(error: unknown): void {
    // What was chosen before may still be taken.
    this.#failure ??= { error };
    this.#wake();
    this.onChange();
  }

  #come(token: Token): void {
    const { most, isEnd, constraint } = this.#options;
    const isLast = ++this.#chosen >= most || isEnd?.(token.id) === true;
    this.#ready.push(token);
    if (isLast) this.#isOver = true;
    if (constraint) this.#asking = this.#ask(token.id);
    this.#wake();
  }

  /** Passes the new token to the constraint, and asks what may come next. */
  async #ask(id: number | null): Promise<void> {
    const { constraint } = this.#options;
    if (!constraint) return;
    this.#allowed = null;
    try {
      if (id !== null) await constraint.accept(id);
      if (this.#isOver) return;
      const mask = await constraint.allowed();
      if (mask?.every((word) => word === 0)) this.end("complete");
      this.#allowed = { mask };
    } catch (error) {
      this.fail(error);
    }
  }

  /** With a NaN among them no token is the most likely: the text ends with the error that says so. */
  #areWrong(given: Float32Array, ids: readonly number[]): boolean {
    const wrong = wrongLogits(given, ids.length - 1);
    if (wrong) this.fail(wrong);
    return wrong !== null;
  }

  /** The given logits, and those left to choose from; null: they are not finite. */
  async #logits(row: RowLogits, ids: readonly number[], allowed: Int32Array | null): Promise<Logits | null> {
    const enough = this.#options.logprobs === undefined ? this.#sample.enough(ids.length) : null;
    if (enough !== null) {
      const few = await row.largest(allowed ? Math.max(enough, FEW) : enough);
      if (few && this.#areWrong(few, ids)) return null;
      // If enough of the largest are allowed, they are the largest allowed ones.
      if (few && (!allowed || keep(few, allowed) >= enough)) return { given: few, logits: few };
    }
    const all = await row.all();
    return this.#areWrong(all, ids) ? null : within(all, allowed);
  }

  get failure(): { readonly error: unknown } | null {
    return this.#failure;
  }
}

/** The given logits, and those left to choose from. */
interface Logits {
  readonly given: Float32Array;
  readonly logits: Float32Array;
}

const ANY = { mask: null };

/** Beyond the random numbers of any text. */
const AGAIN = 2 ** 30;

function within(given: Float32Array, allowed: Int32Array | null): Logits {
  const logits = given.slice();
  // The sampler must choose an allowed token even if the model rules all of them out.
  if (allowed && keep(logits, allowed) === 0) keep(logits.fill(0), allowed);
  return { given, logits };
}

/** Among this many of the largest logits some are nearly always allowed. */
const FEW = 64;

/** Masks what is not allowed, and returns how many logits above -Infinity are left. */
function keep(logits: Float32Array, allowed: Int32Array): number {
  let left = 0;
  for (let id = 0; id < logits.length; id++) {
    if (((allowed[id >> 5] >> (id & 31)) & 1) === 0) logits[id] = Number.NEGATIVE_INFINITY;
    else if (logits[id] > Number.NEGATIVE_INFINITY) left++;
  }
  return left;
}
