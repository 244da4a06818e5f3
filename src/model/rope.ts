/**
 * RoPE frequencies: the plain geometric series (RoFormer, arXiv 2104.09864) and the scalings that published models use.
 * All in float64; a device rotates pairs by position * frequency.
 */

/** base^(-2i / dims) for i in 0 .. dims / 2 - 1, divided by `linear` (position interpolation, arXiv 2306.15595). */
export function ropeFrequencies(base: number, dims: number, linear = 1): Float64Array {
  return Float64Array.from({ length: dims / 2 }, (_, i) => base ** ((-2 * i) / dims) / linear);
}

export interface Llama3Scaling {
  factor: number;
  lowFrequencyFactor: number;
  highFrequencyFactor: number;
  originalContext: number;
}

/**
 * Llama 3.1's scaling: wavelengths above originalContext / lowFrequencyFactor are stretched by `factor`, those below
 * originalContext / highFrequencyFactor are kept, those between are interpolated. (The Llama 3 herd, arXiv 2407.21783)
 */
export function llama3Scaled(frequencies: Float64Array, scaling: Llama3Scaling): Float64Array {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContext } = scaling;
  return frequencies.map((frequency) => {
    const turns = (originalContext * frequency) / (2 * Math.PI);
    const smooth = Math.min(1, Math.max(0, (turns - low) / (high - low)));
    return (1 - smooth) * (frequency / factor) + smooth * frequency;
  });
}

export interface YarnScaling {
  base: number;
  dims: number;
  factor: number;
  originalContext: number;
  /**
   * Rotations within the original context: a pair with more than the first is kept, one with fewer than the second is
   * stretched in full.
   */
  betaFast: number;
  betaSlow: number;
  /** Round the ends of the ramp to whole pairs. */
  truncate: boolean;
}

/**
 * YaRN (arXiv 2309.00071, section 3.2): slow pairs are stretched by `factor`, fast ones are kept, with a ramp between.
 */
export function yarnFrequencies(scaling: YarnScaling): Float64Array {
  const { base, dims, factor, originalContext, betaFast, betaSlow, truncate } = scaling;
  const pairOf = (turns: number) =>
    (dims * Math.log(originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const fast = pairOf(betaFast);
  const slow = pairOf(betaSlow);
  const first = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const last = Math.min(truncate ? Math.ceil(slow) : slow, dims - 1);
  const width = first === last ? 0.001 : last - first;
  return ropeFrequencies(base, dims).map((frequency, i) => {
    const stretched = Math.min(1, Math.max(0, (i - first) / width));
    return (frequency / factor) * stretched + frequency * (1 - stretched);
  });
}

/** YaRN's factor on the rotary dims (section 3.4, here a factor on q and on k): 0.1 ln(factor) + 1. */
export function yarnMagnitude(factor: number, weight = 1): number {
  return factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1;
}

/** LongRoPE's factor (arXiv 2402.13753, as in Phi-3): sqrt(1 + ln(factor) / ln(originalContext)). */
export function longRopeMagnitude(factor: number, originalContext: number): number {
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalContext));
}
