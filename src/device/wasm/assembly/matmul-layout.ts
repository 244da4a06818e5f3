// The memory layout of packed matrices: type ids, sizes and the facts that distinguish types (mirrored by
// ../packing.ts, which a test checks); decoding is in matmul-decode.ts, packing in repack*.ts.
//
// 8 rows form a panel, a panel is a sequence of blocks along the columns, a block is [scales of the 8 rows] then, for
// every 32 columns, planes of code bits. Each 16 bytes of a plane hold 4 rows x 4 adjacent columns (a "group"), so that
// one 4-byte group of activations, broadcast, is multiplied with 4 rows at once and sums stay in their rows' lanes.
// Codes are the file's; only their order differs: 3-bit codes are divided into planes of 2 and 1 bits, and of 5- and
// 6-bit codes most are whole in a byte, whose other bits hold the rest. f16 scales may have 10 added to their exponents, which the panel's factor compensates (repack.ts): exact.

import {
  BF16, F32, IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS, MLX4_G128, MLX4_G32, MLX4_G64, MLX8_G128,
  MLX8_G32, MLX8_G64, MXFP4, NVFP4, Q1_0, Q2_0, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, TQ1_0, TQ2_0,
} from "./abi/types";

export * from "./abi/types";

/** Rows of a panel: the unit in which threads share a matrix. */
export const PANEL_ROWS: i32 = 8;

// A type as a type argument: `kernel<q4_0>()` is compiled for that type only, with every question below answered at
// compile time.
// @ts-ignore: decorator
@unmanaged export class q4_0 { @inline get id(): i32 { return Q4_0; } }
// @ts-ignore: decorator
@unmanaged export class q4_1 { @inline get id(): i32 { return Q4_1; } }
// @ts-ignore: decorator
@unmanaged export class q5_0 { @inline get id(): i32 { return Q5_0; } }
// @ts-ignore: decorator
@unmanaged export class q5_1 { @inline get id(): i32 { return Q5_1; } }
// @ts-ignore: decorator
@unmanaged export class q8_0 { @inline get id(): i32 { return Q8_0; } }
// @ts-ignore: decorator
@unmanaged export class q2_k { @inline get id(): i32 { return Q2_K; } }
// @ts-ignore: decorator
@unmanaged export class q3_k { @inline get id(): i32 { return Q3_K; } }
// @ts-ignore: decorator
@unmanaged export class q4_k { @inline get id(): i32 { return Q4_K; } }
// @ts-ignore: decorator
@unmanaged export class q5_k { @inline get id(): i32 { return Q5_K; } }
// @ts-ignore: decorator
@unmanaged export class q6_k { @inline get id(): i32 { return Q6_K; } }
// @ts-ignore: decorator
@unmanaged export class iq4_nl { @inline get id(): i32 { return IQ4_NL; } }
// @ts-ignore: decorator
@unmanaged export class iq4_xs { @inline get id(): i32 { return IQ4_XS; } }
// @ts-ignore: decorator
@unmanaged export class mxfp4 { @inline get id(): i32 { return MXFP4; } }
// @ts-ignore: decorator
@unmanaged export class nvfp4 { @inline get id(): i32 { return NVFP4; } }
// @ts-ignore: decorator
@unmanaged export class q2_0 { @inline get id(): i32 { return Q2_0; } }
// @ts-ignore: decorator
@unmanaged export class iq3 { @inline get id(): i32 { return IQ3_S; } }
// @ts-ignore: decorator
@unmanaged export class iq2 { @inline get id(): i32 { return IQ2_S; } }
// @ts-ignore: decorator
@unmanaged export class mlx4_g32 { @inline get id(): i32 { return MLX4_G32; } }
// @ts-ignore: decorator
@unmanaged export class mlx4_g64 { @inline get id(): i32 { return MLX4_G64; } }
// @ts-ignore: decorator
@unmanaged export class mlx4_g128 { @inline get id(): i32 { return MLX4_G128; } }
// @ts-ignore: decorator
@unmanaged export class mlx8_g32 { @inline get id(): i32 { return MLX8_G32; } }
// @ts-ignore: decorator
@unmanaged export class mlx8_g64 { @inline get id(): i32 { return MLX8_G64; } }
// @ts-ignore: decorator
@unmanaged export class mlx8_g128 { @inline get id(): i32 { return MLX8_G128; } }

/** The type id of a type argument. */
// @ts-ignore: decorator
@inline export function typeOf<T>(): i32 {
  return changetype<T>(0).id;
}

/** MLX affine groups: f32 scale and bias. */
// @ts-ignore: decorator
@inline export function isMlx(T: i32): bool {
  return T >= MLX4_G32;
}

/** Codes are indices into a table of 16 values (isGrid4) or of 8. */
// @ts-ignore: decorator
@inline export function isGrid(T: i32): bool {
  return T >= IQ3_S && T <= IQ1_M;
}
// @ts-ignore: decorator
@inline export function isGrid4(T: i32): bool {
  return T == IQ3_S || T == IQ3_XXS;
}

/** Codes of two bits, minus 1, with one f16 scale for 64 columns. */
// @ts-ignore: decorator
@inline export function isTernary(T: i32): bool {
  return T >= TQ1_0 && T <= Q2_0;
}

/** Types whose f16 `d` covers 256 columns, with small integer scales for 16 or 32 of them. */
// @ts-ignore: decorator
@inline export function isSuperblock(T: i32): bool {
  return (T >= Q2_K && T <= Q6_K) || T == IQ4_XS || isGrid(T);
}

/** Columns of a block. */
// @ts-ignore: decorator
@inline export function blockCols(T: i32): i32 {
  if (T <= BF16) return 1;
  if (isSuperblock(T)) return 256;
  if (T == MLX4_G64 || T == MLX8_G64 || T == NVFP4 || isTernary(T)) return 64;
  if (T == MLX4_G128 || T == MLX8_G128) return 128;
  return 32;
}

/** Bytes of scales before a block's codes, for 8 rows. */
// @ts-ignore: decorator
@inline export function headBytes(T: i32): usize {
  if (T <= BF16) return 0;
  if (isMlx(T)) return 64; // [scale f32 x 8][bias f32 x 8]
  if (T == MXFP4) return 8; // [exponent u8 x 8]
  if (T == NVFP4) return 4 * 8; // for each 16 columns [scale e4m3 x 8]; the f32 scale is in the panel's factor
  if (T == Q4_1 || T == Q5_1) return 32; // [d f16 x 8][m f16 x 8]
  if (T == Q4_K || T == Q5_K) return 32 + 8 * 16; // [d][dMin] then for each 32 columns [scale u8 x 8][min u8 x 8]
  if (T == Q2_K) return 32 + 16 * 8; // [d][dMin] then for each 16 columns [scale | min << 4, u8 x 8]
  if (T == Q3_K || T == Q6_K || (isGrid(T) && !isGrid4(T))) return 16 + 16 * 8; // [d] then for each 16 columns [scale i8 x 8]
  if (T == IQ4_XS || isGrid4(T)) return 16 + 8 * 8; // [d] then for each 32 columns [scale i8 x 8]
  return 16; // [d f16 x 8]
}

/**
 * Codes of 5 bits: 8 groups in 5 vectors. Groups 0 to 4 are the low bits; 5 and 6 have three bits above groups 0 and 2 and
 * two above 1 and 3; 7 has three above group 4 and one each above 1 and 3.
 */
// @ts-ignore: decorator
@inline export function hasFives(T: i32): bool {
  return T == Q5_0 || T == Q5_1 || T == Q5_K;
}
/** Codes of 6 bits: 4 groups in 3 vectors. The last one's bits are above the others': its lowest pair above the first. */
// @ts-ignore: decorator
@inline export function hasSixes(T: i32): bool {
  return T == Q6_K;
}

/** The code bits that are stored 8 to a byte (whole codes), 4 (nibbles), 2 and 1; a code is assembled in that order. */
// @ts-ignore: decorator
@inline export function hasBytes(T: i32): bool {
  return T == Q8_0 || T >= MLX8_G32;
}
// @ts-ignore: decorator
@inline export function hasNibbles(T: i32): bool {
  if (hasBytes(T) || hasFives(T) || hasSixes(T)) return false;
  return T != Q2_K && T != Q3_K && !isTernary(T) && (!isGrid(T) || isGrid4(T));
}
// @ts-ignore: decorator
@inline export function hasPairs(T: i32): bool {
  return isTernary(T) || T == Q2_K || T == Q3_K || (isGrid(T) && !isGrid4(T));
}
// @ts-ignore: decorator
@inline export function hasSingles(T: i32): bool {
  return T == Q3_K || (isGrid(T) && !isGrid4(T));
}

/** Bytes of codes of 8 rows x 32 columns: whole codes, else nibble plane, then pair plane, then single-bit plane. */
// @ts-ignore: decorator
@inline export function codeBytes(T: i32): usize {
  if (hasBytes(T)) return 256;
  if (hasFives(T)) return 160;
  if (hasSixes(T)) return 192;
  return (hasNibbles(T) ? 128 : 0) + (hasPairs(T) ? 64 : 0) + (hasSingles(T) ? 32 : 0);
}

/** Bytes of 8 rows of a block. */
// @ts-ignore: decorator
@inline export function blockBytes(T: i32): usize {
  if (T == F32) return 32;
  if (T <= BF16) return 16;
  return headBytes(T) + codeBytes(T) * usize(blockCols(T) / 32);
}

/** value = scale * (code - zero) + min. */
// @ts-ignore: decorator
@inline export function zero(T: i32): i32 {
  if (T == Q4_0) return 8;
  if (T == Q5_0 || T == MXFP4 || T == NVFP4) return 16;
  if (isTernary(T)) return 1;
  if (T == Q6_K) return 32;
  if (T == Q3_K) return 4;
  if (T >= MLX8_G32) return -128; // codes are stored minus 128, as signed bytes
  return 0;
}
// @ts-ignore: decorator
@inline export function hasMin(T: i32): bool {
  return T == Q4_1 || T == Q5_1 || T == Q2_K || T == Q4_K || T == Q5_K || isMlx(T);
}

/** A scale for every 16 columns (two for each 32) instead of one for 32 or more. */
// @ts-ignore: decorator
@inline export function hasHalves(T: i32): bool {
  return T == NVFP4 || T == Q2_K || T == Q3_K || T == Q6_K || (isGrid(T) && !isGrid4(T));
}

/** Codes that are indices into a table of signed 8-bit values. */
// @ts-ignore: decorator
@inline export function hasTable(T: i32): bool {
  return T == IQ4_NL || T == IQ4_XS || isGrid(T);
}

/** Signed 8-bit codes, which relaxed SIMD's 7-bit dot product cannot take: multiplied as 16-bit numbers. */
// @ts-ignore: decorator
@inline export function isWide(T: i32): bool {
  return hasBytes(T) || hasTable(T);
}

/**
 * Bytes before a quantized panel's blocks: [factor f32], by which scales must still be multiplied (see packHalf in
 * repack-source.ts), and padding.
 */
export const PANEL_HEAD: usize = 16;

/** Bytes of one packed panel (8 rows) of `cols` columns. */
export function panelBytes(type: i32, cols: i32): usize {
  return (type <= BF16 ? 0 : PANEL_HEAD) + usize(cols / blockCols(type)) * blockBytes(type);
}
