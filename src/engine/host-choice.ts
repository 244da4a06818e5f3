/**
 * Chooses a token on this host, from as few logits of a row as the options need: one that the constraint's mask allows,
 * and none that is suppressed.
 */
import type { LogitsError } from "../format/errors.ts";
import type { Suppressed } from "./default-sampling.ts";
import { wrongLogits } from "./finite.ts";
import { type Likelihood, likelihood } from "./likelihood.ts";
import type { RowLogits } from "./row-logits.ts";
import type { Sampler } from "./sample.ts";

export interface Token {
  readonly id: number;
  readonly likelihood?: Likelihood;
}

export interface HostChoiceOptions {
  /** Return the N most likely alternatives with each token; undefined: no likelihoods. */
  logprobs?: number;
  /** Ids that never come. */
  suppressed?: Suppressed | null;
  /** The index of the seed's random number for the first token. Default 0. */
  draw?: number;
}

/** Which tokens may come next (Constraint.allowed); null: any. */
export type Mask = Int32Array | null;

/** The logits that were read, and those left to choose from. */
export interface Logits {
  readonly given: Float32Array;
  readonly left: Float32Array;
}

/** Above the indices of all random numbers of a text. */
const AGAIN = 2 ** 30;

/** Among this many of the largest logits some are nearly always allowed. */
const FEW = 64;

export class HostChoice {
  readonly #sample: Sampler;
  readonly #options: HostChoiceOptions;

  constructor(sample: Sampler, options: HostChoiceOptions) {
    this.#sample = sample;
    this.#options = options;
  }

  /** Reads as many of a row's logits as are needed. ids: the text so far. */
  async read(row: RowLogits, ids: readonly number[], mask: Mask): Promise<Logits | LogitsError> {
    const enough = this.#options.logprobs === undefined ? this.#sample.enough(ids.length) : null;
    if (enough !== null) {
      const few = await row.largest(mask ? Math.max(enough, FEW) : enough);
      const wrong = few && wrongLogits(few, ids.length - 1);
      if (wrong) return wrong;
      // If enough of the largest are allowed, they are the largest allowed ones.
      if (few && (!mask || keep(few, mask) >= enough)) return { given: few, left: few };
    }
    return this.of(await row.all(), ids, mask);
  }

  /** The same with all logits of a row, already read. */
  of(all: Float32Array, ids: readonly number[], mask: Mask): Logits | LogitsError {
    return wrongLogits(all, ids.length - 1) ?? { given: all, left: within(all, mask) };
  }

  /** Draws a token. chosen: tokens chosen before. null: a suppressed one was drawn; `instead` draws another. */
  token({ given, left }: Logits, ids: readonly number[], chosen: number): Token | null {
    const id = this.#sample.next(left, ids, this.#draw(chosen));
    return this.isSuppressed(id, chosen) ? null : this.#token(id, given);
  }

  /**
   * A token instead of a suppressed one: drawn from the others with another random number, so that they keep their
   * proportions. all: the row's logits.
   */
  instead(all: Float32Array, { given }: Logits, ids: readonly number[], chosen: number, mask: Mask): Token {
    const left = within(all, this.#options.suppressed!.within(mask, this.#draw(chosen) === 0));
    return this.#token(this.#sample.next(left, ids, this.#draw(chosen) + AGAIN), given);
  }

  isSuppressed(id: number, chosen: number): boolean {
    // Some ids are suppressed only as an answer's first.
    return this.#options.suppressed?.has(id, this.#draw(chosen) === 0) ?? false;
  }

  #draw(chosen: number): number {
    return (this.#options.draw ?? 0) + chosen;
  }

  #token(id: number, given: Float32Array): Token {
    const { logprobs } = this.#options;
    return logprobs === undefined ? { id } : { id, likelihood: likelihood(given, id, logprobs) };
  }
}

function within(given: Float32Array, mask: Mask): Float32Array {
  const left = given.slice();
  // The sampler must choose an allowed token even if the model rules all of them out.
  if (mask && keep(left, mask) === 0) keep(left.fill(0), mask);
  return left;
}

/** Sets what is not allowed to -Infinity, and returns how many logits above -Infinity are left. */
function keep(logits: Float32Array, mask: Int32Array): number {
  let left = 0;
  for (let id = 0; id < logits.length; id++) {
    if (((mask[id >> 5] >> (id & 31)) & 1) === 0) logits[id] = Number.NEGATIVE_INFINITY;
    else if (logits[id] > Number.NEGATIVE_INFINITY) left++;
  }
  return left;
}
