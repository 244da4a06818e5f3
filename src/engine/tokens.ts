/**
 * Where a generation's next token comes from: a device that samples and runs ahead by itself, or this host, from as few
 * logits as the options need. Both give the same ids for the same seed. Refuses to know text and stop conditions.
 */
import { type Likelihood, likelihood } from "./likelihood.ts";
import type { Sampler } from "./sample.ts";
import type { Session } from "./session.ts";

/** What may come next as a text grows: a grammar. It has a state, so it serves one generation. */
export interface Constraint {
  /**
   * Which tokens may come next: bit id % 32 of word id / 32, [vocab / 32 words, rounded up]; null: any. No bit at all:
   * the text is complete, and the generation ends.
   */
  allowed(): Int32Array | null | Promise<Int32Array | null>;
  /** This token came. */
  accept(id: number): void | Promise<void>;
}

export interface TokensOptions {
  /** Tokens that come at most. */
  most: number;
  /** How many of the likeliest to tell beside each token; undefined: no likelihoods. */
  logprobs?: number;
  constraint?: Constraint;
  /** Ends the waiting for the device. */
  signal?: AbortSignal;
}

export interface Token {
  readonly id: number;
  readonly likelihood?: Likelihood;
}

export class Tokens {
  readonly #session: Session;
  readonly #sample: Sampler;
  readonly #options: TokensOptions;
  /** Tokens that may still come. */
  #left: number;
  /** The host samples: the device cannot, or only ids would come back from it. */
  #isByHost: boolean;

  /** After `session`'s timeline. */
  constructor(session: Session, sample: Sampler, options: TokensOptions) {
    this.#session = session;
    this.#sample = sample;
    this.#options = options;
    this.#left = options.most;
    this.#isByHost = options.logprobs !== undefined || options.constraint !== undefined;
  }

  /**
   * The token after the timeline; null: the constraint allows none, the text is complete. While it is looked at, other
   * sessions may have the device.
   */
  async next(): Promise<Token | null> {
    const session = this.#session;
    const { signal } = this.#options;
    try {
      await session.hold(signal);
      const id = await this.#chosen();
      this.#left--;
      if (id !== null) return { id };
      await session.hold(signal);
      return await this.#choose();
    } finally {
      session.rest();
    }
  }

  /** The token that came last becomes part of the timeline. */
  accept(id: number): Promise<void> {
    return this.#session.push(id, this.#options.signal);
  }

  /** No more are wanted. Does not wait for what a device has under way. */
  end(): void {
    this.#session.stopAhead();
    this.#session.rest();
  }

  /** What the device chooses; null: the host has to. */
  async #chosen(): Promise<number | null> {
    const session = this.#session;
    const { sampling } = this.#sample;
    if (this.#isByHost || !sampling) return null;
    // Among several, steps ahead would mostly be stopped and thrown away.
    const isAlone = session.share.turns.users < 2;
    const ahead = session.ahead ?? session.runAhead(sampling, isAlone ? this.#left : 1);
    const id = ahead && (await ahead.next());
    if (id === null || !isAlone) session.stopAhead();
    if (id !== null) this.#sample.skip();
    // The options may keep more words than the device sorts, and such texts tend to do it again.
    else this.#isByHost = true;
    return id;
  }

  async #choose(): Promise<Token | null> {
    const { logprobs, constraint } = this.#options;
    const session = this.#session;
    if (logprobs === undefined && !constraint)
      return { id: this.#sample.next(await this.#logits(), session.ids) };
    const given = await session.logits();
    // A grammar takes its time.
    session.rest();
    const allowed = constraint ? await constraint.allowed() : null;
    const logits = given.slice();
    if (allowed && !exclude(logits, allowed)) return null;
    const id = this.#sample.next(logits, session.ids);
    await constraint?.accept(id);
    return logprobs === undefined ? { id } : { id, likelihood: likelihood(given, id, logprobs) };
  }

  /** [vocab], -Infinity where a logit does not matter: a device may be spared to give them all. */
  async #logits(): Promise<Float32Array> {
    const session = this.#session;
    const enough = this.#sample.enough(session.ids.length);
    const candidates = enough === null ? null : await session.allocation.candidates?.(enough);
    if (!candidates) return session.logits();
    const logits = new Float32Array(session.vocab).fill(Number.NEGATIVE_INFINITY);
    candidates.ids.forEach((id, i) => {
      logits[id] = candidates.logits[i];
    });
    return logits;
  }
}

/** Takes away what is not allowed; false when nothing is left. A logit of -Infinity that is allowed becomes finite. */
function exclude(logits: Float32Array, allowed: Int32Array): boolean {
  let isAny = false;
  for (let id = 0; id < logits.length; id++) {
    if ((allowed[id >> 5] >> (id & 31)) & 1) {
      isAny = true;
      // Of words that the model rules out the sampler still has to take an allowed one.
      if (!(logits[id] > LEAST)) logits[id] = LEAST;
    } else logits[id] = Number.NEGATIVE_INFINITY;
  }
  return isAny;
}

const LEAST = -1e30;
