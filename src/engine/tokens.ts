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

/** What may come next, which may still be in the making. */
interface Allowed {
  readonly mask: Promise<Int32Array | null>;
  isReady: boolean;
}

const ANY: Allowed = { mask: Promise.resolve(null), isReady: true };

export class Tokens {
  readonly #session: Session;
  readonly #sample: Sampler;
  readonly #options: TokensOptions;
  /** Tokens that may still come. */
  #left: number;
  /** The host samples: the device cannot, or only ids would come back from it. */
  #isByHost: boolean;
  #allowed: Allowed;

  /** After `session`'s timeline. */
  constructor(session: Session, sample: Sampler, options: TokensOptions) {
    this.#session = session;
    this.#sample = sample;
    this.#options = options;
    this.#left = options.most;
    this.#isByHost = options.logprobs !== undefined || options.constraint !== undefined;
    this.#allowed = this.#ask();
  }

  /**
   * The token after the timeline; null: the constraint allows none, the text is complete. While it is looked at, other
   * sessions may have the device.
   */
  async next(): Promise<Token | null> {
    const session = this.#session;
    const { signal } = this.#options;
    try {
      // Others need not wait for a constraint.
      if (!this.#allowed.isReady) session.rest();
      const allowed = await this.#allowed.mask;
      await session.hold(signal);
      const id = await this.#chosen();
      this.#left--;
      if (id !== null) return { id };
      await session.hold(signal);
      return await this.#choose(allowed);
    } finally {
      session.rest();
    }
  }

  /** The token that came last becomes part of the timeline. */
  async accept(id: number): Promise<void> {
    // A session alone finds what may come next while the device works. Among several the logits would be lost to it if
    // the step was over first.
    if (!this.#allowed.isReady && this.#session.share.turns.users > 1) await this.#allowed.mask;
    await this.#session.push(id, this.#options.signal);
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

  #ask(): Allowed {
    const { constraint } = this.#options;
    if (!constraint) return ANY;
    const allowed = { mask: (async () => constraint.allowed())(), isReady: false };
    const ready = () => {
      allowed.isReady = true;
    };
    // Who takes the next token hears of errors.
    allowed.mask.then(ready, ready);
    return allowed;
  }

  async #choose(allowed: Int32Array | null): Promise<Token | null> {
    const { logprobs, constraint } = this.#options;
    const { ids } = this.#session;
    if (!constraint && logprobs === undefined) {
      const enough = this.#sample.enough(ids.length);
      const few = enough === null ? null : await this.#largest(enough);
      return { id: this.#sample.next(few ?? (await this.#session.logits()), ids) };
    }
    const { given, logits } = await this.#within(allowed);
    if (logits === null) return null;
    const id = this.#sample.next(logits, ids);
    await constraint?.accept(id);
    this.#allowed = this.#ask();
    return logprobs === undefined ? { id } : { id, likelihood: likelihood(given, id, logprobs) };
  }

  /** Logits as they were given, and those that are left to choose from; null: nothing is allowed. */
  async #within(allowed: Int32Array | null): Promise<{ given: Float32Array; logits: Float32Array | null }> {
    const enough = this.#sample.enough(this.#session.ids.length);
    if (allowed && this.#options.logprobs === undefined && enough !== null) {
      const few = await this.#largest(Math.max(enough, FEW));
      // Enough allowed ones among the largest are the largest allowed ones.
      if (few && keep(few, allowed) >= enough) return { given: few, logits: few };
    }
    const given = await this.#session.logits();
    const logits = given.slice();
    if (!allowed || keep(logits, allowed) > 0) return { given, logits };
    // The sampler has to take an allowed one also where the model rules all of them out.
    const isAny = keep(logits.fill(0), allowed) > 0;
    return { given, logits: isAny ? logits : null };
  }

  /** The `count` largest logits [vocab], -Infinity for the others: a device is spared to give all. null: it is not. */
  async #largest(count: number): Promise<Float32Array | null> {
    const { allocation, vocab } = this.#session;
    const candidates = await allocation.candidates?.(count);
    if (!candidates) return null;
    const logits = new Float32Array(vocab).fill(Number.NEGATIVE_INFINITY);
    candidates.ids.forEach((id, i) => {
      logits[id] = candidates.logits[i];
    });
    return logits;
  }
}

/** Of so many of the largest logits some are allowed nearly always. */
const FEW = 64;

/** Takes away what is not allowed, and tells how many logits above -Infinity are left. */
function keep(logits: Float32Array, allowed: Int32Array): number {
  let left = 0;
  for (let id = 0; id < logits.length; id++) {
    if (((allowed[id >> 5] >> (id & 31)) & 1) === 0) logits[id] = Number.NEGATIVE_INFINITY;
    else if (logits[id] > Number.NEGATIVE_INFINITY) left++;
  }
  return left;
}
