/**
 * The staging form of a matrix while it is packed: rows as in the file, except that blocks of grid types are unpacked,
 * so that only format/ knows grids, and ternary types are converted to q2_0. repack-source.ts reads it.
 */
import { GRID_TYPES, type GridType, gridBlock, isGridType } from "../../format/blocks/grid.ts";
import { isTernaryType, Q2_BYTES, Q2_VALUES, TERNARY_TYPES, toQ2 } from "../../format/blocks/ternary.ts";
import { rowBytes, type Tensor, type TensorType } from "../../format/tensor.ts";

/** [d f16][odd scales, u8 x 16][codes, u8 x 256] */
const UNPACKED_BYTES = 18 + 256;

/** Bytes of a row of `cols` elements in staging. */
export function stagedRowBytes(type: TensorType, cols: number): number {
  if (isGridType(type)) return (cols / 256) * UNPACKED_BYTES;
  return isTernaryType(type) ? (cols / Q2_VALUES) * Q2_BYTES : rowBytes(type, cols);
}

/** Reads rows [first, first + rows) into staging: `into` is rows * stagedRowBytes bytes. */
export async function stageRows(
  tensor: Tensor,
  first: number,
  rows: number,
  into: Uint8Array,
): Promise<void> {
  const { type, cols } = tensor;
  if (!isGridType(type) && !isTernaryType(type)) return tensor.readRows(first, rows, into);
  const file = new Uint8Array(rows * rowBytes(type, cols));
  await tensor.readRows(first, rows, file);
  stageBytes(type, file, into);
}

/** Converts whole blocks of a file into the staging form. */
export function stageBytes(type: TensorType, file: Uint8Array, into: Uint8Array): void {
  if (isGridType(type)) unpackGrid(GRID_TYPES[type], file, into);
  else if (isTernaryType(type)) toQ2(TERNARY_TYPES[type], file, into);
  else into.set(file);
}

function unpackGrid({ bytes, unpack }: GridType, file: Uint8Array, into: Uint8Array): void {
  const block = gridBlock();
  const codes = new Uint8Array(block.codes.buffer);
  for (let at = 0, to = 0; at < file.length; at += bytes, to += UNPACKED_BYTES) {
    const d = unpack(file, at, block);
    into[to] = d & 0xff;
    into[to + 1] = d >> 8;
    into.set(block.odds, to + 2);
    into.set(codes, to + 18);
  }
}
