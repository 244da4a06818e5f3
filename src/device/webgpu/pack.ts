/**
 * Packs rows of a file's bytes into the words that GPU kernels read (weights.ts), slab by slab while a model loads.
 * This file selects by type; pack/ has the families of types. Four codes are masked and shifted at a time as one word,
 * and nothing is allocated per block.
 */
import { ArgumentError } from "../../format/errors.ts";
import { BLOCKS, rowBytes, type TensorType } from "../../format/tensor.ts";
import { gridRow } from "./pack/grid.ts";
import { iq4Xs, q2K, q3K, q4K, q5K, q6K } from "./pack/k-quants.ts";
import { mlx4, mlx8 } from "./pack/mlx.ts";
import { floats, mxfp4, nvfp4, q4_0, q4_1, q5_0, q5_1, q8_0 } from "./pack/simple.ts";
import { ternaryRow } from "./pack/ternary.ts";
import { fileBytes, type PackRow } from "./pack/words.ts";
import { codesRowBytes, scalesRowBytes, weightForm } from "./weights.ts";

const PACKERS: Readonly<Record<TensorType, PackRow>> = {
  f32: floats(4),
  f16: floats(2),
  bf16: floats(2),
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k: q2K,
  q3_k: q3K,
  q4_k: q4K,
  q5_k: q5K,
  q6_k: q6K,
  iq4_nl: q4_0,
  iq4_xs: iq4Xs,
  mxfp4,
  nvfp4,
  iq3_s: gridRow("iq3_s"),
  iq3_xxs: gridRow("iq3_xxs"),
  iq2_s: gridRow("iq2_s"),
  iq2_xs: gridRow("iq2_xs"),
  iq2_xxs: gridRow("iq2_xxs"),
  iq1_s: gridRow("iq1_s"),
  iq1_m: gridRow("iq1_m"),
  tq1_0: ternaryRow("tq1_0"),
  tq2_0: ternaryRow("tq2_0"),
  q1_0: ternaryRow("q1_0"),
  q2_0: ternaryRow("q2_0"),
  mlx4_g32: mlx4(32),
  mlx4_g64: mlx4(64),
  mlx4_g128: mlx4(128),
  mlx8_g32: mlx8(32),
  mlx8_g64: mlx8(64),
  mlx8_g128: mlx8(128),
};

/**
 * Packs `rows` whole rows. bytes: rows * rowBytes(type, cols) of the file. codes, scales: zero-filled or reused arrays
 * of at least rows * codesRowBytes and rows * scalesRowBytes bytes; every word of those rows is written.
 */
export function packRows(
  type: TensorType,
  bytes: Uint8Array,
  rows: number,
  cols: number,
  codes: Uint32Array,
  scales: Uint32Array,
): void {
  const { elements } = BLOCKS[type];
  if (cols % elements !== 0)
    throw new ArgumentError(`columns of a ${type} matrix`, cols, `multiples of ${elements}`);
  const stride = rowBytes(type, cols);
  if (bytes.length < rows * stride)
    throw new ArgumentError(`bytes of ${rows} rows of ${type}`, bytes.length, `at least ${rows * stride}`);
  const form = weightForm(type);
  const codesWords = codesRowBytes(form, cols) / 4;
  const scalesWords = scalesRowBytes(form, cols) / 4;
  if (codes.length < rows * codesWords || scales.length < rows * scalesWords)
    throw new ArgumentError(
      "words for packed rows",
      `${codes.length} and ${scales.length}`,
      `at least ${rows * codesWords} and ${rows * scalesWords}`,
    );
  const pack = PACKERS[type];
  const file = fileBytes(bytes);
  for (let row = 0; row < rows; row++)
    pack(file, row * stride, cols, codes, row * codesWords, scales, row * scalesWords);
}
