/**
 * Where a generation's next token comes from: a device that chooses by itself, so that steps need not wait for ids, or
 * this host, from as few logits as the options need. Both give the same ids for the same seed. Owns what is chosen and
 * not yet taken.
 * One idea: a constraint is computed while the device works. If it is not done when the logits are there, they are copied and the
 * device goes on with other texts.
 */
import type { Sampling } from "../device/contract.ts";
import type { Suppressed } from "./default-sampling.ts";
import { wrongLogits } from "./finite.ts";
import { type Likelihood, likelihood } from "./likelihood.ts";
import type { Sampler } from "./sample.ts";

/** What may come next as a text grows: a grammar. It has a state, so it serves one generation. */
export interface Constraint {
  /**
   * Which tokens may come next: bit id % 32 of word id / 32, [vocab / 32 words, rounded up]; null: any. No bit at all:
   * the text is complete, and the generation ends. Asked once at first and once after each token; while it is awaited
   * others have the device.
   */
  allowed(): Int32Array | null | Promise<Int32Array | null>;
  /** This token came. */
  accept(id: number): void | Promise<void>;
}

export interface TokensOptions {
  /** Tokens that come at most. */
  most: number;
  /** After it no token comes. */
  isEnd?: (id: number) => boolean;
  /** The N likeliest alternatives with each token; undefined: no likelihoods. */
  logprobs?: number;
  constraint?: Constraint;
  /** Ids that never come. */
  suppressed?: Suppressed | null;
  /** Which of the seed's random numbers the first token takes. Default 0. */
  draw?: number;
  /** Only the row after a token that is known may be asked for. Default false. */
  needsIds?: boolean;
}

export interface Token {
  readonly id: number;
  readonly likelihood?: Likelihood;
}

/** Why there are no more tokens. complete: the constraint allows none; cache: running texts fill the cache. */
export type Ending = "complete" | "cache";

/** The logits of one output row, as far as they are asked for. */
export interface RowLogits {
  all(): Promise<Float32Array>;
  /** The `count` largest logits [vocab], -Infinity for the others; null: only `all` has them. */
  largest(count: number): Promise<Float32Array | null>;
  /** What the output matrix multiplied: the labelled value of this name. */
  labelled?(name: string): Promise<Float32Array>;
}

/** Tokens that a device may have chosen, or is still to choose, before the first of them is taken. */
const AHEAD = 8;
/** Of those that the host chooses: one that is looked at, and one whose step runs meanwhile. */
const HOST_AHEAD = 2;

/** What a step gave for a text, and the guesses that its rows after the first were computed for. */
export interface Checked {
  readonly rows: readonly RowLogits[];
  readonly guess: readonly number[];
  /** The text so far; it grows by what is chosen. */
  readonly ids: readonly number[];
  chose(id: number): void;
  /** No more will be chosen of these rows. */
  done(): void;
}

export class Tokens {
  readonly #sample: Sampler;
  readonly #options: TokensOptions;
  /** The host chooses: the device cannot, or only ids would come back from it. */
  #isByHost: boolean;
  /** Chosen and not taken. */
  readonly #ready: Token[] = [];
  #asked = 0;
  #chosen = 0;
  #taken = 0;
  #accepted = 0;
  /** That the last step gave beyond one. */
  #extra = 0;
  /** What may come next; null: the constraint is still thinking. */
  #allowed: { readonly mask: Int32Array | null } | null = ANY;
  /** Resolves when it is known, or never will be. */
  #asking: Promise<void> = Promise.resolve();
  #isOver = false;
  #ending: Ending | null = null;
  #failure: { error: unknown } | null = null;
  #wake = () => {};
  /** Called when another step may have become possible, or none is wanted any more. */
  onChange = () => {};

  /** canChoose: whether the device does, with such options. */
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

  /** The next token; null: none comes, `ending` says why, or all of `most` have come. What came before is accepted. */
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

  /** Tokens after which another was asked for: part of the text for good. */
  get accepted(): number {
    return this.#accepted;
  }

  /** None will be chosen any more. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** A step may give another token. */
  get isWanted(): boolean {
    const { most } = this.#options;
    if (this.#isOver || this.#asked >= most) return false;
    const ahead = this.#asked - this.#taken - this.#extra;
    const isKnown = this.#asked === this.#chosen;
    if (this.#isByHost) return isKnown && ahead < HOST_AHEAD;
    return (isKnown || !this.#options.needsIds) && ahead < AHEAD;
  }

  /** Tokens that are asked for and have not come. */
  get awaited(): number {
    return this.#asked - this.#chosen;
  }

  /** Which random number the next token takes that is asked for. */
  get draw(): number {
    return (this.#options.draw ?? 0) + this.#asked;
  }

  /** Tokens that may still be asked for. */
  get wanted(): number {
    return this.#options.most - this.#asked;
  }

  /** A step will give N more tokens, or fewer. The device chooses them with these options; null: `choose` does. */
  ask(count = 1): Sampling | null {
    const { draw } = this;
    this.#asked += count;
    return this.#isByHost ? null : this.#sample.sampling(draw);
  }

  /** What was asked for and has not come will not come. extra: tokens that came at once beyond one. */
  settle(extra: number): void {
    this.#asked = this.#chosen;
    this.#extra = extra;
    this.onChange();
  }

  /** The device cannot leave out what must not come: where it has chosen such an id, the host chooses. */
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

  /** It could not, and such texts tend to do it again: what was asked for since is void. */
  byHost(): void {
    this.#isByHost = true;
    this.#asked = this.#chosen;
  }

  /**
   * The host chooses after each row, as long as the next row is that of the token it has chosen. Resolves when the rows are
   * needed no more; `chose` and `done` are called until then or later, or never.
   */
  async choose({ rows, guess, ids, chose, done }: Checked): Promise<void> {
    const { logprobs, suppressed = null, draw = 0 } = this.#options;
    const drawn = (logits: Float32Array) => this.#sample.next(logits, ids, draw + this.#chosen);
    const come = (id: number, given: Float32Array) => {
      this.#come(logprobs === undefined ? { id } : { id, likelihood: likelihood(given, id, logprobs) });
      chose(id);
      return id;
    };
    /** What must not come is drawn again from the others, by another random number: so the others keep their proportions. */
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

  /** Gives the constraint what came, and asks what may come next. */
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

  /** With a NaN among them no token is the likeliest: the text ends with the error that says so. */
  #areWrong(given: Float32Array, ids: readonly number[]): boolean {
    const wrong = wrongLogits(given, ids.length - 1);
    if (wrong) this.fail(wrong);
    return wrong !== null;
  }

  /** Logits as they were given, and those that are left to choose from; null: they are wrong. */
  async #logits(row: RowLogits, ids: readonly number[], allowed: Int32Array | null): Promise<Logits | null> {
    const enough = this.#options.logprobs === undefined ? this.#sample.enough(ids.length) : null;
    if (enough !== null) {
      const few = await row.largest(allowed ? Math.max(enough, FEW) : enough);
      if (few && this.#areWrong(few, ids)) return null;
      // Enough allowed ones among the largest are the largest allowed ones.
      if (few && (!allowed || keep(few, allowed) >= enough)) return { given: few, logits: few };
    }
    const all = await row.all();
    return this.#areWrong(all, ids) ? null : within(all, allowed);
  }

  get failure(): { readonly error: unknown } | null {
    return this.#failure;
  }
}

/** Logits as they were given, and those that are left to choose from. */
interface Logits {
  readonly given: Float32Array;
  readonly logits: Float32Array;
}

const ANY = { mask: null };

/** Beyond the draws of any text. */
const AGAIN = 2 ** 30;

function within(given: Float32Array, allowed: Int32Array | null): Logits {
  const logits = given.slice();
  // The sampler has to take an allowed one also where the model rules all of them out.
  if (allowed && keep(logits, allowed) === 0) keep(logits.fill(0), allowed);
  return { given, logits };
}

/** Of this many of the largest logits some are allowed nearly always. */
const FEW = 64;

/** Takes away what is not allowed, and reports how many logits above -Infinity are left. */
function keep(logits: Float32Array, allowed: Int32Array): number {
  let left = 0;
  for (let id = 0; id < logits.length; id++) {
    if (((allowed[id >> 5] >> (id & 31)) & 1) === 0) logits[id] = Number.NEGATIVE_INFINITY;
    else if (logits[id] > Number.NEGATIVE_INFINITY) left++;
  }
  return left;
}
