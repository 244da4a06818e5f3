/**
 * The forms in which an activation is passed from one operation to the next, and views of float32 rows inside wider
 * buffers, with their sizes. In the kernels, lib/q8.wgsl defines the layout of q8 and lib/rowFactor.wgsl that of f16.
 */
import type { PlannedBuffer } from "./dispatch.ts";

/** f32; f16 with a factor for each row, for subgroup matrices; q8 for integer dot products. */
export type Form = "f32" | "f16" | "q8";

/** The kernels' OUT_FORM. */
export const FORM_IDS: Readonly<Record<Form, number>> = { f32: 0, f16: 1, q8: 2 };

/** Bytes of q8 for a group of 32 values: two planes of codes and one of scales. */
const Q8_GROUP_BYTES = 48;
/** Bytes of a row's factor in f16: one float, padded to 16 bytes, since kernels read vec4s. */
const FACTOR_BYTES = 16;

export function formBytes(form: Form, rows: number, cols: number): number {
  if (form === "q8") return rows * (cols / 32) * Q8_GROUP_BYTES;
  if (form === "f16") return rows * cols * 2 + rows * FACTOR_BYTES;
  return rows * cols * 4;
}

/** f16: the start of the factors of `rows` rows, in words of 4 bytes; `cols` is a multiple of 32. */
export function factorsAt(rows: number, cols: number): number {
  return (rows * cols) / 2;
}

/**
 * Float32 rows inside a buffer: row r begins at offset + r * stride, both in floats. groups: a row consists of runs of
 * `size` columns, which begin `stride` apart.
 */
export interface View {
  readonly buffer: PlannedBuffer;
  readonly offset: number;
  readonly stride: number;
  readonly groups?: { readonly size: number; readonly stride: number };
  /**
   * The rows are sums of `count` such rows, `stride` floats apart: products whose columns were divided. Default: one.
   */
  readonly splits?: { readonly count: number; readonly stride: number };
}
