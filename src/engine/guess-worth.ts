/**
 * How many guessed tokens of a text a step should check: their expected gain against the cost of their rows, both in
 * tokens. Pure. Guesses never change a text: each row's token is chosen as without them, with the same random number,
 * and the row after it counts only if that token is the guessed one. So a guessed token is accepted with its own
 * probability, and a rejected one is replaced by one of the others: rejection sampling (arXiv 2211.17192) for guesses
 * that are certain, and the same seed gives the same text.
 */

/**
 * Numbers of guesses that are tried: few, so that their costs are soon known. With the row before them they make whole
 * tiles of 4.
 */
const COUNTS = [1, 3, 5, 7, 11, 15];

/** A smaller gain is not worth a row: chances and costs are estimates. */
const LEAST_GAIN = 0.1;

export interface Worth {
  /** 0: none is worth it. */
  readonly count: number;
  /** Tokens gained, minus those that the same time would have produced otherwise. */
  readonly gain: number;
}

/**
 * chances: for each guess the chance to be right if those before it are. awaited: the first N are already running and
 * need no check. cost: of N more rows, in tokens that the step would produce in the same time.
 */
export function worthChecking(
  chances: readonly number[],
  awaited: number,
  cost: (rows: number) => number,
): Worth {
  let best: Worth = { count: 0, gain: 0 };
  let reached = 1;
  let expected = 0;
  chances.forEach((chance, i) => {
    reached *= chance;
    const count = i + 1 - awaited;
    if (count <= 0) return;
    expected += reached;
    if (!COUNTS.includes(count) && i + 1 < chances.length) return;
    const gain = expected - cost(count);
    if (gain > Math.max(best.gain, LEAST_GAIN)) best = { count, gain };
  });
  return best;
}
