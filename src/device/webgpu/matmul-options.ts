/** The inputs for planning matrix products: weights in buffers, options, numbers of rows. */
import { type Mode, type PlannedBuffer, rowCount, type StepShape } from "./dispatch.ts";
import type { Form } from "./forms.ts";
import type { Traits } from "./gpu.ts";
import type { MatrixPart, WeightForm } from "./weights.ts";

/** A part with its buffers. `scales` is null for floats. */
export interface PlacedPart extends MatrixPart {
  readonly codes: PlannedBuffer;
  readonly scales: PlannedBuffer | null;
}

/** Matrices with the same input, one below the other: weights.ts defines the contents of the parts. */
export interface GpuMatrix {
  readonly form: WeightForm;
  readonly cols: number;
  /** Rows of all matrices together. */
  readonly rows: number;
  readonly parts: readonly PlacedPart[];
  /** [rows] f32, or null. */
  readonly bias: PlannedBuffer | null;
}

export interface MatmulOptions {
  readonly traits: Traits;
  readonly matrix: GpuMatrix;
  readonly x: { readonly form: Form; readonly buffer: PlannedBuffer };
  /**
   * In decode: x is not yet divided by the root of its mean square plus this epsilon; its groups contain their sums of
   * squares.
   */
  readonly unscaled?: number | null;
  readonly rows: "tokens" | "outputs";
  readonly mode: Mode;
  /** Maximum rows of a step in this mode; x and out have space for them. */
  readonly maxRows: number;
  /** f32 [maxRows][matrix.rows]; keepsSplits: [splitsOf(options)][maxRows][matrix.rows], which its reader adds up. */
  readonly out: PlannedBuffer;
  readonly keepsSplits?: boolean;
  /** Bound where a kernel writes nothing. */
  readonly spare: PlannedBuffer;
  /** A new activation. */
  scratch(label: string, bytes: number): PlannedBuffer;
}

/** Tokens of one workgroup of a kernel, and the numbers of rows that it serves. */
export interface TokenShape {
  readonly tokens: number;
  readonly from: number;
  readonly to: number;
}

/** Minimum rows of a step in this mode. Outputs may be one. */
function leastRows({ traits, rows, mode }: Pick<MatmulOptions, "traits" | "rows" | "mode">): number {
  if (rows === "outputs") return 1;
  return { decode: 1, few: 2, several: traits.few + 1, batch: traits.several + 1, prompt: traits.batch + 1 }[
    mode
  ];
}

/** Whether steps of this mode can have this many rows. */
export function meets(
  options: Pick<MatmulOptions, "traits" | "rows" | "mode" | "maxRows">,
  { from, to }: TokenShape,
): boolean {
  return from <= options.maxRows && to >= leastRows(options);
}

/** The rows of a step, if a kernel serves this number; else 0. */
export function countFor({ rows }: MatmulOptions, { from, to }: TokenShape, step: StepShape): number {
  const count = rowCount(rows, step);
  return count < from || count > to ? 0 : count;
}

/** The buffers of all kernels. An unused binding gets one that is only read. */
export function buffersOf({ matrix, x, out }: MatmulOptions, { codes, scales }: PlacedPart) {
  return { codes, scales: scales ?? codes, x: x.buffer, bias: matrix.bias ?? codes, out };
}

export const bytesOf = (part: MatrixPart) => () => part.codesBytes + part.scalesBytes;
