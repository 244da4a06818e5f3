/**
 * From logits to one token. Owns the options, their checks and the random numbers; the same seed gives the same text
 * on the same logits. Refuses to know models and text.
 * One idea: what top-k, or without it min-p, would drop is never sorted, so a 262,144-word vocabulary costs one pass.
 * A logit that is no number is treated as -Infinity: it is never chosen while another is finite.
 */
import { ArgumentError } from "../format/errors.ts";

export interface SampleOptions {
  /** 0 (the default): always the most likely token. */
  temperature?: number;
  /** Keep the k most likely tokens; 0: all. Default 40. */
  topK?: number;
  /** Keep the most likely tokens whose probabilities sum to p (arXiv 1904.09751); 1: all. Default 0.95. */
  topP?: number;
  /** Drop tokens less likely than minP times the most likely one (arXiv 2407.01082); 0: none. Default 0.05. */
  minP?: number;
  /** Divide the logits of the last `repeatLast` tokens by this (arXiv 1909.05858); 1 (the default): off. */
  repeatPenalty?: number;
  /** Default 64. */
  repeatLast?: number;
  /** A 32-bit unsigned integer; default: from the clock. */
  seed?: number;
}

interface Range {
  low: number;
  high: number;
  integer?: boolean;
}

const RANGES: Record<keyof SampleOptions, Range> = {
  temperature: { low: 0, high: 100 },
  topK: { low: 0, high: 2 ** 31, integer: true },
  topP: { low: Number.MIN_VALUE, high: 1 },
  minP: { low: 0, high: 1 },
  repeatPenalty: { low: Number.MIN_VALUE, high: 100 },
  repeatLast: { low: 0, high: 2 ** 31, integer: true },
  seed: { low: 0, high: 2 ** 32 - 1, integer: true },
};

export interface Sampler {
  /** logits [vocab] (changed in place by penalties); recent: ids so far, newest last. */
  next(logits: Float32Array, recent: readonly number[]): number;
  readonly seed: number;
}

/** Throws ArgumentError for an option out of its range. */
export function sampler(options: SampleOptions = {}): Sampler {
  for (const [key, { low, high, integer }] of Object.entries(RANGES)) {
    const found = options[key as keyof SampleOptions];
    if (found === undefined) continue;
    if (
      typeof found !== "number" ||
      !(found >= low && found <= high) ||
      (integer && !Number.isInteger(found))
    )
      throw new ArgumentError(
        key,
        found,
        `${integer ? "integers " : ""}${low === Number.MIN_VALUE ? "above 0" : low} to ${high}`,
      );
  }
  const {
    temperature = 0,
    topK = 40,
    topP = 0.95,
    minP = 0.05,
    repeatPenalty = 1,
    repeatLast = 64,
  } = options;
  const seed = options.seed ?? (Date.now() ^ (Math.random() * 2 ** 32)) >>> 0;
  const random = randomNumbers(seed);
  return {
    seed,
    next(logits, recent) {
      if (repeatPenalty !== 1)
        penalize(logits, recent.slice(Math.max(0, recent.length - repeatLast)), repeatPenalty);
      const best = argmax(logits);
      // Without a finite best there is no distribution to draw from.
      if (temperature === 0 || !Number.isFinite(logits[best])) return best;
      const k = topK === 0 ? logits.length : Math.min(topK, logits.length);
      const find = k <= MOST_INSERTED ? firstFew : firstMany;
      return draw(find(logits, { k, topP, minP, largest: logits[best] }), temperature, random());
    },
  };
}

/** The index of the largest logit, the first one of equals; 0 when no logit is above -Infinity. */
export function argmax(logits: Float32Array): number {
  let best = 0;
  let most = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] > most) {
      best = i;
      most = logits[i];
    }
  }
  return best;
}

function penalize(logits: Float32Array, recent: readonly number[], penalty: number): void {
  for (const id of new Set(recent)) {
    const logit = logits[id];
    logits[id] = logit > 0 ? logit / penalty : logit * penalty;
  }
}

interface Candidate {
  id: number;
  logit: number;
}

interface Cut {
  k: number;
  topP: number;
  minP: number;
  /** The largest of the logits. */
  largest: number;
}

/** Up to this k, keeping a sorted list beats sorting everything. */
const MOST_INSERTED = 256;

/** What is left of the k most likely tokens after top-p and min-p; k small. */
function firstFew(logits: Float32Array, cut: Cut): Candidate[] {
  // Kept sorted by insertion: after the first few hundred logits almost none beats the smallest kept one.
  const kept: Candidate[] = [];
  let least = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id];
    if (!(logit > least)) continue;
    let at = kept.length;
    while (at > 0 && kept[at - 1].logit < logit) at--;
    kept.splice(at, 0, { id, logit });
    if (kept.length > cut.k) kept.pop();
    if (kept.length === cut.k) least = kept[cut.k - 1].logit;
  }
  const weights = kept.map(({ logit }) => Math.exp(logit - cut.largest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return kept.slice(0, keptCount(weights, total, cut));
}

/** The same for a large k, or all tokens: values are sorted alone, natively, and their ids found afterwards. */
function firstMany(logits: Float32Array, cut: Cut): Candidate[] {
  const all = cut.k === logits.length;
  let total = 0;
  const order = logits.filter((logit) => {
    const weight = Math.exp(logit - cut.largest);
    if (!(weight > 0)) return false;
    total += weight;
    // With a top-k, what min-p drops still counts toward the total of the k.
    return !all || weight >= cut.minP;
  });
  order.sort().reverse();
  const weights = Float64Array.from(order.subarray(0, cut.k), (logit) => Math.exp(logit - cut.largest));
  if (!all) total = weights.reduce((sum, weight) => sum + weight, 0);
  const count = keptCount(weights, total, cut);
  const least = order[count - 1];
  // Of equals at the edge, those with the lowest ids stay.
  let equals = count - order.indexOf(least);
  const kept: Candidate[] = [];
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id];
    if (logit > least || (logit === least && equals-- > 0)) kept.push({ id, logit });
  }
  return kept;
}

/**
 * How many of the weights, largest first, top-p and min-p keep: at least one. Both look at the untempered distribution,
 * as llama.cpp's default order of samplers does. total: the sum that top-p takes its part of.
 */
function keptCount(weights: ArrayLike<number>, total: number, { topP, minP }: Cut): number {
  let count = 0;
  for (let sum = 0; count < weights.length; count++) {
    if (count > 0 && (sum >= topP * total || weights[count] < minP)) break;
    sum += weights[count];
  }
  return count;
}

/** uniform: in [0, 1). */
function draw(kept: readonly Candidate[], temperature: number, uniform: number): number {
  const largest = kept.reduce((most, { logit }) => Math.max(most, logit), Number.NEGATIVE_INFINITY);
  const weights = kept.map(({ logit }) => Math.exp((logit - largest) / temperature));
  let left = uniform * weights.reduce((a, b) => a + b, 0);
  for (let i = 0; i < kept.length; i++) {
    left -= weights[i];
    if (left < 0) return kept[i].id;
  }
  return kept[kept.length - 1].id;
}

/** Uniform numbers in [0, 1): SplitMix32 (the 32-bit form of Steele, Lea and Flood's SplitMix, OOPSLA 2014). */
function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) / 2 ** 32;
  };
}
