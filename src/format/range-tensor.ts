/** A tensor whose rows are consecutive in a Source, and the argument check that all tensors share. */
import { ArgumentError } from "./errors.ts";
import type { Source } from "./source.ts";
import { rowBytes, type Tensor, type TensorType } from "./tensor.ts";

export interface TensorShape {
  readonly name: string;
  readonly type: TensorType;
  readonly rows: number;
  readonly cols: number;
}

/** The tensor's data starts at byte `offset` of `source`; the reader has checked that all of it is inside. */
export function rangeTensor(source: Source, shape: TensorShape, offset: number): Tensor {
  const { name, type, rows, cols } = shape;
  const bytes = rowBytes(type, cols);
  return {
    name,
    type,
    rows,
    cols,
    async readRows(first, count, into) {
      checkRows(shape, first, count, into);
      await source.read(offset + first * bytes, into);
    },
  };
}

/** Throws ArgumentError unless rows [first, first + count) exist and fill `into` exactly. */
export function checkRows(
  { name, type, rows, cols }: TensorShape,
  first: number,
  count: number,
  into: Uint8Array,
) {
  const whole = Number.isInteger(first) && Number.isInteger(count) && first >= 0 && count >= 0;
  if (!whole || first + count > rows) {
    throw new ArgumentError(`rows of ${name}`, `${first} to ${first + count}`, `0 to ${rows}`);
  }
  const bytes = count * rowBytes(type, cols);
  if (into.length !== bytes)
    throw new ArgumentError(`bytes for ${count} rows of ${name}`, into.length, `${bytes}`);
}
