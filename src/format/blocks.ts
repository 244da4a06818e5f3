/**
 * Dequantizes blocks: the definition of every tensor type, against which the kernels of all devices are tested. This
 * file selects by type and checks lengths; the layouts are in blocks/, one file for each family of types. The
 * arithmetic is float32, one operation at a time as in ggml's plain C: every product and sum is rounded with
 * Math.fround (or by being stored). It is not meant to be fast.
 */
import { iq4_nl, iq4_xs, mxfp4, nvfp4 } from "./blocks/codebook.ts";
import { dequantizeGrid, GRID_TYPES } from "./blocks/grid.ts";
import { q2_k, q3_k, q4_k, q5_k, q6_k } from "./blocks/k-quants.ts";
import { mlx } from "./blocks/mlx.ts";
import { bf16, f16, f32 } from "./blocks/plain.ts";
import { q4_0, q4_1, q5_0, q5_1, q8_0 } from "./blocks/simple.ts";
import { dequantizeTernary, TERNARY_TYPES } from "./blocks/ternary.ts";
import { ArgumentError } from "./errors.ts";
import { BLOCKS, rowBytes, type TensorType } from "./tensor.ts";

/** Expands whole blocks: `bytes` into as many floats as they hold. Lengths have been checked. */
type Dequantize = (bytes: Uint8Array, out: Float32Array) => void;

const BY_TYPE: Readonly<Record<TensorType, Dequantize>> = {
  f32,
  f16,
  bf16,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
  nvfp4,
  iq3_s: dequantizeGrid(GRID_TYPES.iq3_s),
  iq3_xxs: dequantizeGrid(GRID_TYPES.iq3_xxs),
  iq2_s: dequantizeGrid(GRID_TYPES.iq2_s),
  iq2_xs: dequantizeGrid(GRID_TYPES.iq2_xs),
  iq2_xxs: dequantizeGrid(GRID_TYPES.iq2_xxs),
  iq1_s: dequantizeGrid(GRID_TYPES.iq1_s),
  iq1_m: dequantizeGrid(GRID_TYPES.iq1_m),
  tq1_0: dequantizeTernary(TERNARY_TYPES.tq1_0),
  tq2_0: dequantizeTernary(TERNARY_TYPES.tq2_0),
  q1_0: dequantizeTernary(TERNARY_TYPES.q1_0),
  q2_0: dequantizeTernary(TERNARY_TYPES.q2_0),
  mlx4_g32: mlx(4, 32),
  mlx4_g64: mlx(4, 64),
  mlx4_g128: mlx(4, 128),
  mlx8_g32: mlx(8, 32),
  mlx8_g64: mlx(8, 64),
  mlx8_g128: mlx(8, 128),
};

/**
 * Dequantizes `out.length` values, a multiple of the block size, from exactly their bytes. Throws ArgumentError
 * otherwise. Values equal ggml's bit for bit (its plain C, without fused multiply-add).
 */
export function dequantize(type: TensorType, bytes: Uint8Array, out: Float32Array): void {
  const { elements } = BLOCKS[type];
  if (out.length % elements !== 0) {
    throw new ArgumentError(`length of out for ${type}`, out.length, `multiples of ${elements}`);
  }
  if (bytes.length !== rowBytes(type, out.length)) {
    throw new ArgumentError(
      `bytes of ${out.length} ${type} values`,
      bytes.length,
      `${rowBytes(type, out.length)}`,
    );
  }
  BY_TYPE[type](bytes, out);
}
