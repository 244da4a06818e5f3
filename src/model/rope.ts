/**
 * RoPE frequencies: the plain geometric series (RoFormer, arXiv 2104.09864) and the scalings that models ship with.
 * All in float64; a device turns pairs by position * frequency.
 */

/** base^(-2i / dims) for i in 0 .. dims / 2 - 1, over `linear` (position interpolation, arXiv 2306.15595). */
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
 * Llama 3.1's scaling: wavelengths beyond originalContext / lowFrequencyFactor are stretched by `factor`, those below
 * originalContext / highFrequencyFactor stay, and those between are interpolated. (The Llama 3 herd, arXiv 2407.21783)
 */
export function llama3Scaled(frequencies: Float64Array, scaling: Llama3Scaling): Float64Array {
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContext } = scaling;
  return frequencies.map((frequency) => {
    const turns = (originalContext * frequency) / (2 * Math.PI);
    const smooth = Math.min(1, Math.max(0, (turns - low) / (high - low)));
    return (1 - smooth) * (frequency / factor) + smooth * frequency;
  });
}
