/**
 * A weight of the role "table": rows stay in the tensor, and a step's rows are read by id. Every device keeps one for
 * each such weight and copies the rows to where its kernels read them.
 */
import { dequantize } from "../format/blocks.ts";
import { rowBytes, type Tensor } from "../format/tensor.ts";

export class RowTable {
  readonly #tensor: Tensor;

  constructor(tensor: Tensor) {
    this.#tensor = tensor;
  }

  /** into [ids, cols]: each id's row. An id that occurs several times is read once. */
  async read(ids: Uint32Array, into: Float32Array): Promise<void> {
    const { type, cols } = this.#tensor;
    const places = new Map<number, number[]>();
    ids.forEach((id, at) => {
      places.set(id, [...(places.get(id) ?? []), at]);
    });
    await Promise.all(
      [...places].map(async ([id, rows]) => {
        const bytes = new Uint8Array(rowBytes(type, cols));
        await this.#tensor.readRows(id, 1, bytes);
        const values = new Float32Array(cols);
        dequantize(type, bytes, values);
        for (const row of rows) into.set(values, row * cols);
      }),
    );
  }
}
