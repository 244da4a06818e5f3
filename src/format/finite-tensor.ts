/**
 * A tensor whose rows are refused if they contain an infinity or a NaN. Such a file is damaged, and kernels that expand
 * a float16 by moving its bits would read a large number and continue with it. Only the floats of a block are checked,
 * by their exponents; codes can be anything.
 */
import { FormatError } from "./errors.ts";
import { BLOCKS, type Tensor, type TensorType } from "./tensor.ts";

/** Offsets in bytes of a block's floats. */
interface Floats {
  readonly f32?: readonly number[];
  readonly f16?: readonly number[];
  readonly bf16?: readonly number[];
  /** An 8-bit exponent, where 255 is NaN (OCP Microscaling Formats 1.0). */
  readonly e8m0?: readonly number[];
  /** An f16 in four upper nibbles (blocks/grid.ts): bits 8 to 11 in byte 53, 12 to 15 in byte 55. */
  readonly iq1m?: true;
}

const MLX: Floats = { f32: [0, 4] };
const FIRST: Floats = { f16: [0] };
const FIRST_TWO: Floats = { f16: [0, 2] };

/** The numbers of a block that are not integers. */
const FLOATS: Readonly<Record<TensorType, Floats>> = {
  f32: { f32: [0] },
  f16: FIRST,
  bf16: { bf16: [0] },
  q4_0: FIRST,
  q4_1: FIRST_TWO,
  q5_0: FIRST,
  q5_1: FIRST_TWO,
  q8_0: FIRST,
  q2_k: { f16: [80, 82] },
  q3_k: { f16: [108] },
  q4_k: FIRST_TWO,
  q5_k: FIRST_TWO,
  q6_k: { f16: [208] },
  iq4_nl: FIRST,
  iq4_xs: FIRST,
  mxfp4: { e8m0: [0] },
  nvfp4: { f32: [0] },
  iq3_s: FIRST,
  iq3_xxs: FIRST,
  iq2_s: FIRST,
  iq2_xs: FIRST,
  iq2_xxs: FIRST,
  iq1_s: FIRST,
  iq1_m: { iq1m: true },
  tq1_0: { f16: [52] },
  tq2_0: { f16: [64] },
  q1_0: FIRST,
  q2_0: FIRST,
  mlx4_g32: MLX,
  mlx4_g64: MLX,
  mlx4_g128: MLX,
  mlx8_g32: MLX,
  mlx8_g64: MLX,
  mlx8_g128: MLX,
};

/** The same tensor, except that reading rejects with a FormatError. Its `unchecked` is the tensor. */
export function finiteTensor(tensor: Tensor): Tensor {
  const { name, type, rows, cols } = tensor;
  return {
    name,
    type,
    rows,
    cols,
    async readRows(first, count, into) {
      await tensor.readRows(first, count, into);
      if (!areFinite(type, into)) throw notFinite(name, first, count);
    },
    unchecked: tensor,
  };
}

/** The error of rows that are not finite. */
export function notFinite(name: string, first: number, count: number): FormatError {
  return new FormatError(
    `tensor ${name}, rows ${first} to ${first + count - 1}`,
    "an infinity or a NaN",
    "finite numbers; the file is damaged, get it again from its source",
  );
}

/** Checks whole blocks. */
export function areFinite(type: TensorType, bytes: Uint8Array): boolean {
  if (BLOCKS[type].elements === 1 && areSmall(type, bytes)) return true;
  const { f32 = [], f16 = [], bf16 = [], e8m0 = [], iq1m } = FLOATS[type];
  const step = BLOCKS[type].bytes;
  // The byte with the sign and the upper bits of the exponent; for wider exponents also the byte below.
  for (const at of f16)
    for (let i = at + 1; i < bytes.length; i += step) if ((bytes[i] & 0x7c) === 0x7c) return false;
  for (const at of [...f32.map((at) => at + 2), ...bf16])
    for (let i = at; i < bytes.length; i += step)
      if (bytes[i] >= 0x80 && (bytes[i + 1] & 0x7f) === 0x7f) return false;
  for (const at of e8m0) for (let i = at; i < bytes.length; i += step) if (bytes[i] === 0xff) return false;
  if (iq1m)
    for (let i = 0; i < bytes.length; i += step)
      if ((bytes[i + 53] & 0xc0) === 0xc0 && (bytes[i + 55] & 0x70) === 0x70) return false;
  return true;
}

/** Whether every magnitude is below 2, tested on whole words: true for nearly all of a model's plain floats. */
function areSmall(type: TensorType, { buffer, byteOffset, byteLength }: Uint8Array): boolean {
  if (byteOffset % 4 !== 0 || byteLength % 4 !== 0) return false;
  const words = new Uint32Array(buffer, byteOffset, byteLength / 4);
  let all = 0;
  for (let i = 0; i < words.length; i++) all |= words[i];
  return (all & (type === "f32" ? 0x4000_0000 : 0x4000_4000)) === 0;
}
