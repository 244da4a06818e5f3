/**
 * From logits to one token. Owns the options, their checks and the random numbers; the same seed gives the same text
 * on the same logits. Refuses to know models and text.
 * One idea: candidates are cut to top-k before anything else is computed, so a 262,144-word vocabulary costs one pass.
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
      if (temperature === 0) return argmax(logits);
      return draw(candidates(logits, topK), temperature, topP, minP, random());
    },
  };
}

/** The index of the largest logit, the first one of equals. */
export function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
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

/** The k largest logits (all for k = 0), largest first, equals in order of id. */
function candidates(logits: Float32Array, k: number): Candidate[] {
  const order = (a: Candidate, b: Candidate) => b.logit - a.logit || a.id - b.id;
  if (k === 0 || k >= logits.length) return Array.from(logits, (logit, id) => ({ id, logit })).sort(order);
  // Kept sorted by insertion: after the first few hundred logits almost none beats the smallest kept one.
  const kept: Candidate[] = [];
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id];
    if (kept.length === k && !(logit > kept[k - 1].logit)) continue;
    let at = kept.length;
    while (at > 0 && kept[at - 1].logit < logit) at--;
    kept.splice(at, 0, { id, logit });
    if (kept.length > k) kept.pop();
  }
  return kept;
}

/** sorted: largest first; uniform: in [0, 1). */
function draw(sorted: Candidate[], temperature: number, topP: number, minP: number, uniform: number): number {
  // min-p and top-p look at the untempered distribution, as llama.cpp's default order of samplers does.
  const weights = sorted.map(({ logit }) => Math.exp(logit - sorted[0].logit));
  const total = weights.reduce((a, b) => a + b, 0);
  let count = 0;
  for (let sum = 0; count < sorted.length; count++) {
    if (count > 0 && (sum >= topP * total || weights[count] < minP)) break;
    sum += weights[count];
  }
  const tempered = sorted
    .slice(0, count)
    .map(({ logit }) => Math.exp((logit - sorted[0].logit) / temperature));
  let left = uniform * tempered.reduce((a, b) => a + b, 0);
  for (let i = 0; i < count; i++) {
    left -= tempered[i];
    if (left < 0) return sorted[i].id;
  }
  return sorted[count - 1].id;
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
