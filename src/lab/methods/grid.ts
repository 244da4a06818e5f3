/** Grids that methods share: affine ones over a range, levels of least error on a Gaussian, float16 for scales. */
import { f16ToF32, f32ToF16 } from "../../format/float16.ts";

export const half = (x: number) => f16ToF32(f32ToF16(x));

/**
 * Asymmetric codes of `count` values from `first`, `stride` apart, in place: value = scale * code + zero, both float16, codes
 * chosen against the rounded ones, as in the shipped `int4`.
 */
export function affineGrid(
  x: Float32Array,
  first: number,
  stride: number,
  count: number,
  bits: number,
): void {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0, at = first; i < count; i++, at += stride) {
    min = Math.min(min, x[at]);
    max = Math.max(max, x[at]);
  }
  const most = 2 ** bits - 1;
  const scale = half((max - min) / most);
  const zero = half(min);
  const inverse = scale > 0 ? 1 / scale : 0;
  for (let i = 0, at = first; i < count; i++, at += stride) {
    const code = Math.min(most, Math.max(0, Math.floor((x[at] - zero) * inverse + 0.5)));
    x[at] = scale * code + zero;
  }
}

/** Levels of least mean squared error on a Gaussian of variance 1 (Lloyd 1957, Max 1960), ascending [2^bits]. */
export function gaussianLevels(bits: number): Float64Array {
  let found = LEVELS.get(bits);
  if (!found) {
    found = lloyd(2 ** bits);
    LEVELS.set(bits, found);
  }
  return found;
}

const LEVELS = new Map<number, Float64Array>();

function lloyd(count: number): Float64Array {
  const density = (x: number) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  let levels = Float64Array.from({ length: count }, (_, i) => (6 * (i + 0.5)) / count - 3);
  for (let round = 0; round < 2000; round++) {
    const edges = levels.map((level, i) =>
      i === 0 ? Number.NEGATIVE_INFINITY : (level + levels[i - 1]) / 2,
    );
    let moved = 0;
    const next = levels.map((level, i) => {
      const from = edges[i];
      const to = i + 1 < count ? edges[i + 1] : Number.POSITIVE_INFINITY;
      const mass = cumulative(to) - cumulative(from);
      // The mean of the cell: the density's fall over it, by its mass.
      const found =
        mass > 1e-14 ? ((from > -40 ? density(from) : 0) - (to < 40 ? density(to) : 0)) / mass : level;
      moved = Math.max(moved, Math.abs(found - level));
      return found;
    });
    levels = next;
    if (moved < 1e-7) break;
  }
  return levels;
}

/** The normal distribution's cumulative distribution function; Abramowitz and Stegun 7.1.26, error at most 1.5e-7. */
export function cumulative(x: number): number {
  if (x === Number.POSITIVE_INFINITY) return 1;
  if (x === Number.NEGATIVE_INFINITY) return 0;
  const t = 1 / (1 + (0.3275911 * Math.abs(x)) / Math.SQRT2);
  const series =
    t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const tail = 0.5 * series * Math.exp((-x * x) / 2);
  return x > 0 ? 1 - tail : tail;
}

/** The nearest of ascending levels. */
export function nearest(levels: Float64Array, x: number): number {
  let low = 0;
  let high = levels.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x > (levels[middle] + levels[middle + 1]) / 2) low = middle + 1;
    else high = middle;
  }
  return levels[low];
}

/** Steps of least error of uniform grids with 2^bits levels around 0 on a Gaussian of variance 1 (Max 1960). */
const STEPS: Readonly<Record<number, number>> = {
  1: 1.596,
  2: 0.9957,
  3: 0.586,
  4: 0.3352,
  5: 0.1881,
  8: 0.0308,
};

/** x of variance 1 on such a grid. */
export function uniform(x: number, bits: number): number {
  const step = STEPS[bits];
  const most = 2 ** (bits - 1);
  const code = Math.min(most - 1, Math.max(-most, Math.floor(x / step)));
  return (code + 0.5) * step;
}

export const UNIFORM_BITS = Object.keys(STEPS).map(Number);
