/**
 * Where a generation's next token comes from: a device that samples and runs ahead by itself, or this host, from as few
 * logits as the options need. Both give the same ids for the same seed. Refuses to know text and stop conditions.
 */
import type { Continuation } from "../device/contract.ts";
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
}

export interface Token {
  readonly id: number;
  readonly likelihood?: Likelihood;
}

export class Tokens {
  readonly #session: Session;
  readonly #sample: Sampler;
  readonly #options: TokensOptions;
  /** undefined: not asked yet; null: the host samples. */
  #ahead: Pick<Continuation, "next"> | null | undefined;

  /** After `session`'s timeline. */
  constructor(session: Session, sample: Sampler, options: TokensOptions) {
    this.#session = session;
    this.#sample = sample;
    this.#options = options;
    // A device chooses by itself, and only ids come back.
    if (options.logprobs !== undefined || options.constraint) this.#ahead = null;
  }

  /** The token after the timeline; null: the constraint allows none, the text is complete. */
  async next(): Promise<Token | null> {
    const session = this.#session;
    const sample = this.#sample;
    if (this.#ahead === undefined)
      this.#ahead = sample.sampling && session.runAhead(sample.sampling, this.#options.most);
    if (this.#ahead) {
      const id = await this.#ahead.next();
      if (id !== null) {
        sample.skip();
        return { id };
      }
      // These options may keep more words than the device sorts, and such texts tend to do it again.
      this.end();
      await session.process([...session.ids]);
    }
    return this.#choose();
  }

  /** The token that came last becomes part of the timeline. */
  accept(id: number): Promise<void> {
    return this.#session.push(id);
  }

  /** No more are wanted. Does not wait for what a device has under way. */
  end(): void {
    this.#ahead = null;
    this.#session.stopAhead();
  }

  async #choose(): Promise<Token | null> {
    const { logprobs, constraint } = this.#options;
    const { ids } = this.#session;
    if (logprobs === undefined && !constraint) return { id: this.#sample.next(await this.#logits(), ids) };
    const given = await this.#session.logits();
    const allowed = constraint ? await constraint.allowed() : null;
    const logits = given.slice();
    if (allowed && !exclude(logits, allowed)) return null;
    const id = this.#sample.next(logits, ids);
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
