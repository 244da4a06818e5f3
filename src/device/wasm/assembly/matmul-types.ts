// Every quantized type's kernels by type id and task: the one table from a number to code compiled for that type. A
// type has a few tasks over panels (multiply one to four vectors, unpack a slice, write a row, read a row), so a new
// type is one line here. The kernels are called through WebAssembly's function table, which also keeps the compilers
// (Binaryen and V8, whose time grows faster than a function) from seeing more than one task at a time.
import {
  Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4, NVFP4, IQ3_S, IQ3_XXS, IQ2_S, IQ2_XS,
  IQ2_XXS, IQ1_S, IQ1_M, TQ1_0, TQ2_0, Q1_0, Q2_0, MLX4_G32, MLX4_G64, MLX4_G128,
  MLX8_G32, MLX8_G64, MLX8_G128, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs, mxfp4,
  nvfp4, iq3, iq2, q2_0, mlx4_g32, mlx4_g64, mlx4_g128, mlx8_g32, mlx8_g64, mlx8_g128,
} from "./matmul-layout";
import { Four, Three, Two } from "./attend-work";
import { IQ1_TABLE, IQ2_TABLE, IQ3_S_TABLE, IQ3_XXS_TABLE, useTable } from "./matmul-decode";
import { embedPanelRow } from "./embed";
import { fewPanels } from "./matmul-few";
import { hasWholeScales, quadPanels } from "./matmul-quads";
import { hasSmallScales, superPanels } from "./matmul-super";
import { unpackSlice } from "./matmul-unpack";
import { vectorPanels } from "./matmul-vector";
import { repackRow } from "./repack-row";

// Tasks, and the meaning of a to d and n.
/**
 * For one token: onePanels(sums a, panel b, panel c, the token's blocks, cols n). The next numbers are for 2, 3 and
 * 4: fewPanels(.., inputs d, cols n). d: addresses of the tokens' blocks, u32.
 */
export const MULTIPLY: i32 = 0;
/** unpackSlice(scratch a, blocks b, panel c, cols n) */
export const UNPACK: i32 = 4;
/** repackRow(panel a, source b, row of the panel c, exponents added d, cols n) */
export const REPACK: i32 = 5;
/** embedPanelRow(out a, panel b, row of the panel c, cols n) */
export const EMBED: i32 = 6;

export type Kernel = (a: usize, b: usize, c: usize, d: usize, n: i32) => void;

/** The kernel for one token. */
// @ts-ignore: decorator
@inline function onePanels<T>(sums: usize, a: usize, b: usize, x: usize, cols: i32): void {
  if (hasSmallScales<T>()) superPanels<T>(sums, a, b, x, cols);
  else if (hasWholeScales<T>()) quadPanels<T>(sums, a, b, x, cols);
  else vectorPanels<T>(sums, a, b, x, cols);
}

function taskOf<T>(task: i32): Kernel {
  switch (task) {
    case MULTIPLY: return (a, b, c, d, n) => onePanels<T>(a, b, c, load<usize>(d), n);
    case MULTIPLY + 1: return (a, b, c, d, n) => fewPanels<T, Two>(a, b, c, d, n);
    case MULTIPLY + 2: return (a, b, c, d, n) => fewPanels<T, Three>(a, b, c, d, n);
    case MULTIPLY + 3: return (a, b, c, d, n) => fewPanels<T, Four>(a, b, c, d, n);
    case UNPACK: return (a, b, c, d, n) => unpackSlice<T>(a, b, c, n);
    case REPACK: return (a, b, c, d, n) => repackRow<T>(a, b, c, d, n);
    default: return (a, b, c, d, n) => embedPanelRow<T>(a, b, c, n);
  }
}

/**
 * The kernel of a quantized type for a task, valid until one of another type is requested (grid types share a table);
 * traps on an unknown id.
 */
export function kernelOf(type: i32, task: i32): Kernel {
  switch (type) {
    case Q4_0: return taskOf<q4_0>(task);
    case Q4_1: return taskOf<q4_1>(task);
    case Q5_0: return taskOf<q5_0>(task);
    case Q5_1: return taskOf<q5_1>(task);
    case Q8_0: return taskOf<q8_0>(task);
    case Q2_K: return taskOf<q2_k>(task);
    case Q3_K: return taskOf<q3_k>(task);
    case Q4_K: return taskOf<q4_k>(task);
    case Q5_K: return taskOf<q5_k>(task);
    case Q6_K: return taskOf<q6_k>(task);
    case IQ4_NL: return taskOf<iq4_nl>(task);
    case IQ4_XS: return taskOf<iq4_xs>(task);
    case MXFP4: return taskOf<mxfp4>(task);
    case NVFP4: return taskOf<nvfp4>(task);
    case IQ3_S:
      useTable(IQ3_S_TABLE);
      return taskOf<iq3>(task);
    case IQ3_XXS:
      useTable(IQ3_XXS_TABLE);
      return taskOf<iq3>(task);
    case IQ2_S:
    case IQ2_XS:
    case IQ2_XXS:
      useTable(IQ2_TABLE);
      return taskOf<iq2>(task);
    case IQ1_S:
    case IQ1_M:
      useTable(IQ1_TABLE);
      return taskOf<iq2>(task);
    case TQ1_0:
    case TQ2_0:
    case Q1_0:
    case Q2_0: return taskOf<q2_0>(task);
    case MLX4_G32: return taskOf<mlx4_g32>(task);
    case MLX4_G64: return taskOf<mlx4_g64>(task);
    case MLX4_G128: return taskOf<mlx4_g128>(task);
    case MLX8_G32: return taskOf<mlx8_g32>(task);
    case MLX8_G64: return taskOf<mlx8_g64>(task);
    case MLX8_G128: return taskOf<mlx8_g128>(task);
    default: return unreachable();
  }
}
