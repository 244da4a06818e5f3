// y = W x + bias: chooses the kernel, divides the work, finishes the sums. The inner loops are in matmul-vector.ts (one
// token), matmul-few.ts (up to four at once), matmul-tile.ts (a chunk of a prompt) and matmul-float.ts (f32, f16,
// bf16).
//
// Kernels leave sums of 8 rows in scratch, in units of the activation row; only this file handles y, its bias and
// panels with rows of others (at the end of a matrix, between two experts). Prompts are processed slice by slice over
// all panels, so that the slice's activations of the whole chunk stay in the second-level cache; partial sums are kept
// in y.
import {
  BF16, IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS, MLX8_G128, MLX8_G32, MLX8_G64, MXFP4,
  NVFP4, PANEL_HEAD, PANEL_ROWS, Q1_0, Q2_0, Q2_K, Q3_K, Q4_0, Q5_0, Q6_K, Q8_0, TQ1_0, TQ2_0, blockBytes, blockCols,
  iq2, mlx8_g32, panelBytes, q2_k, q4_0, q4_1, q6_k, q8_0,
} from "./matmul-layout";
import { floatPanel } from "./matmul-float";
import { tile } from "./matmul-tile";
import { MULTIPLY, UNPACK, kernelOf } from "./matmul-types";
import { SLICE, SLICE_BYTES } from "./matmul-unpack";
import { PANEL_SUMS } from "./matmul-vector";
import { BLOCK, ROW_HEAD, quantizedBytes } from "./quantize";

const PRODUCT_BYTES: usize = 64;
/** Addresses of up to 4 tokens' blocks. */
const INPUTS_BYTES: usize = 64;
/** Sums of two panels. */
const SUMS_BYTES: usize = 2 * PANEL_SUMS;
/** Bytes of each thread's scratch for matmul: a Product, inputs, sums, then an unpacked slice. */
export function matmulScratchBytes(): usize {
  return PRODUCT_BYTES + INPUTS_BYTES + SUMS_BYTES + SLICE_BYTES;
}

/**
 * From this many tokens on, unpacking a panel once for all is faster than decoding it for each four: for some types
 * from 9 on, for others from 24 (2048 x 2048, one thread of an EPYC, Node 20, 2026-11-28; lab/LOG.md).
 */
const TILE_TOKENS: i32 = 12;

type Tile = (
  sums: usize, w: usize, cols: i32, x0: usize, x1: usize, x2: usize, x3: usize, wideOffset: usize,
) => void;

/** A product of some rows of a matrix with some vectors: a matrix with all tokens, or an expert with its picks. */
// @ts-ignore: decorator
@unmanaged export class Product {
  /** f32 [.., stride / 4]: the address of row 0 of the matrix for vector 0. */
  y: usize;
  stride: usize;
  /** [.., cols] f32, for float weights, and its quantizeRows for the others. */
  x: usize;
  q: usize;
  /** The packed matrix [.., cols]; bias [..] f32 or 0. */
  w: usize;
  bias: usize;
  type: i32;
  cols: i32;
  firstRow: i32;
  lastRow: i32;
  /** The number of vectors; u32 [tokens]: their numbers in y, or 0: 0, 1, ... */
  tokens: i32;
  order: usize;
  /** Vector n of y is computed from vector n / share of x. */
  share: i32;
}

// @ts-ignore: decorator
@inline function numberOf(p: Product, n: i32): u32 {
  return p.order == 0 ? u32(n) : load<u32>(p.order + (usize(n) << 2));
}

// @ts-ignore: decorator
@inline function yOf(p: Product, n: i32): usize {
  return p.y + usize(numberOf(p, n)) * p.stride;
}

/** The input of the n-th vector, of rows of `bytes` at `at`. */
// @ts-ignore: decorator
@inline function inputOf(p: Product, at: usize, bytes: usize, n: i32): usize {
  return at + usize(numberOf(p, n) / u32(p.share)) * bytes;
}

/**
 * y [tokens, rows] f32 = W x + bias for row panels [firstPanel, lastPanel). x [tokens, cols] f32 is for float weights,
 * q (quantizeRows of x) for the others. w: packed matrix. bias: [rows] f32 or 0. scratch: matmulScratchBytes() bytes,
 * this thread's own, 16-byte aligned.
 */
export function matmul(
  y: usize, x: usize, q: usize, w: usize, type: i32, rows: i32, cols: i32, tokens: i32, bias: usize,
  firstPanel: i32, lastPanel: i32, scratch: usize,
): void {
  const product = changetype<Product>(scratch);
  product.y = y;
  product.stride = usize(rows) * 4;
  product.x = x;
  product.q = q;
  product.w = w;
  product.bias = bias;
  product.type = type;
  product.cols = cols;
  product.firstRow = 0;
  product.lastRow = rows;
  product.tokens = tokens;
  product.order = 0;
  product.share = 1;
  multiply(product, firstPanel, lastPanel);
}

/** Panels [firstPanel, lastPanel) of a product, which is stored at the start of a thread's scratch. */
export function multiply(product: Product, firstPanel: i32, lastPanel: i32): void {
  const inputs = changetype<usize>(product) + PRODUCT_BYTES;
  const sums = inputs + INPUTS_BYTES;
  if (product.type <= BF16) byFloats(product, firstPanel, lastPanel, sums);
  else if (product.tokens < TILE_TOKENS) byFew(product, firstPanel, lastPanel, inputs, sums);
  else byTile(product, firstPanel, lastPanel, sums);
}

function byFew(p: Product, firstPanel: i32, lastPanel: i32, inputs: usize, sums: usize): void {
  const rowBytes = quantizedBytes(p.cols);
  const bytes = panelBytes(p.type, p.cols);
  // Panel by panel from the start and from the middle, so that memory is read sequentially at two addresses.
  const half = (lastPanel - firstPanel + 1) >> 1;
  for (let panel = firstPanel; panel < firstPanel + half; panel++) {
    const other = panel + half < lastPanel ? panel + half : panel;
    const a = p.w + usize(panel) * bytes;
    const b = p.w + usize(other) * bytes;
    for (let t = 0; t < p.tokens; t += 4) {
      const last = min(t + 4, p.tokens) - 1;
      for (let n = t; n <= last; n++) {
        store<usize>(inputs + (usize(n - t) << 2), inputOf(p, p.q, rowBytes, n) + ROW_HEAD);
      }
      kernelOf(p.type, MULTIPLY + last - t)(sums, a, b, inputs, p.cols);
      for (let n = t; n <= last; n++) {
        const y = yOf(p, n);
        const unit = load<f32>(inputOf(p, p.q, rowBytes, n));
        const at = sums + usize(n - t) * 32;
        finish(p, y, at, panel, unit, true);
        if (other != panel) finish(p, y, at + PANEL_SUMS, other, unit, true);
      }
    }
  }
}

function byTile(p: Product, firstPanel: i32, lastPanel: i32, scratch: usize): void {
  const unpack = kernelOf(p.type, UNPACK);
  const kernel = tileKernel(p.type);
  const cols = p.cols;
  const rowBytes = quantizedBytes(cols);
  const wideOffset = usize(cols / 32) * BLOCK;
  const slice = scratch + SUMS_BYTES;
  for (let col = 0; col < cols; col += SLICE) {
    const width = min(SLICE, cols - col);
    const isLast = col + width == cols;
    const blocks = PANEL_HEAD + usize(col / blockCols(p.type)) * blockBytes(p.type);
    const q = p.q + ROW_HEAD + usize(col / 32) * BLOCK;
    for (let panel = firstPanel; panel < lastPanel; panel++) {
      const at = p.w + usize(panel) * panelBytes(p.type, cols);
      unpack(slice, at + blocks, at, 0, width);
      for (let t = 0; t < p.tokens; t += 4) {
        const last = min(t + 4, p.tokens) - 1;
        for (let n = t; n <= last; n++) resume(p, yOf(p, n), scratch + usize(n - t) * 32, panel, col == 0);
        // A last tile of fewer tokens repeats one of them; those sums are ignored.
        kernel(
          scratch, slice, width, inputOf(p, q, rowBytes, t), inputOf(p, q, rowBytes, min(t + 1, last)),
          inputOf(p, q, rowBytes, min(t + 2, last)), inputOf(p, q, rowBytes, last), wideOffset,
        );
        for (let n = t; n <= last; n++) {
          const unit: f32 = isLast ? load<f32>(inputOf(p, p.q, rowBytes, n)) : 1;
          finish(p, yOf(p, n), scratch + usize(n - t) * 32, panel, unit, isLast);
        }
      }
    }
  }
}

function byFloats(p: Product, firstPanel: i32, lastPanel: i32, sums: usize): void {
  const bytes = usize(p.cols) * 4;
  for (let panel = firstPanel; panel < lastPanel; panel++) {
    const at = p.w + usize(panel) * panelBytes(p.type, p.cols);
    for (let t = 0; t < p.tokens; t += 4) {
      const last = min(t + 4, p.tokens) - 1;
      floatPanel(
        sums, at, p.type, p.cols, inputOf(p, p.x, bytes, t), inputOf(p, p.x, bytes, min(t + 1, last)),
        inputOf(p, p.x, bytes, min(t + 2, last)), inputOf(p, p.x, bytes, last),
      );
      for (let n = t; n <= last; n++) finish(p, yOf(p, n), sums + usize(n - t) * 32, panel, 1, true);
    }
  }
}

/** Writes y's rows of a panel: sums * unit, plus the bias once all columns are included. */
function finish(p: Product, y: usize, sums: usize, panel: i32, unit: f32, isLast: bool): void {
  const row = panel * PANEL_ROWS;
  const at = usize(row) * 4;
  const bias = isLast ? p.bias : 0;
  if (row >= p.firstRow && row + PANEL_ROWS <= p.lastRow) {
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
  const end = min(row + PANEL_ROWS, p.lastRow);
  for (let r = max(row, p.firstRow); r < end; r++) {
    const to = usize(r) * 4;
    store<f32>(y + to, load<f32>(sums + to - at) * unit + (bias != 0 ? load<f32>(bias + to) : 0));
  }
}

/** Loads partial sums from y, or zeros. Not memory.copy and fill: V8 leaves WASM for those (2 %). */
function resume(p: Product, y: usize, sums: usize, panel: i32, isFirst: bool): void {
  const row = panel * PANEL_ROWS;
  const at = y + usize(row) * 4;
  if (isFirst) {
    v128.store(sums, f32x4.splat(0));
    v128.store(sums, f32x4.splat(0), 16);
  } else if (row >= p.firstRow && row + PANEL_ROWS <= p.lastRow) {
    v128.store(sums, v128.load(at));
    v128.store(sums, v128.load(at, 16), 16);
  } else {
    const end = min(row + PANEL_ROWS, p.lastRow);
    for (let r = max(row, p.firstRow); r < end; r++) {
      const from = usize(r - row) * 4;
      store<f32>(sums + from, load<f32>(at + from));
    }
  }
}

/** One kernel for each kind of unpacked slice, named by a type of that kind. */
function tileKernel(type: i32): Tile {
  switch (type) {
    case Q2_K: return (s, w, n, a, b, c, d, wide) => tile<q2_k>(s, w, n, a, b, c, d, wide);
    case Q3_K:
    case NVFP4:
    case Q6_K: return (s, w, n, a, b, c, d, wide) => tile<q6_k>(s, w, n, a, b, c, d, wide);
    case IQ2_S:
    case IQ2_XS:
    case IQ2_XXS:
    case IQ1_S:
    case IQ1_M: return (s, w, n, a, b, c, d, wide) => tile<iq2>(s, w, n, a, b, c, d, wide);
    case Q8_0:
    case IQ4_NL:
    case IQ3_S:
    case IQ3_XXS:
    case IQ4_XS: return (s, w, n, a, b, c, d, wide) => tile<q8_0>(s, w, n, a, b, c, d, wide);
    case MLX8_G32:
    case MLX8_G64:
    case MLX8_G128: return (s, w, n, a, b, c, d, wide) => tile<mlx8_g32>(s, w, n, a, b, c, d, wide);
    case Q4_0:
    case Q5_0:
    case MXFP4:
    case TQ1_0:
    case TQ2_0:
    case Q1_0:
    case Q2_0: return (s, w, n, a, b, c, d, wide) => tile<q4_0>(s, w, n, a, b, c, d, wide);
    default: return (s, w, n, a, b, c, d, wide) => tile<q4_1>(s, w, n, a, b, c, d, wide);
  }
}
