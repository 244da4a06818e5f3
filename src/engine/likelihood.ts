/**
 * Likelihoods of tokens: natural logarithms of probabilities over the whole vocabulary, from the model's logits before
 * temperature, penalties and constraints.
 */
export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number;
}

/** The likelihood of a token, and the most likely alternatives. */
export interface Likelihood extends TokenLogprob {
  /** The likeliest tokens, most likely first. */
  readonly top: readonly TokenLogprob[];
}

/** The maximum for `logprobs`. */
export const MOST_LOGPROBS = 100;

/** logits: [vocab], from the model; count: of `top`. Finite, or -Infinity (finite.ts). */
export function likelihood(logits: Float32Array, id: number, count: number): Likelihood {
  let largest = Number.NEGATIVE_INFINITY;
  for (const logit of logits) if (logit > largest) largest = logit;
  let total = 0;
  for (const logit of logits) if (logit > Number.NEGATIVE_INFINITY) total += Math.exp(logit - largest);
  const shift = largest + Math.log(total);
  const logprob = (of: number) =>
    logits[of] > Number.NEGATIVE_INFINITY ? logits[of] - shift : Number.NEGATIVE_INFINITY;
  return {
    id,
    logprob: logprob(id),
    top: largestIds(logits, count).map((of) => ({ id: of, logprob: logprob(of) })),
  };
}

/** Ids of the `count` largest logits, largest first; ties: lowest id first. */
function largestIds(logits: Float32Array, count: number): number[] {
  const kept: number[] = [];
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id];
    if (!(logit > (kept.length === count ? logits[kept[count - 1]] : Number.NEGATIVE_INFINITY))) continue;
    let at = kept.length;
    while (at > 0 && logits[kept[at - 1]] < logit) at--;
    kept.splice(at, 0, id);
    if (kept.length > count) kept.pop();
  }
  return kept;
}
