// y = W x + bias: chooses the kernel, cuts the work, finishes the sums. Owns the order of loops; the inner loops are
// matmul-vector.ts (few tokens), matmul-tile.ts (a chunk of a prompt) and matmul-float.ts (f32, f16, bf16).
//
// One idea: kernels leave sums of 8 rows in scratch, in units of the activation row; this file alone knows y, its bias
// and that the last panel may have fewer rows. Prompts go slice by slice over all panels, so that the slice's
// activations of the whole chunk stay in the second-level cache; partial sums wait in y.
import {
  BF16, IQ4_NL, IQ4_XS, MLX8_G128, MLX8_G32, MLX8_G64, MXFP4, PANEL_HEAD, PANEL_ROWS, Q2_K, Q3_K, Q4_0, Q5_0, Q6_K,
  Q8_0, blockBytes, blockCols, mlx8_g32, panelBytes, q2_k, q4_0, q4_1, q6_k, q8_0,
} from "./matmul-layout";
import { floatPanel } from "./matmul-float";
import { tile } from "./matmul-tile";
import { UNPACK, VECTOR, kernelsOf } from "./matmul-types";
import { SLICE, SLICE_BYTES } from "./matmul-unpack";
import { BLOCK, ROW_HEAD, quantizedBytes } from "./quantize";

/** Sums of 4 tokens x 8 rows. */
const SUMS_BYTES: usize = 128;
/** Bytes of scratch that each thread gives to matmul: sums, then an unpacked slice. */
export function matmulScratchBytes(): usize {
  return SUMS_BYTES + SLICE_BYTES;
}

/** From this many tokens on, unpacking a panel and using it for all beats decoding it for each. */
const TILE_TOKENS: i32 = 4;

type Tile = (
  sums: usize, w: usize, cols: i32, x0: usize, x1: usize, x2: usize, x3: usize, wideOffset: usize,
) => void;

/**
 * y [tokens, rows] f32 = W x + bias for row panels [firstPanel, lastPanel). x [tokens, cols] f32 serves float weights,
 * q (quantizeRows of x) the others. w: packed matrix. bias: [rows] f32 or 0. scratch: matmulScratchBytes() bytes of
 * the calling thread's own, 16-byte aligned.
 */
export function matmul(
  y: usize, x: usize, q: usize, w: usize, type: i32, rows: i32, cols: i32, tokens: i32, bias: usize,
  firstPanel: i32, lastPanel: i32, scratch: usize,
): void {
  if (type <= BF16) {
    byFloats(y, x, w, type, rows, cols, tokens, bias, firstPanel, lastPanel, scratch);
  } else if (tokens < TILE_TOKENS) {
    byVector(y, q, w, type, rows, cols, tokens, bias, firstPanel, lastPanel, scratch);
  } else {
    byTile(y, q, w, type, rows, cols, tokens, bias, firstPanel, lastPanel, scratch);
  }
}

function byVector(
  y: usize, q: usize, w: usize, type: i32, rows: i32, cols: i32, tokens: i32, bias: usize,
  firstPanel: i32, lastPanel: i32, sums: usize,
): void {
  const kernels = kernelsOf(type);
  const rowBytes = quantizedBytes(cols);
  // Panel by panel from the start and from the middle, so that memory is read at two places in order.
  const half = (lastPanel - firstPanel + 1) >> 1;
  for (let panel = firstPanel; panel < firstPanel + half; panel++) {
    const other = panel + half < lastPanel ? panel + half : panel;
    const a = w + usize(panel) * panelBytes(type, cols);
    const b = w + usize(other) * panelBytes(type, cols);
    for (let t = 0; t < tokens; t++) {
      const row = q + usize(t) * rowBytes;
      const to = y + usize(t) * usize(rows) * 4;
      kernels(VECTOR, sums, a, b, row + ROW_HEAD, cols);
      finish(to, sums, panel, rows, load<f32>(row), bias);
      if (other != panel) finish(to, sums + 32, other, rows, load<f32>(row), bias);
    }
  }
}

function byTile(
  y: usize, q: usize, w: usize, type: i32, rows: i32, cols: i32, tokens: i32, bias: usize,
  firstPanel: i32, lastPanel: i32, scratch: usize,
): void {
  const kernels = kernelsOf(type);
  const kernel = tileKernel(type);
  const rowBytes = quantizedBytes(cols);
  const wideOffset = usize(cols / 32) * BLOCK;
  const slice = scratch + SUMS_BYTES;
  for (let col = 0; col < cols; col += SLICE) {
    const width = min(SLICE, cols - col);
    const isLast = col + width == cols;
    for (let panel = firstPanel; panel < lastPanel; panel++) {
      const at = w + usize(panel) * panelBytes(type, cols);
      kernels(UNPACK, slice, at + PANEL_HEAD + usize(col / blockCols(type)) * blockBytes(type), at, 0, width);
      for (let t = 0; t < tokens; t += 4) {
        const count = min(4, tokens - t);
        for (let n = 0; n < count; n++) {
          resume(y + usize(t + n) * usize(rows) * 4, scratch + usize(n) * 32, panel, rows, col == 0);
        }
        // A last tile of fewer tokens repeats one of them; those sums are left where they are.
        const row = q + usize(t) * rowBytes;
        const x0 = row + ROW_HEAD + usize(col / 32) * BLOCK;
        kernel(
          scratch, slice, width, x0, x0 + usize(min(1, count - 1)) * rowBytes, x0 + usize(min(2, count - 1)) * rowBytes,
          x0 + usize(count - 1) * rowBytes, wideOffset,
        );
        for (let n = 0; n < count; n++) {
          const unit: f32 = isLast ? load<f32>(row + usize(n) * rowBytes) : 1;
          finish(y + usize(t + n) * usize(rows) * 4, scratch + usize(n) * 32, panel, rows, unit, isLast ? bias : 0);
        }
      }
    }
  }
}

function byFloats(
  y: usize, x: usize, w: usize, type: i32, rows: i32, cols: i32, tokens: i32, bias: usize,
  firstPanel: i32, lastPanel: i32, sums: usize,
): void {
  const xBytes = usize(cols) * 4;
  for (let panel = firstPanel; panel < lastPanel; panel++) {
    const at = w + usize(panel) * panelBytes(type, cols);
    for (let t = 0; t < tokens; t += 4) {
      const count = min(4, tokens - t);
      const x0 = x + usize(t) * xBytes;
      floatPanel(
        sums, at, type, cols, x0, x0 + usize(min(1, count - 1)) * xBytes, x0 + usize(min(2, count - 1)) * xBytes,
        x0 + usize(count - 1) * xBytes,
      );
      for (let n = 0; n < count; n++) finish(y + usize(t + n) * usize(rows) * 4, sums + usize(n) * 32, panel, rows, 1, bias);
    }
  }
}

/** y's rows of a panel = sums * unit + bias. */
function finish(y: usize, sums: usize, panel: i32, rows: i32, unit: f32, bias: usize): void {
  const row = panel * PANEL_ROWS;
  const at = usize(row) * 4;
  if (row + PANEL_ROWS <= rows) {
    const scale = f32x4.splat(unit);
    let a = f32x4.mul(v128.load(sums), scale);
    let b = f32x4.mul(v128.load(sums, 16), scale);
    if (bias != 0) {
      a = f32x4.add(a, v128.load(bias + at));
      b = f32x4.add(b, v128.load(bias + at, 16));
    }
    v128.store(y + at, a);
    v128.store(y + at, b, 16);
    return;
  }
  for (let r: usize = 0; r < usize(rows - row) * 4; r += 4) {
    store<f32>(y + at + r, load<f32>(sums + r) * unit + (bias != 0 ? load<f32>(bias + at + r) : 0));
  }
}

/** Partial sums back from y, or zeros. Not memory.copy and fill: V8 leaves WASM for those (2 %). */
function resume(y: usize, sums: usize, panel: i32, rows: i32, isFirst: bool): void {
  const row = panel * PANEL_ROWS;
  const at = y + usize(row) * 4;
  if (isFirst) {
    v128.store(sums, f32x4.splat(0));
    v128.store(sums, f32x4.splat(0), 16);
  } else if (row + PANEL_ROWS <= rows) {
    v128.store(sums, v128.load(at));
    v128.store(sums, v128.load(at, 16), 16);
  } else {
    for (let r: usize = 0; r < usize(rows - row) * 4; r += 4) store<f32>(sums + r, load<f32>(at + r));
  }
}

/** One kernel for each kind of unpacked slice, named by a type of that kind. */
function tileKernel(type: i32): Tile {
  switch (type) {
    case Q2_K: return (s, w, n, a, b, c, d, wide) => tile<q2_k>(s, w, n, a, b, c, d, wide);
    case Q3_K:
    case Q6_K: return (s, w, n, a, b, c, d, wide) => tile<q6_k>(s, w, n, a, b, c, d, wide);
    case Q8_0:
    case IQ4_NL:
    case IQ4_XS: return (s, w, n, a, b, c, d, wide) => tile<q8_0>(s, w, n, a, b, c, d, wide);
    case MLX8_G32:
    case MLX8_G64:
    case MLX8_G128: return (s, w, n, a, b, c, d, wide) => tile<mlx8_g32>(s, w, n, a, b, c, d, wide);
    case Q4_0:
    case Q5_0:
    case MXFP4: return (s, w, n, a, b, c, d, wide) => tile<q4_0>(s, w, n, a, b, c, d, wide);
    default: return (s, w, n, a, b, c, d, wide) => tile<q4_1>(s, w, n, a, b, c, d, wide);
  }
}
