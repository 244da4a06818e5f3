/**
 * How sure a ratio of mean losses is: two specs on the same positions of the same texts, each with several draws of its
 * rounding. It covers three sources of error: positions (in blocks of 16, beyond which neighbours are not correlated), texts,
 * and draws.
 * One idea: blocks are resampled, paired, since they are many; texts and draws are few, so the variance between them beyond that
 * is added, and the interval is Student's t with the degrees of freedom of so few (Satterthwaite). Percentiles over
 * three draws would be too narrow.
 */
import { uniforms } from "./methods/random.ts";
import { quantileOf, twoSided } from "./student.ts";

/** Positions of a block, at most and at least: KL is correlated over fewer than 4. A text has four blocks, so that short answers vary, too. */
const BLOCK = 16;
const LEAST_BLOCK = 4;
const BLOCKS_EACH = 4;
const SAMPLES = 400;

/** Losses of two specs on one text: by draw, [positions], of one length. */
export interface PairedText {
  readonly a: readonly Float32Array[];
  readonly b: readonly Float32Array[];
}

export interface Estimate {
  /** log(mean loss of a / mean loss of b). */
  readonly log: number;
  /** Its standard error. */
  readonly error: number;
  readonly freedom: number;
  readonly texts: number;
  readonly positions: number;
  /** The smaller number of draws of the two. 1: the variance of rounding is unknown and not in the error. */
  readonly draws: number;
}

/** Seed of the resampling, so that a contrast is the same whenever it is computed. */
const SEED = 1;

/** null: nothing to compare, or no loss at all on one side. */
export function estimateRatio(texts: readonly PairedText[]): Estimate | null {
  const all = texts.map(blocksOf);
  const log = logRatio(all, all.map(everyBlock));
  if (texts.length === 0 || !Number.isFinite(log)) return null;
  const parts = positionsParts(all, SEED);
  for (const side of ["a", "b"] as const) {
    const draws = Math.min(...all.map((text) => text[side].length));
    if (draws > 1) parts.push(drawsPart(all, side, draws));
  }
  const variance = parts.reduce((sum, part) => sum + part.variance, 0);
  // Satterthwaite's.
  const below = parts.reduce((sum, { variance: v, freedom }) => sum + (v * v) / freedom, 0);
  return {
    log,
    error: Math.sqrt(variance),
    freedom: below > 0 ? (variance * variance) / below : 1,
    texts: texts.length,
    positions: all.reduce((sum, text) => sum + text.counts.reduce((a, b) => a + b, 0), 0),
    draws: Math.min(...all.map(({ a, b }) => Math.min(a.length, b.length))),
  };
}

export interface Interval {
  readonly low: number;
  readonly high: number;
  /** Two-sided, against no difference. */
  readonly p: number;
}

export function interval(
  { log, error, freedom }: Pick<Estimate, "log" | "error" | "freedom">,
  alpha = 0.05,
): Interval {
  if (error === 0) return { low: log, high: log, p: log === 0 ? 1 : 0 };
  const reach = quantileOf(alpha, freedom) * error;
  return { low: log - reach, high: log + reach, p: twoSided(log / error, freedom) };
}

/** A source of error. */
interface Part {
  readonly variance: number;
  readonly freedom: number;
}

/** Sums of blocks, [draws][blocks], and how many positions each has. */
interface Blocks {
  readonly a: readonly Float64Array[];
  readonly b: readonly Float64Array[];
  readonly counts: readonly number[];
}

function blocksOf({ a, b }: PairedText): Blocks {
  const positions = a[0].length;
  const size = Math.min(BLOCK, Math.max(LEAST_BLOCK, Math.floor(positions / BLOCKS_EACH)));
  const count = Math.ceil(positions / size);
  const sums = (losses: Float32Array) => {
    const found = new Float64Array(count);
    losses.forEach((loss, i) => {
      found[Math.floor(i / size)] += loss;
    });
    return found;
  };
  const counts = Array.from({ length: count }, (_, i) => Math.min(size, positions - i * size));
  return { a: a.map(sums), b: b.map(sums), counts };
}

const everyBlock = ({ counts }: Blocks) => counts.map((_, i) => i);

/** Over the blocks `picked` of each text, all draws together. */
function logRatio(
  texts: readonly Blocks[],
  picked: readonly (readonly number[])[],
  one?: { side: "a" | "b"; draw: number },
): number {
  const mean = (side: "a" | "b") => {
    let sum = 0;
    texts.forEach((text, t) => {
      const draws = one?.side === side ? [text[side][one.draw]] : text[side];
      for (const draw of draws) for (const block of picked[t]) sum += draw[block] / draws.length;
    });
    return sum;
  };
  return Math.log(mean("a") / mean("b"));
}

/** Resampled blocks within the texts, and the variance between texts beyond that. */
function positionsParts(texts: readonly Blocks[], seed: number): Part[] {
  const next = uniforms(seed);
  const all: number[] = [];
  const own: number[][] = texts.map(() => []);
  for (let i = 0; i < SAMPLES; i++) {
    const picked = texts.map(({ counts }) => counts.map(() => Math.floor(next() * counts.length)));
    all.push(logRatio(texts, picked));
    texts.forEach((text, t) => {
      own[t].push(logRatio([text], [picked[t]]));
    });
  }
  const blocks = texts.reduce((sum, { counts }) => sum + counts.length, 0);
  const parts = [{ variance: varianceOf(all), freedom: Math.max(1, blocks - texts.length) }];
  if (texts.length > 1) {
    const logs = texts.map((text) => logRatio([text], [everyBlock(text)]));
    const within = own.reduce((sum, list) => sum + varianceOf(list), 0) / texts.length;
    const between = Math.max(0, varianceOf(logs) - within);
    parts.push({ variance: between / texts.length, freedom: texts.length - 1 });
  }
  return parts;
}

/** The variance of the finite values. */
function varianceOf(list: readonly number[]): number {
  const finite = list.filter(Number.isFinite);
  const mean = finite.reduce((sum, x) => sum + x, 0) / finite.length;
  return finite.reduce((sum, x) => sum + (x - mean) ** 2, 0) / Math.max(1, finite.length - 1);
}

/** The variance of the mean over one side's draws. */
function drawsPart(texts: readonly Blocks[], side: "a" | "b", draws: number): Part {
  const picked = texts.map(everyBlock);
  const logs = Array.from({ length: draws }, (_, draw) => logRatio(texts, picked, { side, draw }));
  return { variance: varianceOf(logs) / draws, freedom: draws - 1 };
}
