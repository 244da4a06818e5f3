/**
 * A piece of a matrix: rows of a file in one buffer -> packed rows in another, codes first. What threads that pack run
 * (pack-worker.js), and what packs where there are none. Owns where codes and scales of a piece lie, and how many rows it has.
 */
import { rowBytes, type TensorType } from "../../format/tensor.ts";
import { packRows } from "./pack.ts";
import { codesRowBytes, scalesRowBytes, weightForm } from "./weights.ts";

/** Of the file, and of what is packed. */
const PIECE_BYTES = 8 * 1024 * 1024;

/** Two buffers that go from piece to piece, and to threads and back. */
export interface Slot {
  file: ArrayBuffer;
  packed: ArrayBuffer;
}

export interface PackPiece {
  readonly type: TensorType;
  readonly rows: number;
  readonly cols: number;
}

/** Most rows of a piece; one row may be longer than a piece otherwise is. */
export function pieceRows(type: TensorType, cols: number): number {
  const { codes, scales } = packedBytes({ type, rows: 1, cols });
  return Math.max(1, Math.floor(PIECE_BYTES / Math.max(rowBytes(type, cols), codes + scales)));
}

function packedBytes({ type, rows, cols }: PackPiece): { codes: number; scales: number } {
  const form = weightForm(type);
  return { codes: rows * codesRowBytes(form, cols), scales: rows * scalesRowBytes(form, cols) };
}

/** The slot's file, as long as the piece's rows. */
export function pieceFile(slot: Slot, { type, rows, cols }: PackPiece): Uint8Array<ArrayBuffer> {
  const bytes = rows * rowBytes(type, cols);
  if (slot.file.byteLength < bytes) slot.file = new ArrayBuffer(bytes);
  return new Uint8Array(slot.file, 0, bytes);
}

/** Codes and scales of a piece, in the slot. */
export function piecePacked(
  slot: Slot,
  piece: PackPiece,
): [Uint32Array<ArrayBuffer>, Uint32Array<ArrayBuffer>] {
  const { codes, scales } = packedBytes(piece);
  if (slot.packed.byteLength < codes + scales) slot.packed = new ArrayBuffer(codes + scales);
  return [new Uint32Array(slot.packed, 0, codes / 4), new Uint32Array(slot.packed, codes, scales / 4)];
}

/** Packs the rows that lie in `file`. */
export function packPiece(slot: Slot, piece: PackPiece): void {
  const { type, rows, cols } = piece;
  const [codes, scales] = piecePacked(slot, piece);
  packRows(type, pieceFile(slot, piece), rows, cols, codes, scales);
}
