/**
 * The forms in which an activation is handed from one operation to the next, and views of float32 rows inside wider
 * buffers. Owns their bytes; lib/q8.wgsl owns q8's layout on the GPU's side.
 */
import type { Buffer } from "./dispatch.ts";

/** f32; f16 (two a word) for subgroup matrices; q8 for integer dot products. */
export type Form = "f32" | "f16" | "q8";

/** OUT_FORM of the kernels. */
export const FORM_IDS: Readonly<Record<Form, number>> = { f32: 0, f16: 1, q8: 2 };

/** Bytes of q8 for a group of 32 values: two planes of codes and one of scales. */
const Q8_GROUP_BYTES = 48;

export function formBytes(form: Form, rows: number, cols: number): number {
  if (form === "q8") return rows * (cols / 32) * Q8_GROUP_BYTES;
  return rows * cols * (form === "f16" ? 2 : 4);
}

/** Float32 rows inside a buffer: row r begins at offset + r * stride, both in floats. */
export interface View {
  readonly buffer: Buffer;
  readonly offset: number;
  readonly stride: number;
}
