// Packs rows of the file into a matrix: the entry point for loading, and the plain float types. repack-row.ts packs one
// row of a quantized type.
import { BF16, F32, IQ1_M, IQ2_S, IQ3_XXS, NVFP4, PANEL_ROWS, panelBytes } from "./matmul-layout";
import { minOffset, scaleOffset, sourceBytes, sourceRowBytes } from "./repack-source";
import { REPACK, kernelOf } from "./matmul-types";

/**
 * Added to the exponents of a panel's f16 scales if all are below 64, which is far above the scales of real weights.
 */
const SHIFT: u32 = 10;
const LARGEST_SHIFTED: u32 = 0x5400;

/**
 * Packs rows [firstRow, firstRow + count) of a matrix [rows, cols], as in the file at `source` (any alignment), into
 * the packed matrix at `packed`. Whole panels: firstRow is a multiple of 8, and so is count unless the matrix ends.
 * Lanes of rows beyond the last one keep their old contents, which nothing reads.
 */
export function repackRows(
  type: i32, source: usize, packed: usize, rows: i32, cols: i32, firstRow: i32, count: i32,
): void {
  const rowBytes = sourceRowBytes(type, cols);
  const end = min(firstRow + count, rows);
  for (let first = firstRow; first < end; first += PANEL_ROWS) {
    const panel = packed + usize(first / PANEL_ROWS) * panelBytes(type, cols);
    const inPanel = min(PANEL_ROWS, end - first);
    const shift = type <= BF16 ? 0 : packFactor(type, panel, source, inPanel, cols);
    for (let row = 0; row < inPanel; row++, source += rowBytes) {
      if (type <= BF16) repackFloats(type, panel, source, usize(row), cols);
      else kernelOf(type, REPACK)(panel, source, usize(row), shift, cols);
    }
  }
}

/**
 * Writes a panel's factor and returns the number added to the exponents of its scales. Kernels read an f16 by moving
 * its bits into an f32, 2^112 too small; a subnormal one would stay subnormal, which costs Intel 120 cycles at each
 * use, and the scales of q6_k usually are (99.9 % of them in Gemma 3 270M). With 10 added to all exponents none is.
 */
function packFactor(type: i32, panel: usize, source: usize, rows: i32, cols: i32): u32 {
  if (scaleOffset(type) < 0) {
    // nvfp4: the scale before each block, the same for the whole panel; e2m1's values are doubled.
    store<f32>(panel, type == NVFP4 ? load<f32>(source) * 0.5 : 1);
    return 0;
  }
  let largest: u32 = 0;
  const end = source + usize(rows) * sourceRowBytes(type, cols);
  for (let block = source; block < end; block += sourceBytes(type)) {
    largest = max(largest, u32(load<u16>(block + scaleOffset(type))) & 0x7fff);
    if (minOffset(type) >= 0) largest = max(largest, u32(load<u16>(block + minOffset(type))) & 0x7fff);
  }
  const shift = largest < LARGEST_SHIFTED ? SHIFT : 0;
  store<u32>(panel, (127 + 112 - shift - unitShift(type)) << 23);
  return shift;
}

/** Scales of grid types are in units of 2^-this: format/blocks/grid.ts. */
function unitShift(type: i32): u32 {
  if (type == IQ3_XXS) return 2;
  return type >= IQ2_S && type <= IQ1_M ? 3 : 0;
}

/** Floats: the 8 rows' values of a column are adjacent. */
function repackFloats(type: i32, to: usize, source: usize, row: usize, cols: i32): void {
  if (type == F32) {
    for (let c: usize = 0; c < usize(cols); c++) store<u32>(to + c * 32 + row * 4, load<u32>(source + c * 4));
  } else {
    for (let c: usize = 0; c < usize(cols); c++) store<u16>(to + c * 16 + row * 2, load<u16>(source + c * 2));
  }
}

