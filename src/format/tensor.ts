/**
 * A tensor outside of any device: a name, a block type, rows and columns, and a method that reads rows as bytes. Also
 * the table of block types. Every type, including plain floats and MLX groups, is a sequence of blocks along a row; a
 * row is a whole number of blocks.
 */

/** Elements and bytes of one block, by type. GGUF types keep their public names, in lower case (ggml.h). */
export const BLOCKS = {
  f32: { elements: 1, bytes: 4 },
  f16: { elements: 1, bytes: 2 },
  bf16: { elements: 1, bytes: 2 },
  q4_0: { elements: 32, bytes: 18 },
  q4_1: { elements: 32, bytes: 20 },
  q5_0: { elements: 32, bytes: 22 },
  q5_1: { elements: 32, bytes: 24 },
  q8_0: { elements: 32, bytes: 34 },
  q2_k: { elements: 256, bytes: 84 },
  q3_k: { elements: 256, bytes: 110 },
  q4_k: { elements: 256, bytes: 144 },
  q5_k: { elements: 256, bytes: 176 },
  q6_k: { elements: 256, bytes: 210 },
  iq4_nl: { elements: 32, bytes: 18 },
  iq4_xs: { elements: 256, bytes: 136 },
  mxfp4: { elements: 32, bytes: 17 },
  // [scale f32][4 scales, ue4m3][32 nibble bytes]: the reader puts the scale of the tensor or the expert before the
  // file's block (nvfp4.ts).
  nvfp4: { elements: 64, bytes: 4 + 36 },
  iq3_s: { elements: 256, bytes: 110 },
  iq3_xxs: { elements: 256, bytes: 98 },
  iq2_s: { elements: 256, bytes: 82 },
  iq2_xs: { elements: 256, bytes: 74 },
  iq2_xxs: { elements: 256, bytes: 66 },
  iq1_s: { elements: 256, bytes: 50 },
  iq1_m: { elements: 256, bytes: 56 },
  tq1_0: { elements: 256, bytes: 54 },
  tq2_0: { elements: 256, bytes: 66 },
  q1_0: { elements: 128, bytes: 18 },
  q2_0: { elements: 64, bytes: 18 },
  // MLX affine quantization, value = scale * code + bias. The reader gathers the three arrays of a checkpoint into
  // blocks of [scale f32][bias f32][codes, lowest bits first]; f16 and bf16 scales are exact in f32.
  mlx4_g32: { elements: 32, bytes: 8 + 16 },
  mlx4_g64: { elements: 64, bytes: 8 + 32 },
  mlx4_g128: { elements: 128, bytes: 8 + 64 },
  mlx8_g32: { elements: 32, bytes: 8 + 32 },
  mlx8_g64: { elements: 64, bytes: 8 + 64 },
  mlx8_g128: { elements: 128, bytes: 8 + 128 },
} as const;

export type TensorType = keyof typeof BLOCKS;

/** A matrix [rows, cols] (a vector has one row) that can be read by rows. */
export interface Tensor {
  readonly name: string;
  readonly type: TensorType;
  readonly rows: number;
  readonly cols: number;
  /** Reads rows [first, first + count) as stored in the file: count * rowBytes(type, cols) bytes into `into`. */
  readRows(first: number, count: number, into: Uint8Array): Promise<void>;
  /** The same rows without the check that `readRows` makes, for a loader that makes it elsewhere (finite-tensor.ts). */
  readonly unchecked?: Tensor;
}

/** Bytes of a row in a GGUF file. */
export function storedRowBytes(type: TensorType, cols: number): number {
  return type === "nvfp4" ? (cols / 64) * 36 : rowBytes(type, cols);
}

/** Bytes of one row of `cols` elements; `cols` must be whole blocks. */
export function rowBytes(type: TensorType, cols: number): number {
  const { elements, bytes } = BLOCKS[type];
  return (cols / elements) * bytes;
}
