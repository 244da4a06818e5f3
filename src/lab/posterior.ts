/**
 * The posterior of specs that are not yet measured: log KL as a sum of effects, one of each factor's value and one of each pair
 * of values, with Gaussian priors. Its coefficients are the lab's table of findings; the model is a factor too, so the results of
 * one model are the prior of the next.
 * One idea: with equal priors the covariance of two specs counts the factors, and pairs of factors, in which they agree. So
 * coefficients are never written out: n measurements are one n x n system (Bayesian linear regression in its dual
 * form, as in Rasmussen and Williams 2006, 2.1), and a draw of the posterior is a draw of the prior, corrected by the
 * data (Matheron's rule).
 */
import { cumulative } from "./methods/grid.ts";
import { gaussians } from "./methods/random.ts";

/** A value of each factor, in one order. */
export type Levels = readonly string[];

export interface Seen {
  readonly levels: Levels;
  readonly log: number;
  /** Its standard error. */
  readonly error: number;
}

/** Variances of the priors, in log KL: between methods a factor of ten is common, beyond their sum a factor of two. */
export const PRIORS = { base: 4, main: 1, pair: 0.15 };

export class Posterior {
  readonly #seen: readonly Seen[];
  readonly #mean: number;
  /** Lower triangle L of the data's covariance, by rows. */
  readonly #root: Float64Array[];
  readonly #weights: Float64Array;

  constructor(seen: readonly Seen[]) {
    this.#seen = seen;
    this.#mean =
      seen.length === 0 ? Math.log(0.05) : seen.reduce((sum, { log }) => sum + log, 0) / seen.length;
    this.#root = cholesky(
      seen.map((a, i) =>
        Float64Array.from(
          seen.slice(0, i + 1),
          (b, j) => this.#covariance(a.levels, b.levels) + (i === j ? a.error ** 2 + 1e-6 : 0),
        ),
      ),
    );
    this.#weights = this.#solve(Float64Array.from(seen, ({ log }) => log - this.#mean));
  }

  predict(levels: Levels): { log: number; error: number } {
    const k = Float64Array.from(this.#seen, (one) => this.#covariance(one.levels, levels));
    const half = forward(this.#root, k);
    const variance = this.#covariance(levels, levels) - dot(half, half);
    return { log: this.#mean + dot(k, this.#weights), error: Math.sqrt(Math.max(0, variance)) };
  }

  /** One draw of the posterior, as a function of specs: what Thompson sampling minimises. */
  draw(seed: number): (levels: Levels) => number {
    const prior = this.#priorDraw(seed);
    const next = gaussians(seed * 31 + 7);
    const off = Float64Array.from(
      this.#seen,
      ({ levels, log, error }) => log - this.#mean - prior(levels) - error * next(),
    );
    const weights = this.#solve(off);
    return (levels) => {
      let sum = this.#mean + prior(levels);
      this.#seen.forEach((one, i) => {
        sum += this.#covariance(one.levels, levels) * weights[i];
      });
      return sum;
    };
  }

  /** The effect of a factor's value, given the others, in log KL, with its standard error. */
  effect(factor: number, value: string): { log: number; error: number } {
    return this.#coefficient(PRIORS.main, (levels) => levels[factor] === value);
  }

  /** The interaction of two values: their effect beyond the sum of each. */
  pair(one: readonly [number, string], other: readonly [number, string]): { log: number; error: number } {
    const has = (levels: Levels) => levels[one[0]] === one[1] && levels[other[0]] === other[1];
    return this.#coefficient(PRIORS.pair, has);
  }

  #coefficient(prior: number, has: (levels: Levels) => boolean) {
    const k = Float64Array.from(this.#seen, ({ levels }) => (has(levels) ? prior : 0));
    const half = forward(this.#root, k);
    return { log: dot(k, this.#weights), error: Math.sqrt(Math.max(0, prior - dot(half, half))) };
  }

  #covariance(a: Levels, b: Levels): number {
    let same = 0;
    for (let i = 0; i < a.length; i++) if (a[i] === b[i]) same++;
    const { base, main, pair } = PRIORS;
    return base + main * same + (pair * same * (same - 1)) / 2;
  }

  /** A draw of the prior: a Gaussian number for each coefficient, made when it is first needed. */
  #priorDraw(seed: number): (levels: Levels) => number {
    const next = gaussians(seed);
    const known = new Map<string, number>();
    const of = (key: string, variance: number) => {
      let found = known.get(key);
      if (found === undefined) {
        found = Math.sqrt(variance) * next();
        known.set(key, found);
      }
      return found;
    };
    const { base, main, pair } = PRIORS;
    return (levels) => {
      let sum = of("", base);
      for (let i = 0; i < levels.length; i++) {
        sum += of(`${i} ${levels[i]}`, main);
        for (let j = 0; j < i; j++) sum += of(`${i} ${levels[i]} ${j} ${levels[j]}`, pair);
      }
      return sum;
    };
  }

  #solve(right: Float64Array): Float64Array {
    return backward(this.#root, forward(this.#root, right));
  }
}

/** The expected improvement of a spec on `best`: 0 where it is certainly worse. */
export function expectedImprovement({ log, error }: { log: number; error: number }, best: number): number {
  if (error === 0) return Math.max(0, best - log);
  const z = (best - log) / error;
  const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  return (best - log) * cumulative(z) + error * density;
}

function cholesky(rows: Float64Array[]): Float64Array[] {
  rows.forEach((row, i) => {
    for (let j = 0; j <= i; j++) {
      let sum = row[j];
      for (let k = 0; k < j; k++) sum -= row[k] * rows[j][k];
      row[j] = i === j ? Math.sqrt(sum) : sum / rows[j][j];
    }
  });
  return rows;
}

function forward(root: readonly Float64Array[], right: Float64Array): Float64Array {
  const x = Float64Array.from(right);
  root.forEach((row, i) => {
    for (let k = 0; k < i; k++) x[i] -= row[k] * x[k];
    x[i] /= row[i];
  });
  return x;
}

function backward(root: readonly Float64Array[], right: Float64Array): Float64Array {
  const x = Float64Array.from(right);
  for (let i = root.length - 1; i >= 0; i--) {
    x[i] /= root[i][i];
    for (let k = 0; k < i; k++) x[k] -= root[i][k] * x[i];
  }
  return x;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
