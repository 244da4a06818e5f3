/**
 * Quantizes numbers to blocks: the inverse of blocks.ts, for the types that can be written. This file selects by type
 * and checks lengths; the searches are in blocks/quantize-*.ts. Blocks equal those of ggml's reference quantizer bit
 * for bit, or, with an importance matrix, those of its quantizer with one.
 */
import { toQ2_K, toQ3_K, toQ4_K, toQ5_K, toQ6_K } from "./blocks/quantize-k.ts";
import { toQ4_0, toQ4_1, toQ5_0, toQ5_1, toQ8_0 } from "./blocks/quantize-simple.ts";
import { ArgumentError } from "./errors.ts";
import { f32ToBf16, f32ToF16 } from "./float16.ts";
import { BLOCKS, rowBytes, type TensorType } from "./tensor.ts";

type Quantize = (values: Float32Array, out: Uint8Array, importance?: Float32Array | null) => void;

const halves =
  (bitsOf: (value: number) => number): Quantize =>
  (values, out) => {
    for (let i = 0; i < values.length; i++) {
      const bits = bitsOf(values[i]);
      out[2 * i] = bits & 255;
      out[2 * i + 1] = bits >> 8;
    }
  };

const BY_TYPE = {
  f32: (values: Float32Array, out: Uint8Array) =>
    out.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength)),
  f16: halves(f32ToF16),
  bf16: halves(f32ToBf16),
  q4_0: toQ4_0,
  q4_1: toQ4_1,
  q5_0: toQ5_0,
  q5_1: toQ5_1,
  q8_0: toQ8_0,
  q2_k: toQ2_K,
  q3_k: toQ3_K,
  q4_k: toQ4_K,
  q5_k: toQ5_K,
  q6_k: toQ6_K,
} satisfies Partial<Record<TensorType, Quantize>>;

/** The types that `quantize` makes. */
export type QuantizedType = keyof typeof BY_TYPE;

/** Whether its blocks depend on an importance matrix: floats and q8_0 do not. */
export const isSearched = (type: TensorType): boolean =>
  Object.hasOwn(BY_TYPE, type) && BLOCKS[type].elements > 1 && type !== "q8_0";

/**
 * Quantizes `values`, finite and whole blocks of `type`, into exactly their bytes. importance: `values` are rows with
 * as many columns, and each column has the weight of a square error, relative to the others; floats and q8_0 ignore it.
 * Throws ArgumentError for other lengths. A value beyond f16 gives an infinite scale, which the caller checks for
 * (finite-tensor.ts).
 */
export function quantize(
  type: QuantizedType,
  values: Float32Array,
  out: Uint8Array,
  importance?: Float32Array | null,
): void {
  const { elements } = BLOCKS[type];
  if (values.length % elements !== 0)
    throw new ArgumentError(`number of values for ${type}`, values.length, `multiples of ${elements}`);
  if (out.length !== rowBytes(type, values.length))
    throw new ArgumentError(
      `bytes for ${values.length} ${type} values`,
      out.length,
      `${rowBytes(type, values.length)}`,
    );
  if (importance && (importance.length % elements !== 0 || values.length % importance.length !== 0))
    throw new ArgumentError(
      `importances for ${values.length} ${type} values`,
      importance.length,
      `rows of whole blocks of ${elements}`,
    );
  (BY_TYPE[type] as Quantize)(values, out, importance);
}
