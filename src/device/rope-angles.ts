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

/** Positions from one coarse row to the next, and fine rows. */
const SPAN = 64;
/** Coarse rows that are kept: those of a chunk of a prompt, or of a few texts. */
const COARSE_ROWS = 32;

/**
 * Cosines and sines of a step's positions, times the magnitude. Angles are float64: at position 100,000 a float32 angle is
 * off by 0.004. A position is a multiple of SPAN and a rest, of which each has a row of float64, and the addition theorem
 * joins both: 0.15 ms for 512 positions of 64 pairs, where Math.cos and Math.sin take 1.2 (EPYC, 2026-11-29). So each
 * number depends on its position alone, not on the step.
 */
export class Angles {
  /** Numbers of a row [2, pairs]. */
  readonly #cols: number;
  readonly #frequencies: Float64Array;
  /** [SPAN, 2, pairs], times the magnitude. */
  readonly #fine: Float64Array;
  /** [COARSE_ROWS, 2, pairs]: row i belongs to a multiple of SPAN, #coarseOf[i]. */
  readonly #coarse: Float64Array;
  readonly #coarseOf = new Int32Array(COARSE_ROWS).fill(-1);

  constructor({ frequencies, magnitude }: Rope) {
    this.#frequencies = frequencies;
    this.#cols = 2 * frequencies.length;
    this.#fine = new Float64Array(SPAN * this.#cols);
    this.#coarse = new Float64Array(COARSE_ROWS * this.#cols);
    for (let rest = 0; rest < SPAN; rest++) this.#turn(rest, magnitude, this.#fine, rest * this.#cols);
  }

  /** Fills `into` [rows, 2, pairs] f32: the cosines of each position, then its sines. */
  write(positions: Uint32Array, into: Float32Array): void {
    const fine = this.#fine;
    const coarse = this.#coarse;
    const cols = this.#cols;
    const pairs = cols / 2;
    for (let row = 0; row < positions.length; row++) {
      const position = positions[row];
      const from = this.#coarseAt(position);
      const rest = (position % SPAN) * cols;
      const out = row * cols;
      for (let i = 0; i < pairs; i++) {
        const cos = coarse[from + i];
        const sin = coarse[from + pairs + i];
        const restCos = fine[rest + i];
        const restSin = fine[rest + pairs + i];
        into[out + i] = cos * restCos - sin * restSin;
        into[out + pairs + i] = sin * restCos + cos * restSin;
      }
    }
  }

  /** Where the coarse row of a position begins. */
  #coarseAt(position: number): number {
    const multiple = Math.floor(position / SPAN);
    const row = multiple % COARSE_ROWS;
    if (this.#coarseOf[row] !== multiple) {
      this.#turn(multiple * SPAN, 1, this.#coarse, row * this.#cols);
      this.#coarseOf[row] = multiple;
    }
    return row * this.#cols;
  }

  #turn(position: number, magnitude: number, into: Float64Array, at: number): void {
    const frequencies = this.#frequencies;
    for (let i = 0; i < frequencies.length; i++) {
      const angle = position * frequencies[i];
      into[at + i] = Math.cos(angle) * magnitude;
      into[at + frequencies.length + i] = Math.sin(angle) * magnitude;
    }
  }
}
