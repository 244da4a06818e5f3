/**
 * Sizes of packed weights and quantized activations: the host's mirror of assembly/matmul-layout.ts and quantize.ts,
 * checked by test/device/packing.test.ts. A matrix is panels of 8 rows, a panel is blocks of [scales][planes of codes];
 * codes keep the file's bits, except grid types, whose indices into a grid become indices into a table of 16 or 8
 * values (format/blocks/grid.ts), since a grid lookup for each 4 or 8 values would take longer than reading the
 * weights. The K types' 6-bit scales and mins are widened to bytes.
 */
import { ArgumentError } from "../../format/errors.ts";
import { BLOCKS, type TensorType } from "../../format/tensor.ts";
import { TYPES } from "./abi.js";

/** The kernels' numbers of the types. */
export const TYPE_IDS: Readonly<Record<TensorType, number>> = numbered(TYPES);

function numbered<Name extends string>(names: readonly Name[]): Record<Name, number> {
  return Object.fromEntries(names.map((name, i) => [name, i])) as Record<Name, number>;
}

/** Rows of a panel, the unit in which threads share a matrix. */
export const PANEL_ROWS = 8;

/** Bytes before a quantized panel's blocks. */
const PANEL_HEAD_BYTES = 16;

/** Codes of 4 bits with a scale for each 32; of 3 bits with one for each 16. */
const GRID4_BYTES = 16 + 8 * 8 + 8 * 128;
const GRID3_BYTES = 16 + 16 * 8 + 8 * 96;
/** Codes of 2 bits with one scale for 64. */
const Q2_BYTES = 16 + 2 * 64;

/**
 * Packed bytes of 8 rows of one block (as many columns as BLOCKS says), with packed and file bits a weight:
 *
 * | type | packed | file | | type | packed | file |
 * |---|---|---|---|---|---|---|
 * | q4_0, iq4_nl | 4.5 | 4.5 | | q2_k | 2.625 | 2.625 |
 * | q4_1 | 5 | 5 | | q3_k | 3.5625 | 3.4375 |
 * | q5_0 | 5.5 | 5.5 | | q4_k | 4.625 | 4.5 |
 * | q5_1 | 6 | 6 | | q5_k | 5.625 | 5.5 |
 * | q8_0 | 8.5 | 8.5 | | q6_k | 6.5625 | 6.5625 |
 * | mxfp4 | 4.25 | 4.25 | | iq4_xs | 4.3125 | 4.25 |
 * | iq3_s, iq3_xxs | 4.3125 | 3.4375, 3.0625 | | iq2_s, iq2_xs, iq2_xxs | 3.5625 | 2.5625, 2.3125, 2.0625 |
 * | nvfp4 | 4.5 | 4.5 | | iq1_s, iq1_m | 3.5625 | 1.5625, 1.75 |
 * | tq1_0, tq2_0 | 2.25 | 1.6875, 2.0625 | | q1_0, q2_0 | 2.25 | 1.125, 2.25 |
 * | mlx4 g32, g64, g128 | 6, 5, 4.5 | same | | mlx8 g32, g64, g128 | 10, 9, 8.5 | same |
 */
const PACKED_BLOCK_BYTES: Readonly<Record<TensorType, number>> = {
  f32: 32,
  f16: 16,
  bf16: 16,
  q4_0: 16 + 128,
  q4_1: 32 + 128,
  q5_0: 16 + 160,
  q5_1: 32 + 160,
  q8_0: 16 + 256,
  q2_k: 32 + 16 * 8 + 8 * 64,
  q3_k: 16 + 16 * 8 + 8 * 96,
  q4_k: 32 + 8 * 16 + 8 * 128,
  q5_k: 32 + 8 * 16 + 8 * 160,
  q6_k: 16 + 16 * 8 + 8 * 192,
  iq4_nl: 16 + 128,
  iq4_xs: 16 + 8 * 8 + 8 * 128,
  mxfp4: 8 + 128,
  nvfp4: 4 * 8 + 2 * 128,
  iq3_s: GRID4_BYTES,
  iq3_xxs: GRID4_BYTES,
  iq2_s: GRID3_BYTES,
  iq2_xs: GRID3_BYTES,
  iq2_xxs: GRID3_BYTES,
  iq1_s: GRID3_BYTES,
  iq1_m: GRID3_BYTES,
  tq1_0: 4 * Q2_BYTES,
  tq2_0: 4 * Q2_BYTES,
  q1_0: 2 * Q2_BYTES,
  q2_0: Q2_BYTES,
  mlx4_g32: 64 + 128,
  mlx4_g64: 64 + 2 * 128,
  mlx4_g128: 64 + 4 * 128,
  mlx8_g32: 64 + 256,
  mlx8_g64: 64 + 2 * 256,
  mlx8_g128: 64 + 4 * 256,
};

/**
 * Bytes of a packed matrix [rows, cols]; cols must be whole blocks. The last panel is whole, whatever the number of
 * rows.
 */
export function packedBytes(type: TensorType, rows: number, cols: number): number {
  const { elements } = BLOCKS[type];
  if (cols % elements !== 0)
    throw new ArgumentError(`columns of a ${type} matrix`, cols, `multiples of ${elements}`);
  const head = needsQuantizedInput(type) ? PANEL_HEAD_BYTES : 0;
  return Math.ceil(rows / PANEL_ROWS) * (head + (cols / elements) * PACKED_BLOCK_BYTES[type]);
}

/** Whether products with this type take quantized activations; plain floats take them unchanged. */
export function needsQuantizedInput(type: TensorType): boolean {
  return TYPE_IDS[type] > TYPE_IDS.bf16;
}

/**
 * Bytes of one token's quantized activations: a head, then for each block 32 bytes of facts, 32 of codes and 64 of wide
 * codes.
 */
export function quantizedBytes(cols: number): number {
  return 64 + (cols / 32) * 128;
}

/** Each thread's scratch for matmul: inputs, sums, and an unpacked slice of 1024 columns. */
export const MATMUL_SCRATCH_BYTES = 128 + 256 + 32 * 640;
