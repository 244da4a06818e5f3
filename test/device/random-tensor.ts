/** Tensors of every block type with random codes and sane scales, in memory. The same seed gives the same bytes. */
import { f32ToF16 } from "../../src/format/float16.ts";
import { BLOCKS, rowBytes, type Tensor, type TensorType } from "../../src/format/tensor.ts";

/** Uniform numbers in [0, 1). */
export function random(seed: number): () => number {
  let state = (seed + 1) * 2654435761;
  return () => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9;
    const z = Math.imul(state ^ (state >>> 12), 0x297a2d39);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}

/** Roughly normal with deviation 1. */
export function gaussian(next: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

/** Byte offsets of a block's f16 scales, and what size makes its values about 0.05 (ggml-common.h). */
const SCALES: Partial<Record<TensorType, [offset: number, size: number][]>> = {
  q4_0: [[0, 0.01]],
  q4_1: [
    [0, 0.01],
    [2, -0.08],
  ],
  q5_0: [[0, 0.005]],
  q5_1: [
    [0, 0.005],
    [2, -0.08],
  ],
  q8_0: [[0, 0.0006]],
  q2_k: [
    [80, 0.004],
    [82, 0.004],
  ],
  q3_k: [[108, 0.001]],
  q4_k: [
    [0, 0.0003],
    [2, 0.002],
  ],
  q5_k: [
    [0, 0.00015],
    [2, 0.002],
  ],
  q6_k: [[208, 0.00005]],
  iq4_nl: [[0, 0.0007]],
  iq4_xs: [[0, 0.00004]],
  iq3_s: [[0, 0.0003]],
  iq3_xxs: [[0, 0.0003]],
  iq2_s: [[0, 0.0006]],
  iq2_xs: [[0, 0.0006]],
  iq2_xxs: [[0, 0.0006]],
  iq1_s: [[0, 0.006]],
  tq1_0: [[52, 0.05]],
  tq2_0: [[64, 0.05]],
  q1_0: [[0, 0.05]],
  q2_0: [[0, 0.05]],
};

/**
 * Types whose kernels on the GPU are those of another type but for the values of constants: a software GPU, which compiles
 * slowly, leaves them out where the packing is not what is tested.
 */
export const TWINS: ReadonlySet<TensorType> = new Set(["iq2_xs", "iq2_xxs", "iq1_m", "tq1_0", "tq2_0"]);

/** Byte offsets of a block's f16 scales. */
export function f16Scales(type: TensorType): number[] {
  return (SCALES[type] ?? []).map(([offset]) => offset);
}

export function randomBytes(type: TensorType, rows: number, cols: number, seed: number): Uint8Array {
  const next = random(seed);
  const bytes = new Uint8Array(rows * rowBytes(type, cols));
  const view = new DataView(bytes.buffer);
  const block = BLOCKS[type].bytes;
  for (let at = 0; at < bytes.length; at += block) {
    if (type === "f32") view.setFloat32(at, gaussian(next) * 0.05, true);
    else if (type === "f16") view.setUint16(at, f32ToF16(gaussian(next) * 0.05), true);
    else if (type === "bf16") {
      const bits = new Uint32Array(Float32Array.of(gaussian(next) * 0.05).buffer)[0];
      view.setUint16(at, bits >>> 16, true);
    } else {
      for (let i = 0; i < block; i++) bytes[at + i] = Math.floor(next() * 256);
      const size = 0.5 + next();
      if (type === "iq1_m") setIq1mScale(bytes, at, f32ToF16(0.006 * size));
      if (type === "nvfp4") view.setFloat32(at, nvfp4Scale(at / block / (cols / 64)), true);
      if (type === "mxfp4") bytes[at] = 120 + Math.floor(next() * 4);
      if (type.startsWith("mlx")) {
        const step = (type.startsWith("mlx4") ? 0.01 : 0.0006) * size;
        view.setFloat32(at, step, true);
        view.setFloat32(at + 4, -step * (type.startsWith("mlx4") ? 7 : 120), true);
      }
      for (const [offset, scale] of SCALES[type] ?? [])
        view.setUint16(at + offset, f32ToF16(scale * size), true);
    }
  }
  return bytes;
}

/** Of a row's matrix or expert: one number for a multiple of 8 rows. e4m3 scales are up to 448. */
function nvfp4Scale(row: number): number {
  return 0.0004 / (1 + Math.floor(row / 8));
}

/** iq1_m has its f16 scale in the upper nibbles of its last four half words. */
export function setIq1mScale(bytes: Uint8Array, block: number, bits: number): void {
  for (let i = 0; i < 4; i++) {
    const at = block + 49 + 2 * i;
    bytes[at] = (bytes[at] & 15) | (((bits >> (4 * i)) & 15) << 4);
  }
}

export function memoryTensor(
  name: string,
  type: TensorType,
  rows: number,
  cols: number,
  bytes: Uint8Array,
): Tensor {
  const stride = rowBytes(type, cols);
  return {
    name,
    type,
    rows,
    cols,
    readRows: async (first, count, into) =>
      into.set(bytes.subarray(first * stride, (first + count) * stride)),
  };
}

export function randomTensor(name: string, type: TensorType, rows: number, cols: number, seed = 1): Tensor {
  return memoryTensor(name, type, rows, cols, randomBytes(type, rows, cols, seed));
}
