// Every quantized type's kernels by type id. Owns the one table from a number to code compiled for that type.
// One idea: a type has a few tasks over panels (multiply one vector or several, unpack a slice, take in a row, give out a
// row); one function of a type does all, so that a new type is one line here. Reached through WebAssembly's function
// table, which also keeps the compiler from inlining all types into one function.
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
import { unpackSlice } from "./matmul-unpack";
import { vectorPanels } from "./matmul-vector";
import { repackRow } from "./repack-row";

// Tasks, with what a to d and n mean.
/** vectorPanels(out a, panel b, panel c, activations d, cols n) */
export const VECTOR: i32 = 0;
/** unpackSlice(scratch a, blocks b, panel c, cols n) */
export const UNPACK: i32 = 1;
/** repackRow(panel a, source b, row of the panel c, exponents added d, cols n) */
export const REPACK: i32 = 2;
/** embedPanelRow(out a, panel b, row of the panel c, cols n) */
export const EMBED: i32 = 3;
/** fewPanels(sums a, panel b, panel c, inputs d, cols n) of two tokens; of three and four the next numbers. */
export const TWO: i32 = 4;
const THREE: i32 = 5;
const FOUR: i32 = 6;

export type Kernels = (task: i32, a: usize, b: usize, c: usize, d: usize, n: i32) => void;

// @ts-ignore: decorator
@inline function run<T>(task: i32, a: usize, b: usize, c: usize, d: usize, n: i32): void {
  if (task == VECTOR) vectorPanels<T>(a, b, c, d, n);
  else if (task == UNPACK) unpackSlice<T>(a, b, c, n);
  else if (task == TWO) fewPanels<T, Two>(a, b, c, d, n);
  else if (task == THREE) fewPanels<T, Three>(a, b, c, d, n);
  else if (task == FOUR) fewPanels<T, Four>(a, b, c, d, n);
  else if (task == REPACK) repackRow<T>(a, b, c, d, n);
  else embedPanelRow<T>(a, b, c, n);
}

/** The kernels of a quantized type, until it is asked for those of another (grid types share a table); traps on an id that has none. */
export function kernelsOf(type: i32): Kernels {
  switch (type) {
    case Q4_0: return (task, a, b, c, d, n) => run<q4_0>(task, a, b, c, d, n);
    case Q4_1: return (task, a, b, c, d, n) => run<q4_1>(task, a, b, c, d, n);
    case Q5_0: return (task, a, b, c, d, n) => run<q5_0>(task, a, b, c, d, n);
    case Q5_1: return (task, a, b, c, d, n) => run<q5_1>(task, a, b, c, d, n);
    case Q8_0: return (task, a, b, c, d, n) => run<q8_0>(task, a, b, c, d, n);
    case Q2_K: return (task, a, b, c, d, n) => run<q2_k>(task, a, b, c, d, n);
    case Q3_K: return (task, a, b, c, d, n) => run<q3_k>(task, a, b, c, d, n);
    case Q4_K: return (task, a, b, c, d, n) => run<q4_k>(task, a, b, c, d, n);
    case Q5_K: return (task, a, b, c, d, n) => run<q5_k>(task, a, b, c, d, n);
    case Q6_K: return (task, a, b, c, d, n) => run<q6_k>(task, a, b, c, d, n);
    case IQ4_NL: return (task, a, b, c, d, n) => run<iq4_nl>(task, a, b, c, d, n);
    case IQ4_XS: return (task, a, b, c, d, n) => run<iq4_xs>(task, a, b, c, d, n);
    case MXFP4: return (task, a, b, c, d, n) => run<mxfp4>(task, a, b, c, d, n);
    case NVFP4: return (task, a, b, c, d, n) => run<nvfp4>(task, a, b, c, d, n);
    case IQ3_S:
      useTable(IQ3_S_TABLE);
      return (task, a, b, c, d, n) => run<iq3>(task, a, b, c, d, n);
    case IQ3_XXS:
      useTable(IQ3_XXS_TABLE);
      return (task, a, b, c, d, n) => run<iq3>(task, a, b, c, d, n);
    case IQ2_S:
    case IQ2_XS:
    case IQ2_XXS:
      useTable(IQ2_TABLE);
      return (task, a, b, c, d, n) => run<iq2>(task, a, b, c, d, n);
    case IQ1_S:
    case IQ1_M:
      useTable(IQ1_TABLE);
      return (task, a, b, c, d, n) => run<iq2>(task, a, b, c, d, n);
    case TQ1_0:
    case TQ2_0:
    case Q1_0:
    case Q2_0: return (task, a, b, c, d, n) => run<q2_0>(task, a, b, c, d, n);
    case MLX4_G32: return (task, a, b, c, d, n) => run<mlx4_g32>(task, a, b, c, d, n);
    case MLX4_G64: return (task, a, b, c, d, n) => run<mlx4_g64>(task, a, b, c, d, n);
    case MLX4_G128: return (task, a, b, c, d, n) => run<mlx4_g128>(task, a, b, c, d, n);
    case MLX8_G32: return (task, a, b, c, d, n) => run<mlx8_g32>(task, a, b, c, d, n);
    case MLX8_G64: return (task, a, b, c, d, n) => run<mlx8_g64>(task, a, b, c, d, n);
    case MLX8_G128: return (task, a, b, c, d, n) => run<mlx8_g128>(task, a, b, c, d, n);
    default: return unreachable();
  }
}
