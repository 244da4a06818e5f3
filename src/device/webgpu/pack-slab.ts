/**
 * Packs a slab of a matrix: rows of a file in one buffer become packed rows in another, codes first. Run by packing
 * threads (pack-worker.js), or by this thread if there are none, together with the checks of its numbers. Defines where
 * a slab's codes and scales are, and its number of rows.
 */
import { areFinite } from "../../format/finite-tensor.ts";
import { rowBytes, type TensorType } from "../../format/tensor.ts";
import { packRows } from "./pack.ts";
import { beyondFloat16 } from "./weight-bounds.ts";
import { codesRowBytes, scalesRowBytes, weightForm } from "./weights.ts";

/** Two buffers that are reused from slab to slab. */
export interface SlabBuffers {
  file: ArrayBufferLike;
  packed: ArrayBufferLike;
}

/** shared: of memory that threads share. */
export function emptySlot(shared: boolean): SlabBuffers {
  const empty = () => (shared ? new SharedArrayBuffer(0) : new ArrayBuffer(0));
  return { file: empty(), packed: empty() };
}

/** A buffer of the same kind of memory with at least so many bytes. */
function grown(buffer: ArrayBufferLike, bytes: number): ArrayBufferLike {
  if (buffer.byteLength >= bytes) return buffer;
  return buffer instanceof ArrayBuffer ? new ArrayBuffer(bytes) : new SharedArrayBuffer(bytes);
}

export interface Slab {
  readonly type: TensorType;
  readonly rows: number;
  readonly cols: number;
}

/** Maximum rows of a slab of `most` bytes, in the file and packed; at least one, even if a row is longer. */
export function slabRows(type: TensorType, cols: number, most: number): number {
  const { codes, scales } = slabBytes({ type, rows: 1, cols });
  return Math.max(1, Math.floor(most / Math.max(rowBytes(type, cols), codes + scales)));
}

/** Bytes of a slab's packed rows: codes, then scales. */
export function slabBytes({ type, rows, cols }: Slab): { codes: number; scales: number } {
  const form = weightForm(type);
  return { codes: rows * codesRowBytes(form, cols), scales: rows * scalesRowBytes(form, cols) };
}

/** The slot's file buffer, with the size of the slab's rows. */
export function slabFile(slot: SlabBuffers, { type, rows, cols }: Slab): Uint8Array {
  const bytes = rows * rowBytes(type, cols);
  slot.file = grown(slot.file, bytes);
  return new Uint8Array(slot.file, 0, bytes);
}

/** Codes and scales of a slab, in the slot. */
export function slabPacked(slot: SlabBuffers, slab: Slab): [codes: Uint32Array, scales: Uint32Array] {
  const { codes, scales } = slabBytes(slab);
  slot.packed = grown(slot.packed, codes + scales);
  return [new Uint32Array(slot.packed, 0, codes / 4), new Uint32Array(slot.packed, codes, scales / 4)];
}

/** What the checks of a slab's numbers have found. The loader knows which weight it is and throws. */
export interface SlabCheck {
  /** No infinity and no NaN in the file's rows. */
  readonly isFinite: boolean;
  /** The result of beyondFloat16. */
  readonly beyond: number | null;
}

/** Packs the rows in `file`. */
export function packSlab(slot: SlabBuffers, slab: Slab): SlabCheck {
  const { type, rows, cols } = slab;
  const file = slabFile(slot, slab);
  const [codes, scales] = slabPacked(slot, slab);
  packRows(type, file, rows, cols, codes, scales);
  const form = weightForm(type);
  const beyond = beyondFloat16(form, codes, scales, scalesRowBytes(form, cols) / 4);
  return { isFinite: areFinite(type, file), beyond };
}
