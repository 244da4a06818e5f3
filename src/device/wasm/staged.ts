/**
 * What lies in staging while a matrix is packed: rows as in the file, but blocks of grid types unpacked, so that grids are
 * known to format/ alone. repack-source.ts reads it.
 */
import { GRID_TYPES, gridBlock, isGridType } from "../../format/blocks/grid.ts";
import { rowBytes, type Tensor, type TensorType } from "../../format/tensor.ts";

/** [d f16][odd scales, u8 x 16][codes, u8 x 256] */
const UNPACKED_BYTES = 18 + 256;

/** Bytes of a row of `cols` elements in staging. */
export function stagedRowBytes(type: TensorType, cols: number): number {
  return isGridType(type) ? (cols / 256) * UNPACKED_BYTES : rowBytes(type, cols);
}

/** Reads rows [first, first + rows) into staging: `into` is rows * stagedRowBytes bytes. */
export async function stageRows(
  tensor: Tensor,
  first: number,
  rows: number,
  into: Uint8Array,
): Promise<void> {
  const { type, cols } = tensor;
  if (!isGridType(type)) return tensor.readRows(first, rows, into);
  const file = new Uint8Array(rows * rowBytes(type, cols));
  await tensor.readRows(first, rows, file);
  stageBytes(type, file, into);
}

/** Whole blocks of a file -> the same in staging. */
export function stageBytes(type: TensorType, file: Uint8Array, into: Uint8Array): void {
  if (!isGridType(type)) {
    into.set(file);
    return;
  }
  const { bytes, unpack } = GRID_TYPES[type];
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
