/**
 * The distance between next-token distributions, and statistics of many such distances. Pure arithmetic in float64:
 * logits are float32, and neither their size nor a constant added to all of them matters.
 */
import { uniformNumber } from "../../device/uniform.ts";
import { wrongLogits } from "../../engine/finite.ts";
import { ArgumentError } from "../../format/errors.ts";

/** Logits [vocab] and their normalization: the probability of id is exp(logits[id] - logSum). */
export interface Distribution {
  readonly logits: Float32Array;
  /** Log of the sum of their exponentials. */
  readonly logSum: number;
  /** The id of the largest; ties: the lowest. */
  readonly top: number;
}

/** Throws LogitsError if a logit is not finite: then no distance is meaningful. position: for the error. */
export function distribution(logits: Float32Array, position: number): Distribution {
  const wrong = wrongLogits(logits, position);
  if (wrong) throw wrong;
  let top = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[top]) top = id;
  const largest = logits[top];
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += Math.exp(logits[id] - largest);
  return { logits, logSum: largest + Math.log(sum), top };
}

/** Kullback-Leibler divergence of `other` from `truth` in nats: the sum over ids of p (log p - log q). At least 0. */
export function divergence(truth: Distribution, other: Distribution): number {
  const p = truth.logits;
  const q = other.logits;
  if (p.length !== q.length)
    throw new ArgumentError("logits", q.length, `${p.length}, as many as the other has`);
  let sum = 0;
  for (let id = 0; id < p.length; id++) sum += Math.exp(p[id] - truth.logSum) * (p[id] - q[id]);
  // Rounding may leave -1e-16.
  return Math.max(0, sum - truth.logSum + other.logSum);
}

/** -log of the probability of `id`, in nats. */
export function surprise({ logits, logSum }: Distribution, id: number): number {
  return logSum - logits[id];
}

/** For one position. compared: with the truth, if there is one. */
export interface Measured {
  readonly surprise: number;
  readonly compared: { readonly divergence: number; readonly sameTop: boolean } | null;
}

/** The data of a Tally, for threads that measure positions for it. */
export function measured(found: Distribution, next: number, truth: Distribution | null): Measured {
  return {
    surprise: surprise(found, next),
    compared: truth && { divergence: divergence(truth, found), sameTop: truth.top === found.top },
  };
}

/** What is kept of every position. */
export class Tally {
  readonly #divergences: number[] = [];
  readonly #surprises: number[] = [];
  #same = 0;

  /** `next`: the id that follows in the text; `truth` null: this is the truth, with nothing to compare. */
  add(found: Distribution, next: number, truth: Distribution | null): void {
    this.addMeasured(measured(found, next, truth));
  }

  addMeasured({ surprise, compared }: Measured): void {
    this.#surprises.push(surprise);
    if (!compared) return;
    this.#divergences.push(compared.divergence);
    if (compared.sameTop) this.#same++;
  }

  /** Merges several tallies. */
  static all(parts: readonly Tally[]): Tally {
    const all = new Tally();
    for (const part of parts) {
      // One by one: an argument list has a limit.
      for (const value of part.#divergences) all.#divergences.push(value);
      for (const value of part.#surprises) all.#surprises.push(value);
      all.#same += part.#same;
    }
    return all;
  }

  get positions(): number {
    return this.#surprises.length;
  }

  get perplexity(): number {
    return Math.exp(mean(this.#surprises));
  }

  /** null: nothing was compared. */
  get divergence(): DivergenceSummary | null {
    const sorted = Float64Array.from(this.#divergences).sort();
    const count = sorted.length;
    if (count === 0) return null;
    const meanKl = mean(this.#divergences);
    const sameTop = this.#same / count;
    return {
      meanKl,
      meanKlError: errorOfMean(this.#divergences),
      meanKlInterval: intervalOfMean(this.#divergences),
      medianKl: quantile(sorted, 0.5),
      kl90: quantile(sorted, 0.9),
      kl99: quantile(sorted, 0.99),
      kl999: quantile(sorted, 0.999),
      maxKl: sorted[count - 1],
      sameTop,
      sameTopError: Math.sqrt((sameTop * (1 - sameTop)) / count),
    };
  }
}

/** KL in nats; errors are standard errors. */
export interface DivergenceSummary {
  readonly meanKl: number;
  /** By blocks of BLOCK positions, since neighbouring positions are similar. */
  readonly meanKlError: number;
  /** 95 %, from resampled blocks: KL is skewed, so the mean is not in the middle. */
  readonly meanKlInterval: readonly [low: number, high: number];
  readonly medianKl: number;
  readonly kl90: number;
  readonly kl99: number;
  readonly kl999: number;
  readonly maxKl: number;
  /** Share of positions whose most likely token is the same. */
  readonly sameTop: number;
  readonly sameTopError: number;
}

/** Losses of neighbouring positions are correlated, up to a distance of 4 (lab/LOG.md). */
const BLOCK = 16;
const RESAMPLES = 400;

/** Fewer blocks do not show their spread: then each position counts by itself. */
const LEAST_BLOCKS = 8;

/** Sums of blocks, and of how many values; the last one may have fewer. */
function blocksOf(values: readonly number[]): { sum: number; count: number }[] {
  const size = values.length >= LEAST_BLOCKS * BLOCK ? BLOCK : 1;
  return Array.from({ length: Math.ceil(values.length / size) }, (_, i) => {
    const own = values.slice(i * size, (i + 1) * size);
    return { sum: mean(own) * own.length, count: own.length };
  });
}

/** Standard error of the mean; NaN for one value. */
function errorOfMean(values: readonly number[]): number {
  const blocks = blocksOf(values);
  const all = mean(values);
  const deviations = blocks.map(({ sum, count }) => (sum - count * all) ** 2);
  const count = blocks.length;
  return count > 1 ? Math.sqrt(mean(deviations) * count * (count / (count - 1))) / values.length : Number.NaN;
}

/** The same values give the same interval. */
function intervalOfMean(values: readonly number[]): [number, number] {
  const blocks = blocksOf(values);
  const means = Float64Array.from({ length: RESAMPLES }, (_, sample) => {
    let sum = 0;
    let count = 0;
    for (let i = 0; i < blocks.length; i++) {
      const block = blocks[Math.floor(uniformNumber(sample, i) * blocks.length)];
      sum += block.sum;
      count += block.count;
    }
    return sum / count;
  }).sort();
  return [quantile(means, 0.025), quantile(means, 0.975)];
}

function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum / values.length;
}

/** A quantile of sorted values, interpolated between neighbours. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - below);
}
