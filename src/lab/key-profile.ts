/**
 * How keys lie over the channels of a head: their mean, and their spread by rotary pair. Gains that are equal on both channels
 * of a pair commute with RoPE, so a model could have them in the weights of its keys, and their inverses in those of its
 * queries; and a constant on all keys does not change a softmax. So a method may be shown keys with another model's profile while
 * the model computes what it did (a transplant). Pure.
 */
import type { KeyProfile } from "./types.ts";

/** Statistics of the keys of one head of a layer. */
export interface KeyStats {
  /** [headDim], after RoPE. */
  readonly mean: Float32Array;
  /** Standard deviation [headDim], the same in both channels of a rotary pair. */
  readonly spread: Float32Array;
  /** Rotary pairs: channels i and i + pairs are one. Without RoPE every channel is treated as if it were in one. */
  readonly pairs: number;
  /** The head's relative position among all of the model, 0 to 1. */
  readonly depth: number;
}

/** A channel that never changes has no spread to divide by. */
const LEAST_SPREAD = 1e-6;

/** keys [tokens, headDim] of one head. pairs: 0 without RoPE. */
export function keyStats(keys: Float32Array, headDim: number, pairs: number): Omit<KeyStats, "depth"> {
  const tokens = keys.length / headDim;
  const mean = new Float32Array(headDim);
  const variance = new Float64Array(headDim);
  for (let dim = 0; dim < headDim; dim++) {
    let sum = 0;
    for (let at = dim; at < keys.length; at += headDim) sum += keys[at];
    mean[dim] = sum / tokens;
    for (let at = dim; at < keys.length; at += headDim) variance[dim] += (keys[at] - mean[dim]) ** 2 / tokens;
  }
  const spread = Float32Array.from(variance, (own, dim) => {
    const other = dim < pairs ? dim + pairs : dim < 2 * pairs ? dim - pairs : dim;
    return Math.sqrt((own + variance[other]) / 2);
  });
  return { mean, spread, pairs: pairs || headDim / 2 };
}

/** Root mean square of a head's spread: the unit of a profile. */
const unitOf = ({ spread }: Pick<KeyStats, "spread">) => rms(spread) || 1;

/** The profile of the heads, in order. Channels without RoPE are left out. */
export function profileOf(heads: readonly KeyStats[]): KeyProfile {
  const short = (x: number) => Number(x.toPrecision(3));
  return {
    heads: heads.map((head) => {
      const unit = unitOf(head);
      const spread = Array.from(head.spread.subarray(0, head.pairs), (x) => x / unit);
      const means = Array.from(head.mean.subarray(0, 2 * head.pairs), (x) => short(x / unit));
      return { gains: spread.map((x) => short(Math.max(x, LEAST_SPREAD))), means };
    }),
  };
}

/** seen = (key - mean) gain + shown, channel by channel. */
export interface KeyView {
  readonly mean: Float32Array;
  readonly gain: Float32Array;
  readonly shown: Float32Array;
}

/** keyMean: factor on the mean that the method sees; 0: none. */
export function keyView(stats: KeyStats, { heads }: KeyProfile, keyMean: number): KeyView {
  const { pairs, spread, mean } = stats;
  const { gains, means } = heads[Math.floor(stats.depth * heads.length)];
  const unit = unitOf(stats);
  const [wanted, first, second] = [
    resampled(gains, pairs),
    ...[0, 1].map((half) => {
      const points = (means ?? [0, 0]).length / 2;
      return resampled((means ?? [0, 0]).slice(half * points, (half + 1) * points), pairs);
    }),
  ];
  const slowest = pairs - 1;
  const pairOf = (dim: number) => (dim < 2 * pairs ? dim % pairs : slowest);
  const size = rms(Float64Array.from(mean, (_, dim) => wanted[pairOf(dim)]));
  const gain = Float32Array.from(
    spread,
    (own, dim) => ((wanted[pairOf(dim)] / size) * unit) / Math.max(own, LEAST_SPREAD * unit),
  );
  const shown = Float32Array.from(mean, (own, dim) => {
    if (!means) return keyMean * own * gain[dim];
    return keyMean * unit * (dim < pairs ? first : second)[pairOf(dim)];
  });
  return { mean, gain, shown };
}

/**
 * A list resampled to N values: of those that fall on one point the largest, which matters most for a method; else the
 * nearest.
 */
function resampled(list: readonly number[], count: number): number[] {
  return Array.from({ length: count }, (_, i) => {
    const from = Math.floor((i * list.length) / count);
    const to = Math.max(from + 1, Math.floor(((i + 1) * list.length) / count));
    return list.slice(from, to).reduce((best, x) => (Math.abs(x) > Math.abs(best) ? x : best));
  });
}

function rms(list: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < list.length; i++) sum += list[i] ** 2;
  return Math.sqrt(sum / list.length);
}
