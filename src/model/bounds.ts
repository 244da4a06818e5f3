/**
 * Bounds for every number in a model's file. A number is checked where it is read (`read.ts`), before anything is sized
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
  /** Positions that a sliding layer attends to. In a GGUF, 0 means that no layer slides. */
  window: whole(0, 1 << 28),
  /** Every Nth layer is full; 0: none is. */
  pattern: whole(0, 1024),
  experts: whole(1, 4096),
  expertsOrNone: whole(0, 4096),
  /** Every Nth layer is of another kind. */
  period: whole(1, 1024),
  /** Size of the per-layer input; 0: none. */
  perLayerInput: whole(0, 1 << 14),
  /**
   * A layer's number, or the number of layers. Files of small models keep the default of a large one, so it may be
   * larger.
   */
  layerIndex: whole(0, 1 << 16),
  normEpsilon: real(1e-12, 0.1),
  ropeBase: real(1, 1e15),
  ropeFactor: real(1e-6, 1e6),
  /** Dims of one head. */
  part: real(1e-3, 1),
  yarnTurns: real(0, 1e6),
  yarnWeight: real(0, 1e3),
  /** Gemma's query_pre_attn_scalar: scores are divided by its square root. */
  queryScalar: real(1e-6, 1e9),
  softcap: real(1e-3, 1e6),
  /** Factors on embeddings, residuals, scores and logits. */
  multiplier: real(1e-6, 1e6),
} as const;

/** null if the number is within the bound; otherwise the allowed range, for an error's `allowed`. */
export function outside(found: number, { least, most, whole }: Bound): string | null {
  if (found >= least && found <= most && (!whole || Number.isInteger(found))) return null;
  return `${whole ? "integers" : "numbers"} ${least} to ${most}`;
}
