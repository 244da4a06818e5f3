/**
 * The dispatches of products on devices with subgroup matrices: matmulDots for few rows, matmulStream for several,
 * matmulBatch for a batch, and the sum of products that divide columns among workgroups. matmul-prompt.ts has prompts.
 * Pure.
 */
import { type Dispatch, type PlannedBuffer, rowCount, spread } from "./dispatch.ts";
import { factorsAt } from "./forms.ts";
import type { Traits } from "./gpu.ts";
import {
  buffersOf,
  bytesOf,
  countFor,
  type GpuMatrix,
  type MatmulOptions,
  type TokenShape,
} from "./matmul-options.ts";
import { packParams } from "./params.ts";
import { formValues, groupsOf } from "./weights.ts";

/** Rows of a workgroup of matmulMatrix, and tokens of each of its subgroups. */
export const MATRIX_TILE = { rows: 128, tokens: 32 };

/** Workgroups of matmulBatch that fill a GPU: three on each of an H100's 132 cores, as many as its memory allows. */
const BATCH_WORKGROUPS = 396;
/** A split of fewer groups takes longer to start than to compute. */
export const LEAST_GROUPS = 8;

/** The number of splits of columns for matmulBatch. */
export function batchSplits({ parts, cols }: GpuMatrix): number {
  const tiles = parts.reduce((sum, part) => sum + Math.ceil(part.rows / MATRIX_TILE.rows), 0);
  const most = Math.max(1, Math.floor(groupsOf(cols) / LEAST_GROUPS));
  return Math.max(1, Math.min(most, Math.round(BATCH_WORKGROUPS / tiles)));
}

/** Products of splits of columns, and their sum if there are several. */
export function batchDispatches(options: MatmulOptions): Dispatch[] {
  const { traits, matrix, rows, maxRows } = options;
  const { form } = matrix;
  const groups = groupsOf(matrix.cols);
  const splits = batchSplits(matrix);
  const sums = splitsBuffer(options, splits);
  const OUTPUTS = rows === "outputs";
  const HAS_BIAS = matrix.bias !== null;
  const products = matrix.parts.map(
    (part): Dispatch => ({
      label: "matmul",
      kernel: {
        kernel: "matmulBatch",
        libs: { codes: form.lib },
        values: { ...formValues(form), SUBGROUP: traits.subgroup!, OUTPUTS, SPLITS: splits, HAS_BIAS },
      },
      params: packParams("matmulBatch", {
        rows: part.rows,
        groups,
        tokens: maxRows,
        outCols: matrix.rows,
        firstColumn: part.first,
        factorsAt: factorsAt(maxRows, matrix.cols) / 4,
      }),
      buffers: { ...buffersOf(options, part), out: sums },
      workgroups(step) {
        const count = rowCount(rows, step);
        if (count === 0) return null;
        return [Math.ceil(count / MATRIX_TILE.tokens), Math.ceil(part.rows / MATRIX_TILE.rows), splits];
      },
      bytes: bytesOf(part),
    }),
  );
  return sums === options.out
    ? products
    : [...products, sumDispatch(options, splits, { buffer: sums, room: maxRows })];
}

/** The buffer for products that are divided into splits. */
function splitsBuffer(
  { matrix, maxRows, out, keepsSplits, scratch }: MatmulOptions,
  splits: number,
): PlannedBuffer {
  return splits === 1 || keepsSplits ? out : scratch("splits", splits * maxRows * matrix.rows * 4);
}

/**
 * Whether a device has what matmulStream and matmulDots need: matrices, and subgroups of 32, whose lanes know their
 * elements.
 */
export function streams({ matrices, subgroup }: Traits): boolean {
  return matrices && subgroup === 32;
}

/**
 * Kernels that stream weights: integer dot products for 2 to 4 rows, matrices for more. workgroups: as many as fill an
 * H200. subgroups: those of a workgroup. rows: the rows of weights that a workgroup computes at once (in matmulStream,
 * its subgroups divide their columns). q4_0 on an H200, us, 57344x8192 / 8192x28672 / 4096x14336 (2026-11-29,
 * lab/LOG.md): 2 tokens 72 / 39 / 14, by matmulFew 74 / 47 / 22; 4 tokens 85 / 46 / 16, by matmulFew 104 / 65 / 26; 8
 * tokens 124 / 67 / 21, by matmulDots 126 / 69 / 23; 16 tokens 148 / 77 / 24, with 528 workgroups 172 / 98 / 29.
 */
export const STREAM_TOKENS = [
  { kernel: "matmulDots", tokens: 2, from: 2, to: 2, workgroups: 396, subgroups: 8, rows: 8 * 16 },
  { kernel: "matmulDots", tokens: 4, from: 3, to: 4, workgroups: 1056, subgroups: 2, rows: 2 * 16 },
  { kernel: "matmulStream", tokens: 8, from: 5, to: 8, workgroups: 528, subgroups: 4, rows: 16 },
  {
    kernel: "matmulStream",
    tokens: 16,
    from: 9,
    to: Number.POSITIVE_INFINITY,
    workgroups: 396,
    subgroups: 4,
    rows: 16,
  },
] as const;
type StreamShape = (typeof STREAM_TOKENS)[number];

/** Groups of columns of a workgroup of either kernel, and so of a split. */
const STREAM_GROUPS = 32;

/** The number of splits of columns for the kernels that stream weights. */
export function streamSplits({ cols }: GpuMatrix): number {
  return Math.ceil(groupsOf(cols) / STREAM_GROUPS);
}

/** Products of slices of columns, and their sum if a workgroup does not have all columns. */
export function streamDispatches(options: MatmulOptions, shapes: readonly StreamShape[]): Dispatch[] {
  if (shapes.length === 0) return [];
  const { matrix, rows, maxRows } = options;
  const { form } = matrix;
  const groups = groupsOf(matrix.cols);
  const splits = streamSplits(matrix);
  const sums = splitsBuffer(options, splits);
  const products = matrix.parts.flatMap((part) =>
    shapes.map(
      (serves): Dispatch => ({
        label: "matmul",
        kernel: {
          kernel: serves.kernel,
          libs: { codes: form.lib },
          values: {
            ...formValues(form),
            SUBGROUPS: serves.subgroups,
            TOKENS: serves.tokens,
            OUTPUTS: rows === "outputs",
            HAS_BIAS: matrix.bias !== null && splits === 1,
          },
        },
        params: packParams(serves.kernel, {
          rows: part.rows,
          groups,
          tokens: maxRows,
          outCols: matrix.rows,
          firstColumn: part.first,
        }),
        buffers: { ...buffersOf(options, part), out: sums },
        workgroups(step) {
          const count = countFor(options, serves, step);
          if (count === 0) return null;
          const shares = Math.max(1, Math.floor(serves.workgroups / splits));
          const y = Math.min(Math.ceil(part.rows / serves.rows), shares);
          return [splits, y, Math.ceil(count / serves.tokens)];
        },
        bytes: bytesOf(part),
      }),
    ),
  );
  const all = { tokens: 1, from: shapes[0].from, to: Number.POSITIVE_INFINITY };
  return sums === options.out
    ? products
    : [...products, sumDispatch(options, splits, { buffer: sums, room: maxRows }, all)];
}

const ANY_TOKENS: TokenShape = { tokens: 1, from: 1, to: Number.POSITIVE_INFINITY };

/** Columns of a product, or some of them, as the sums of their splits. room: rows of a split. */
export function sumDispatch(
  options: MatmulOptions,
  splits: number,
  sums: { readonly buffer: PlannedBuffer; readonly room: number },
  serves = ANY_TOKENS,
  columns = { first: 0, count: options.matrix.rows },
): Dispatch {
  const { matrix, rows, out } = options;
  // 16,777,216 sums of two splits took 21 us one by one (H200, 2026-11-29, profile of a chunk of the 8B).
  const width = [columns.first, columns.count, matrix.rows].every((count) => count % 4 === 0) ? 4 : 1;
  return {
    label: "sumSplits",
    kernel: {
      kernel: "sumSplits",
      values: {
        SPLITS: splits,
        OUTPUTS: rows === "outputs",
        HAS_BIAS: matrix.bias !== null,
        Item: width === 4 ? "vec4<f32>" : "f32",
      },
    },
    params: packParams("sumSplits", {
      cols: columns.count / width,
      tokens: sums.room,
      outCols: matrix.rows / width,
      firstColumn: columns.first / width,
    }),
    buffers: { splits: sums.buffer, bias: matrix.bias ?? sums.buffer, out },
    workgroups(step) {
      const count = (countFor(options, serves, step) * columns.count) / width;
      return count === 0 ? null : spread(Math.ceil(count / 64));
    },
  };
}
