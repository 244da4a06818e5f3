/**
 * A generation's tokens, from being requested to being taken. They are chosen by the device, so that steps need not wait
 * for ids, or by this host (host-choice.ts); both choose the same ids for the same seed. A constraint is computed while the
 * device works; if it is not done when the logits arrive, they are copied and the device continues with other texts.
 *
 * Four counts of the same tokens: `asked` >= `chosen` >= `taken` >= `accepted`.
 */
import type { Sampling } from "../device/contract.ts";
import { LogitsError } from "../format/errors.ts";
import { HostChoice, type HostChoiceOptions, type Mask, type Token } from "./host-choice.ts";
import type { RowLogits } from "./row-logits.ts";
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

export interface TokensOptions extends HostChoiceOptions {
  /** Maximum number of tokens. */
  most: number;
  /** No token comes after such an id. */
  isEnd?: (id: number) => boolean;
  constraint?: Constraint;
  /** Only the row after a known token may be requested. Default false. */
  needsIds?: boolean;
}

/** Why there are no more tokens. complete: the constraint allows none; cache: running texts fill the cache. */
export type Ending = "complete" | "cache";

/** Tokens that a device may choose before the first of them is taken. */
const AHEAD = 8;
/** The same for the host: one that the caller looks at, and one whose step runs meanwhile. */
const HOST_AHEAD = 2;
/** No constraint. */
const ANY = { mask: null };

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
  readonly #choice: HostChoice;
  /** The host chooses: the device cannot, or more than ids is needed. */
  #isByHost: boolean;
  /** Chosen and not taken. */
  readonly #ready: Token[] = [];
  /** Requested from steps. */
  #asked = 0;
  #chosen = 0;
  /** Returned by `next`. */
  #taken = 0;
  /** Taken, and followed by a request for another: part of the text for good. */
  #accepted = 0;
  /** Tokens beyond one that the last step gave. */
  #extra = 0;
  /** What may come next; null: the constraint is still computing. */
  #allowed: { readonly mask: Mask } | null = ANY;
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
    this.#choice = new HostChoice(sample, options);
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
    return this.#choice.isSuppressed(id, this.#chosen);
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
    const choice = this.#choice;
    const come = (token: Token) => {
      this.#come(token);
      chose(token.id);
      return token.id;
    };
    let at = 0;
    for (; at < rows.length && this.#allowed; at++) {
      const { mask } = this.#allowed;
      const found = await choice.read(rows[at], ids, mask);
      if (found instanceof LogitsError) return this.fail(found);
      let token = choice.token(found, ids, this.#chosen);
      token ??= choice.instead(await rows[at].all(), found, ids, this.#chosen, mask);
      if (come(token) !== guess[at] || this.#isOver) return done();
    }
    if (at === rows.length) return done();
    const copies: Float32Array[] = [];
    for (const row of rows.slice(at)) copies.push(await row.all());
    this.#asking = this.#asking.then(async () => {
      for (const all of copies) {
        if (this.#isOver || this.#failure || !this.#allowed) return;
        const { mask } = this.#allowed;
        const found = choice.of(all, ids, mask);
        if (found instanceof LogitsError) return this.fail(found);
        const token = choice.token(found, ids, this.#chosen);
        const id = come(token ?? choice.instead(all, found, ids, this.#chosen, mask));
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

  get failure(): { readonly error: unknown } | null {
    return this.#failure;
  }
}
