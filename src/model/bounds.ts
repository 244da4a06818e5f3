/**
 * What a number of a model's file may be. Every number is checked where it enters (`read.ts`), before anything is sized
 * by it: a count of 2^32 in a file of 500 bytes is an error, not an allocation. No published model comes near these
 * bounds; a file beyond them is damaged or hostile.
 */

export interface Bound {
  readonly least: number;
  readonly most: number;
  readonly whole: boolean;
}

const whole = (least: number, most: number): Bound => ({ least, most, whole: true });
const real = (least: number, most: number): Bound => ({ least, most, whole: false });

export const BOUNDS = {
  layers: whole(1, 1024),
  hidden: whole(1, 1 << 17),
  heads: whole(1, 1024),
  kvHeads: whole(1, 1024),
  headDim: whole(1, 1024),
  ffn: whole(1, 1 << 20),
  vocab: whole(1, 1 << 22),
  trainedContext: whole(1, 1 << 28),
  /** Positions that a sliding layer sees. 0 in a GGUF: no sliding layer. */
  window: whole(0, 1 << 28),
  /** Every N layers one is full. 0: none is. */
  pattern: whole(0, 1024),
  experts: whole(1, 4096),
  expertsOrNone: whole(0, 4096),
  /** Every N layers one is of another kind. */
  period: whole(1, 1024),
  /** Values of a layer's own input; 0: it has none. */
  perLayerInput: whole(0, 1 << 14),
  /** A layer's number, or one past the last; files of small models keep the default of a large one. */
  layerIndex: whole(0, 1 << 16),
  normEpsilon: real(1e-12, 0.1),
  ropeBase: real(1, 1e15),
  ropeFactor: real(1e-6, 1e6),
  /** Of a head. */
  part: real(1e-3, 1),
  yarnTurns: real(0, 1e6),
  yarnWeight: real(0, 1e3),
  /** Gemma's: the score's factor is one over the root of it. */
  queryScalar: real(1e-6, 1e9),
  softcap: real(1e-3, 1e6),
  /** Of embeddings, residuals, scores, logits. */
  multiplier: real(1e-6, 1e6),
} as const;

/** Why a number is out of bounds, in the words of an error's `allowed`; null when it is within. */
export function outside(found: number, { least, most, whole }: Bound): string | null {
  if (found >= least && found <= most && (!whole || Number.isInteger(found))) return null;
  return `${whole ? "integers" : "numbers"} ${least} to ${most}`;
}
