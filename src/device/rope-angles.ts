/**
 * Rotary embedding, and cosines and sines of a step's positions for devices whose kernels would compute them in float32
 * too inexactly.
 */

/**
 * Rotary position embedding of pairs (i, i + count): pair i at position p is rotated by p * frequencies[i] radians.
 * (RoFormer, arXiv 2104.09864, in the "halves" pairing.)
 */
export interface Rope {
  readonly id: number;
  /** [rotary dims / 2] radians per position, scaling already applied. */
  readonly frequencies: Float64Array;
  /** Factor on the rotary dims (YaRN's attention factor); 1 otherwise. */
  readonly magnitude: number;
}

/** A pair slower than this does not rotate measurably in any text: GGUF's way to say that it is not rotated. */
const STILL = 1e-15;

/** The number of rotated pairs, if they come first; null: they do not, or dims that are not rotated are scaled. */
export function turnedPairs({
  frequencies,
  magnitude = 1,
}: Pick<Rope, "frequencies"> & { readonly magnitude?: number }): number | null {
  const turns = (frequency: number) => frequency > STILL;
  const pairs = frequencies.filter(turns).length;
  return frequencies.subarray(0, pairs).every(turns) && magnitude === 1 ? pairs : null;
}

/**
 * Fills `into` [rows, 2, pairs] f32: the cosines of each position, then its sines, both times the magnitude. Angles are
 * float64: at position 100,000 a float32 angle is off by 0.004.
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
