/**
 * Searches for the scales of a group of values, for GGUF's K types and for all types with an importance matrix: several
 * scales are tried, and the one with the least weighted square error is used. The same as ggml's make_qx_quants,
 * make_q3_quants, make_qkx2_quants, make_qkx3_quants and make_qp_quants, in float32 with one operation at a time, so
 * that blocks are equal bit for bit.
 */
const { abs, fround, max, min, sqrt } = Math;

/** ggml's GROUP_MAX_EPS: smaller groups are zero. */
export const NOTHING = fround(1e-15);

/** To the nearest integer, halves to even, for magnitudes below 2^22. */
export function nearest(value: number): number {
  return fround(value + 12582912) - 12582912;
}

const clamp = (code: number, least: number, most: number) => max(least, min(most, code));

/** The value with the largest magnitude; ties: the first. */
function extremeOf(values: Float32Array): number {
  let extreme = 0;
  for (let i = 0; i < values.length; i++) if (abs(values[i]) > abs(extreme)) extreme = values[i];
  return extreme;
}

/** The result of a search; `codes` are the codes found with this scale. */
export interface Found {
  scale: number;
  /** 0 or more: value = scale * code - minimum. */
  minimum: number;
  readonly codes: Uint8Array;
}

/**
 * The scale of codes -`middle` to `middle` - 1; codes are returned with `middle` added. weights: default the squares of
 * the values, as in q6_k.
 */
export function signedScale(
  values: Float32Array,
  middle: number,
  out: Pick<Found, "scale" | "codes">,
  weights?: Float32Array | null,
): void {
  const extreme = extremeOf(values);
  out.scale = 0;
  out.codes.fill(0);
  if (abs(extreme) < NOTHING) return;
  let best = 0;
  let bestInverse = 0;
  for (let k = -10; k <= 9; k++) {
    // The plain scale is tried first.
    if (k === 0) continue;
    const step = k === -10 ? 0 : fround(fround(0.1) * k);
    const inverse = fround(-fround(middle + step) / extreme);
    let sumXl = 0;
    let sumLl = 0;
    for (let i = 0; i < values.length; i++) {
      const x = values[i];
      const code = clamp(nearest(fround(inverse * x)), -middle, middle - 1);
      const weight = weights ? weights[i] : fround(x * x);
      sumXl = fround(sumXl + fround(fround(weight * x) * code));
      sumLl = fround(sumLl + fround(fround(weight * code) * code));
    }
    const isFirst = k === -10;
    if (!isFirst && !(sumLl > 0 && fround(sumXl * sumXl) > fround(best * sumLl))) continue;
    out.scale = sumLl === 0 ? 0 : fround(sumXl / sumLl);
    best = fround(out.scale * sumXl);
    bestInverse = inverse;
  }
  for (let i = 0; i < values.length; i++)
    out.codes[i] = clamp(nearest(fround(bestInverse * values[i])), -middle, middle - 1) + middle;
}

/** The scale of codes -4 to 3, for q3_k: codes are moved one at a time as long as the error falls. */
export function thirdBitScale(values: Float32Array, codes: Int8Array): number {
  const extreme = extremeOf(values);
  if (abs(extreme) < NOTHING) return 0;
  const inverse = fround(-4 / extreme);
  const squares = values.map((x) => x * x);
  for (let i = 0; i < values.length; i++) codes[i] = clamp(nearest(fround(inverse * values[i])), -4, 3);
  return movedCodes(values, squares, codes, -4, 3);
}

/**
 * The scale of values from 0 (a block's scales), in codes 0 to `most`: the best of nine, then codes are moved one at a
 * time.
 */
export function positiveScale(
  values: Float32Array,
  weights: Float32Array,
  most: number,
  codes: Uint8Array,
): number {
  let high = 0;
  for (let i = 0; i < values.length; i++) high = max(high, values[i]);
  codes.fill(0);
  if (high < NOTHING) return 0;
  let least = Infinity;
  let bestInverse = 0;
  for (let k = -5; k <= 4; k++) {
    // The plain scale is tried first.
    if (k === 0) continue;
    const step = k === -5 ? 0 : fround(fround(0.1) * k);
    const inverse = fround(fround(step + most) / high);
    const scale = fround(1 / inverse);
    let error = 0;
    for (let i = 0; i < values.length; i++) {
      const code = min(most, nearest(fround(inverse * values[i])));
      const difference = fround(values[i] - fround(scale * code));
      error = fround(error + fround(fround(weights[i] * difference) * difference));
    }
    if (!(error < least)) continue;
    least = error;
    bestInverse = inverse;
  }
  for (let i = 0; i < values.length; i++) codes[i] = min(most, nearest(fround(bestInverse * values[i])));
  return movedCodes(values, weights, codes, 0, most);
}

/** Moves codes one at a time as long as the weighted error with the best scale falls; returns that scale. */
function movedCodes(
  values: Float32Array,
  weights: Float32Array,
  codes: Int8Array | Uint8Array,
  least: number,
  most: number,
): number {
  let sumXl = 0;
  let sumLl = 0;
  for (let i = 0; i < values.length; i++) {
    sumXl = fround(sumXl + fround(fround(weights[i] * values[i]) * codes[i]));
    sumLl = fround(sumLl + fround(fround(weights[i] * codes[i]) * codes[i]));
  }
  for (let round = 0, changed = true; round < 5 && changed; round++) {
    changed = false;
    for (let i = 0; i < values.length; i++) {
      const x = values[i];
      const weight = weights[i];
      let xl = fround(sumXl - fround(fround(weight * x) * codes[i]));
      let ll = fround(sumLl - fround(fround(weight * codes[i]) * codes[i]));
      if (!(xl > 0 && ll > 0)) continue;
      const code = clamp(nearest(fround(fround(x * ll) / xl)), least, most);
      if (code === codes[i]) continue;
      xl = fround(xl + fround(fround(weight * x) * code));
      ll = fround(ll + fround(fround(weight * code) * code));
      if (!(fround(fround(xl * xl) * sumLl) > fround(fround(sumXl * sumXl) * ll))) continue;
      codes[i] = code;
      sumXl = xl;
      sumLl = ll;
      changed = true;
    }
  }
  return sumLl > 0 ? fround(sumXl / sumLl) : 0;
}

/** Parameters of the search for a group with a minimum. */
export interface Search {
  /** The largest code. */
  readonly most: number;
  /** The largest codes that are tried: most + first + step * (0 to steps). */
  readonly first: number;
  readonly step: number;
  readonly steps: number;
  /** Sum the magnitudes of errors, not their squares. */
  readonly byMagnitude: boolean;
}

/** The codes of the current try. */
const tried = new Float32Array(32);

/** For all types with a minimum and an importance matrix. */
export const weightedSearch = (most: number): Search => ({
  ...{ most, first: -0.9, step: 0.05, steps: 36, byMagnitude: false },
});

/** Finds the best scale and minimum for `values` with `weights` and writes them into `out`. For q2_k, q4_k and q5_k. */
export function rangedScale(
  values: Float32Array,
  weights: Float32Array,
  { most, first, step, steps, byMagnitude }: Search,
  out: Found,
): void {
  const size = values.length;
  let low = values[0];
  let high = values[0];
  let sumW = weights[0];
  let sumX = fround(sumW * values[0]);
  for (let i = 1; i < size; i++) {
    if (values[i] < low) low = values[i];
    if (values[i] > high) high = values[i];
    sumW = fround(sumW + weights[i]);
    sumX = fround(sumX + fround(weights[i] * values[i]));
  }
  if (low > 0) low = 0;
  out.minimum = -low;
  out.scale = 0;
  out.codes.fill(0);
  if (high === low) return;
  let bestError = Infinity;
  let bestInverse = 0;
  let bestLow = low;
  for (let k = -1; k <= steps; k++) {
    // The plain range is tried first.
    const levels = k < 0 ? most : fround(fround(fround(first) + fround(fround(step) * k)) + most);
    // Starts at the best minimum so far: a better one is also the start of the next try.
    const inverse = fround(levels / fround(high - low));
    let scale = fround(1 / inverse);
    let minimum = low;
    for (let i = 0; i < size; i++) {
      const code = fround(fround(inverse * fround(values[i] - low)) + 12582912) - 12582912;
      tried[i] = code < 0 ? 0 : code > most ? most : code;
    }
    if (k >= 0) {
      let sumL = 0;
      let sumLl = 0;
      let sumXl = 0;
      for (let i = 0; i < size; i++) {
        const code = tried[i];
        const weighted = fround(weights[i] * code);
        sumL = fround(sumL + weighted);
        sumLl = fround(sumLl + fround(weighted * code));
        sumXl = fround(sumXl + fround(weighted * values[i]));
      }
      const determinant = fround(fround(sumW * sumLl) - fround(sumL * sumL));
      if (!(determinant > 0)) continue;
      scale = fround(fround(fround(sumW * sumXl) - fround(sumX * sumL)) / determinant);
      minimum = fround(fround(fround(sumLl * sumX) - fround(sumL * sumXl)) / determinant);
      if (minimum > 0) {
        minimum = 0;
        scale = fround(sumXl / sumLl);
      }
    }
    let error = 0;
    for (let i = 0; i < size; i++) {
      const difference = fround(fround(fround(scale * tried[i]) + minimum) - values[i]);
      const cost = byMagnitude ? abs(difference) : fround(difference * difference);
      error = fround(error + fround(weights[i] * cost));
    }
    if (!(error < bestError)) continue;
    bestError = error;
    out.scale = scale;
    bestInverse = inverse;
    bestLow = low;
    low = minimum;
  }
  out.minimum = -low;
  for (let i = 0; i < size; i++)
    out.codes[i] = clamp(nearest(fround(bestInverse * fround(values[i] - bestLow))), 0, most);
}

/** Root mean square plus magnitude: the weight of a value's error in q4_k and q5_k. */
export function weightsOf(values: Float32Array, out: Float32Array): void {
  const mean = fround(sqrt(meanSquare(values, 0, values.length)));
  for (let i = 0; i < values.length; i++) out[i] = mean + abs(values[i]);
}

/** The mean square of the first `of` values, in float32; `values` may be longer. */
export function meanSquare(values: Float32Array, from: number, of: number): number {
  let squares = 0;
  for (let i = from; i < from + of; i++) squares = fround(squares + fround(values[i] * values[i]));
  return fround(squares / of);
}

/** The weight of a value's error if its column has an importance. mean: the mean square of its surroundings. */
export function importantWeights(
  values: Float32Array,
  importance: Float32Array,
  mean: number,
  out: Float32Array,
): void {
  for (let i = 0; i < values.length; i++)
    out[i] = importance[i] * fround(sqrt(fround(mean + fround(values[i] * values[i]))));
}
