// Rows as they are in the file -> the packed matrix: the entry for loading, and the plain float types. Owns the loop
// over rows; one row of a quantized type is repack-row.ts.
import { BF16, F32, PANEL_ROWS, panelBytes } from "./matmul-layout";
import { sourceRowBytes } from "./repack-source";
import { REPACK, kernelsOf } from "./matmul-types";

/**
 * Rows [firstRow, firstRow + count) of a matrix [rows, cols], as in the file at `source` (any alignment), into the
 * packed matrix at `packed`. Lanes of rows beyond the last one keep what was there; no one reads them.
 */
export function repackRows(
  type: i32, source: usize, packed: usize, rows: i32, cols: i32, firstRow: i32, count: i32,
): void {
  const rowBytes = sourceRowBytes(type, cols);
  for (let row = firstRow; row < min(firstRow + count, rows); row++, source += rowBytes) {
    const panel = packed + usize(row / PANEL_ROWS) * panelBytes(type, cols);
    if (type <= BF16) repackFloats(type, panel, source, usize(row % PANEL_ROWS), cols);
    else kernelsOf(type)(REPACK, panel, source, usize(row % PANEL_ROWS), 0, cols);
  }
}

/** Floats: the 8 rows' values of a column lie side by side. */
function repackFloats(type: i32, to: usize, source: usize, row: usize, cols: i32): void {
  if (type == F32) {
    for (let c: usize = 0; c < usize(cols); c++) store<u32>(to + c * 32 + row * 4, load<u32>(source + c * 4));
  } else {
    for (let c: usize = 0; c < usize(cols); c++) store<u16>(to + c * 16 + row * 2, load<u16>(source + c * 2));
  }
}

