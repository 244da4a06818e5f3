/**
 * Samples a token from logits: the options, their checks and the random numbers. The same seed gives the same text for
 * the same logits. What top-k, or without it min-p, would drop is never sorted, so a vocabulary of 262,144 tokens costs
 * one pass. Logits that are not finite are refused before (finite.ts); here they are never chosen while another is
 * finite.
 */
import type { Sampling } from "../device/contract.ts";
import { uniformNumber } from "../device/uniform.ts";
import { ArgumentError } from "../format/errors.ts";

/** How a token is chosen from logits. */
export interface SampleOptions {
  /** 0 (the default): always the most likely token. */
  temperature?: number;
  /** Keep the k most likely tokens; 0 and -1: all. Default 40. */
  topK?: number;
  /** Keep the most likely tokens whose probabilities sum to p (arXiv 1904.09751); 1: all, 0: one. Default 0.95. */
  topP?: number;
  /** Drop tokens less likely than minP times the most likely one (arXiv 2407.01082); 0: none. Default 0.05. */
  minP?: number;
  /** Divide the logits of the last `repeatLast` tokens by this (arXiv 1909.05858); 1 (the default): off. */
  repeatPenalty?: number;
  /** 0: none, -1: the whole text. Default 64. */
  repeatLast?: number;
  /** Subtracted from the logit of each token that was generated: -2 to 2. Default 0. */
  presencePenalty?: number;
  /** As presencePenalty, but for each time that the token was generated. Default 0. */
  frequencyPenalty?: number;
  /** Added to the logits of these ids: -100 to 100. */
  logitBias?: Readonly<Record<number, number>>;
  /** An integer of 64 bits; only the lowest 32 count. -1 and the default: from the clock. */
  seed?: number;
}

interface Range {
  low: number;
  high: number;
  integer?: boolean;
  /** For errors, where the numbers alone would be unclear. */
  allowed?: string;
}

/** What llama.cpp, vLLM and their clients write for "any" or "all". */
const UNSET = -1;

const RANGES: Record<Exclude<keyof SampleOptions, "logitBias">, Range> = {
  temperature: { low: 0, high: 100 },
  topK: { low: UNSET, high: 2 ** 31, integer: true },
  topP: { low: 0, high: 1 },
  minP: { low: 0, high: 1 },
  repeatPenalty: { low: Number.MIN_VALUE, high: 100 },
  repeatLast: { low: UNSET, high: 2 ** 31, integer: true },
  presencePenalty: { low: -2, high: 2 },
  frequencyPenalty: { low: -2, high: 2 },
  seed: { low: -(2 ** 63), high: 2 ** 64, integer: true, allowed: "integers of 64 bits" },
};

/** Chooses a token from logits [vocab] f32. */
export interface Sampler {
  /**
   * logits [vocab] (changed in place by penalties); recent: ids so far, newest last; draw: the index of the seed's
   * random number, which is the number of tokens before it.
   */
  next(logits: Float32Array, recent: readonly number[], draw: number): number;
  /** What a device needs to choose like `next`; null: it cannot, because penalties depend on the text. */
  sampling(draw: number): Sampling | null;
  /** How many of the largest logits are enough for `next` if `recent` has N ids; null: all are needed. */
  enough(recent: number): number | null;
  readonly seed: number;
}

/** Throws ArgumentError for an option out of its range. */
export function sampler(options: SampleOptions = {}): Sampler {
  for (const [key, { low, high, integer, allowed }] of Object.entries(RANGES)) {
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
        allowed ?? `${integer ? "integers " : ""}${low === Number.MIN_VALUE ? "above 0" : low} to ${high}`,
      );
  }
  const { temperature = 0, topP = 0.95, minP = 0.05, repeatPenalty = 1 } = options;
  const topK = Math.max(0, options.topK ?? 40);
  const repeatLast = options.repeatLast === UNSET ? Number.POSITIVE_INFINITY : (options.repeatLast ?? 64);
  const { presencePenalty = 0, frequencyPenalty = 0 } = options;
  const biases = biasesOf(options.logitBias);
  const isCounted = presencePenalty !== 0 || frequencyPenalty !== 0;
  const isChanged = repeatPenalty !== 1 || isCounted || biases.length > 0;
  // Some logits may rise, so any may become the largest.
  const mayRise =
    repeatPenalty < 1 || presencePenalty < 0 || frequencyPenalty < 0 || biases.some(([, bias]) => bias > 0);
  const seed = seedOf(options.seed);
  return {
    seed,
    next(logits, recent, draw) {
      for (const [id, bias] of biases) logits[id] += bias;
      if (isCounted) countAgainst(logits, recent.slice(Math.max(0, recent.length - draw)), options);
      if (repeatPenalty !== 1)
        penalize(logits, recent.slice(Math.max(0, recent.length - repeatLast)), repeatPenalty);
      const uniform = uniformNumber(seed, draw);
      const best = argmax(logits);
      // Without a finite maximum there is no distribution to draw from.
      if (temperature === 0 || !Number.isFinite(logits[best])) return best;
      const k = topK === 0 ? logits.length : Math.min(topK, logits.length);
      const find = k <= MOST_INSERTED ? firstFew : firstMany;
      return drawn(find(logits, { k, topP, minP, largest: logits[best] }), temperature, uniform);
    },
    sampling: (draw) => (isChanged ? null : { temperature, topK, topP, minP, seed, draw }),
    enough(recent) {
      const kept = temperature === 0 ? 1 : topK;
      if (kept === 0 || mayRise) return null;
      // These options only lower logits: at most as many leave the first `kept` as there are affected ids.
      const penalized = isCounted ? recent : repeatPenalty === 1 ? 0 : Math.min(repeatLast, recent);
      return kept + penalized + biases.length;
    },
  };
}

/** Returns the lowest 32 bits of a 64-bit seed: random numbers are made from 32 (device/uniform.ts). */
function seedOf(asked = UNSET): number {
  if (asked === UNSET) return (Date.now() ^ (Math.random() * 2 ** 32)) >>> 0;
  return Number(BigInt.asUintN(32, BigInt(asked)));
}

/** The index of the largest logit; ties: the lowest; 0 if no logit is above -Infinity. */
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

/** OpenAI's penalties: by how often a token was generated. */
function countAgainst(
  logits: Float32Array,
  generated: readonly number[],
  { presencePenalty = 0, frequencyPenalty = 0 }: SampleOptions,
): void {
  const counts = new Map<number, number>();
  for (const id of generated) counts.set(id, (counts.get(id) ?? 0) + 1);
  for (const [id, count] of counts) logits[id] -= presencePenalty + frequencyPenalty * count;
}

const MOST_BIASES = 1024;

function biasesOf(asked: SampleOptions["logitBias"]): (readonly [id: number, bias: number])[] {
  if (asked === undefined) return [];
  if (typeof asked !== "object" || asked === null) throw new ArgumentError("logitBias", asked, "an object");
  const found = Object.entries(asked).map(([id, bias]) => [Number(id), bias] as const);
  if (found.length > MOST_BIASES)
    throw new ArgumentError("logitBias", `${found.length} tokens`, `up to ${MOST_BIASES}`);
  for (const [id, bias] of found)
    if (!(Number.isInteger(id) && id >= 0 && typeof bias === "number" && Math.abs(bias) <= 100))
      throw new ArgumentError("logitBias", `${id}: ${bias}`, "ids of tokens with numbers -100 to 100");
  return found.filter(([, bias]) => bias !== 0);
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

/** What is left of the k most likely tokens after top-p and min-p; for small k. */
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

/** As above, for a large k or for all tokens. */
function firstMany(logits: Float32Array, cut: Cut): Candidate[] {
  const all = cut.k === logits.length;
  let total = 0;
  // Logit and id as one number, so that the native sort can be used and ties are in the order of ids.
  const codes = new Float64Array(logits.length);
  const bits = new Int32Array(logits.buffer, logits.byteOffset, logits.length);
  let count = 0;
  for (let id = 0; id < logits.length; id++) {
    const weight = Math.exp(logits[id] - cut.largest);
    if (!(weight > 0)) continue;
    total += weight;
    // With a top-k, what min-p drops still counts toward the total of the k.
    if (!all || weight >= cut.minP) codes[count++] = orderOf(bits[id]) * MOST_WORDS + (MOST_WORDS - 1 - id);
  }
  const order = codes.subarray(0, count).sort().reverse().subarray(0, cut.k);
  const kept = Array.from(order, (code) => {
    const id = MOST_WORDS - 1 - (code % MOST_WORDS);
    return { id, logit: logits[id] };
  });
  const weights = kept.map(({ logit }) => Math.exp(logit - cut.largest));
  if (!all) total = weights.reduce((sum, weight) => sum + weight, 0);
  return kept.slice(0, keptCount(weights, total, cut));
}

/** An order of 32 bits and an id of 21 fill the integers of a float64. */
const MOST_WORDS = 2 ** 21;

/** Maps the bits of an f32 to an integer, 0 to 2^32 - 1, with the same order; 0 and -0 are equal. */
function orderOf(bits: number): number {
  return bits >= 0 ? 2 ** 31 + bits : 2 ** 31 - (bits & 0x7fffffff);
}

/**
 * How many of the weights, largest first, top-p and min-p keep: at least one. Both use the distribution before
 * temperature, like llama.cpp's default order of samplers. total: the sum that top-p takes its share of.
 */
function keptCount(weights: ArrayLike<number>, total: number, { topP, minP }: Cut): number {
  let count = 0;
  for (let sum = 0; count < weights.length; count++) {
    if (count > 0 && (sum >= topP * total || weights[count] < minP)) break;
    sum += weights[count];
  }
  return count;
}

/** kept: most likely first, since the order decides which token a number selects. uniform: in [0, 1). */
function drawn(kept: readonly Candidate[], temperature: number, uniform: number): number {
  const largest = kept.reduce((most, { logit }) => Math.max(most, logit), Number.NEGATIVE_INFINITY);
  const weights = kept.map(({ logit }) => Math.exp((logit - largest) / temperature));
  let left = uniform * weights.reduce((a, b) => a + b, 0);
  for (let i = 0; i < kept.length; i++) {
    left -= weights[i];
    if (left < 0) return kept[i].id;
  }
  return kept[kept.length - 1].id;
}
