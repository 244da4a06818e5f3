/** Rotary embedding, and cosines and sines of a step's positions, for devices whose kernels would lose them in float32. */

/**
 * Rotary position embedding of pairs (i, i + count): pair i at position p turns by p * frequencies[i] radians.
 * (RoFormer, arXiv 2104.09864, in the "halves" pairing.)
 */
export interface Rope {
  readonly id: number;
  /** [rotated dims / 2] radians per position, scaling already applied. */
  readonly frequencies: Float64Array;
  /** Factor on the rotated vector (YaRN's attention factor); 1 otherwise. */
  readonly magnitude: number;
}

/** So slow a pair turns less than float32 can tell in any text: GGUF's way to say that it does not. */
const STILL = 1e-15;

/** Pairs that turn where these are the first of all; null: they are not, or what does not turn is scaled. */
export function turnedPairs({
  frequencies,
  magnitude = 1,
}: Pick<Rope, "frequencies"> & { readonly magnitude?: number }): number | null {
  const turns = (frequency: number) => frequency > STILL;
  const pairs = frequencies.filter(turns).length;
  return frequencies.subarray(0, pairs).every(turns) && magnitude === 1 ? pairs : null;
}

/**
 * Fills `into` [rows, 2, pairs] f32: the cosines of each position, then its sines, both times the
 * magnitude. Angles are float64: at position 100,000 a float32 angle is off by 0.004.
 */
export function writeAngles(
  { frequencies, magnitude }: Rope,
  positions: Uint32Array,
  into: Float32Array,
): void {
  const pairs = frequencies.length;
  positions.forEach((position, row) => {
    for (let i = 0; i < pairs; i++) {
      const angle = position * frequencies[i];
      into[(2 * row + 0) * pairs + i] = Math.cos(angle) * magnitude;
      into[(2 * row + 1) * pairs + i] = Math.sin(angle) * magnitude;
    }
  });
}
