/**
 * Views of a tensor: the same interface with rows in another order or changed values, still read by ranges. Loaders use
 * them so that devices see one convention (RoPE in halves, plain norm weights).
 */
import { dequantize } from "../format/blocks.ts";
import { FormatError, UnsupportedError } from "../format/errors.ts";
import { BLOCKS, rowBytes, type Tensor } from "../format/tensor.ts";

/** Rows [first, first + count) as float32. */
export async function f32Rows(tensor: Tensor, first: number, count: number): Promise<Float32Array> {
  const bytes = new Uint8Array(count * rowBytes(tensor.type, tensor.cols));
  await tensor.readRows(first, count, bytes);
  const values = new Float32Array(count * tensor.cols);
  dequantize(tensor.type, bytes, values);
  return values;
}

function asBytes(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** The tensor with other values; their number is the same. */
export function mapped(tensor: Tensor, change: (value: number) => number): Tensor {
  return {
    ...shape(tensor),
    type: "f32",
    async readRows(first, count, into) {
      into.set(asBytes((await f32Rows(tensor, first, count)).map(change)));
    },
  };
}

/** Gemma's norms multiply by 1 + weight; Hugging Face stores the weight, GGUF the sum. */
export const plusOne = (tensor: Tensor): Tensor => mapped(tensor, (x) => x + 1);

/** Some rows of a matrix, or some values of a vector (one row), as a tensor named `part`. */
export function sliceRows(tensor: Tensor, first: number, count: number, part: string): Tensor {
  const name = `${tensor.name}: ${part}`;
  if (tensor.rows > 1)
    return {
      ...{ name, type: tensor.type, rows: count, cols: tensor.cols },
      readRows: (from, rows, into) => tensor.readRows(first + from, rows, into),
    };
  return {
    ...{ name, type: "f32", rows: 1, cols: count },
    async readRows(_from, _rows, into) {
      into.set(asBytes((await f32Rows(tensor, 0, 1)).slice(first, first + count)));
    },
  };
}

/** Selects `count` rows of each `group` of rows, from row `from` on, every `step`-th. */
export interface Every {
  readonly group: number;
  readonly from: number;
  readonly count: number;
  /** Default 1. */
  readonly step?: number;
}

const placeIn = ({ group, from, count, step = 1 }: Every, row: number) =>
  Math.floor(row / count) * group + from + (row % count) * step;

/** Selected rows of a matrix as a tensor named `part`: for example the gates or ups of experts stored in one matrix. */
export function regroupRows(tensor: Tensor, every: Every, part: string): Tensor {
  const { group, count, step = 1 } = every;
  const bytes = rowBytes(tensor.type, tensor.cols);
  return {
    ...{ name: `${tensor.name}: ${part}`, type: tensor.type, cols: tensor.cols },
    rows: (tensor.rows / group) * count,
    async readRows(first, rows, into) {
      // Consecutive rows are one read; for every second row, the rows between are read, too.
      for (let done = 0; done < rows; ) {
        const run = Math.min(rows - done, count - ((first + done) % count));
        const read =
          step === 1
            ? into.subarray(done * bytes, (done + run) * bytes)
            : new Uint8Array(((run - 1) * step + 1) * bytes);
        await tensor.readRows(placeIn(every, first + done), read.length / bytes, read);
        for (let r = 0; step > 1 && r < run; r++)
          into.set(read.subarray(r * step * bytes, (r * step + 1) * bytes), (done + r) * bytes);
        done += run;
      }
    },
  };
}

/** The same for the values of a vector, or of a matrix with one vector for each expert. */
export function regroupValues(tensor: Tensor, every: Every, part: string): Tensor {
  const cols = ((tensor.rows * tensor.cols) / every.group) * every.count;
  return {
    ...{ name: `${tensor.name}: ${part}`, type: "f32", rows: 1, cols },
    async readRows(_first, _rows, into) {
      const values = await f32Rows(tensor, 0, tensor.rows);
      into.set(asBytes(Float32Array.from({ length: cols }, (_, i) => values[placeIn(every, i)])));
    },
  };
}

/** Joins matrices of one type and width by rows. */
export function joinRows(tensors: readonly Tensor[], name: string): Tensor {
  const [{ type, cols }] = tensors;
  for (const other of tensors)
    if (other.type !== type || other.cols !== cols || other.rows !== tensors[0].rows)
      throw new FormatError(
        other.name,
        `${other.type} ${other.rows} x ${other.cols}`,
        `${type} ${tensors[0].rows} x ${cols}, as ${tensors[0].name}`,
      );
  const each = tensors[0].rows;
  const bytes = rowBytes(type, cols);
  return {
    ...{ name, type, rows: each * tensors.length, cols },
    async readRows(first, rows, into) {
      for (let done = 0; done < rows; ) {
        const from = (first + done) % each;
        const run = Math.min(rows - done, each - from);
        const part = into.subarray(done * bytes, (done + run) * bytes);
        await tensors[Math.floor((first + done) / each)].readRows(from, run, part);
        done += run;
      }
    },
  };
}

/** Joins matrices of one type and width, with any numbers of rows. */
export function stackRows(tensors: readonly Tensor[], name: string): Tensor {
  const [{ type, cols }] = tensors;
  const bytes = rowBytes(type, cols);
  return {
    ...{ name, type, cols, rows: tensors.reduce((sum, { rows }) => sum + rows, 0) },
    async readRows(first, rows, into) {
      let at = 0;
      for (const tensor of tensors) {
        const from = Math.max(first, at);
        const to = Math.min(first + rows, at + tensor.rows);
        if (from < to)
          await tensor.readRows(
            from - at,
            to - from,
            into.subarray((from - first) * bytes, (to - first) * bytes),
          );
        at += tensor.rows;
      }
    },
  };
}

/**
 * Joins matrices [rows, cols] by rows, each transposed to [cols, rows]. Holds one at a time. Throws UnsupportedError
 * for block types, whose values cannot be separated by column.
 */
export function transposeEach(tensor: Tensor, rows: number, part: string): Tensor {
  const { type, cols } = tensor;
  const name = `${tensor.name}: ${part}`;
  const { elements, bytes } = BLOCKS[type];
  if (elements > 1) throw new UnsupportedError(`transposing ${tensor.name} in ${type}`);
  const Words = bytes === 4 ? Uint32Array : Uint16Array;
  let held = -1;
  let values = new Words(0);
  return {
    ...{ name, type, rows: (tensor.rows / rows) * cols, cols: rows },
    async readRows(first, count, into) {
      const out = new Words(count * rows);
      for (let r = 0; r < count; r++) {
        const matrix = Math.floor((first + r) / cols);
        if (matrix !== held) {
          const read = new Uint8Array(rows * cols * bytes);
          await tensor.readRows(matrix * rows, rows, read);
          values = new Words(read.buffer);
          held = matrix;
        }
        const column = (first + r) % cols;
        for (let i = 0; i < rows; i++) out[r * rows + i] = values[i * cols + column];
      }
      into.set(new Uint8Array(out.buffer));
    },
  };
}

/**
 * llama.cpp stores the q and k rows of llama with the rows of each RoPE pair adjacent (row 2i + half of each head).
 * Every other format, and our devices, put the first halves in front (row half * headDim / 2 + i). This view undoes the
 * permutation.
 */
export function unpermuteHeads(tensor: Tensor, headDim: number): Tensor {
  return withinHeads(tensor, headDim, (row) => 2 * (row % (headDim / 2)) + Math.floor(row / (headDim / 2)));
}

/** The inverse: from halves to llama.cpp's adjacent pairs. */
export function permuteHeads(tensor: Tensor, headDim: number): Tensor {
  return withinHeads(tensor, headDim, (row) => (row % 2) * (headDim / 2) + Math.floor(row / 2));
}

/** Permutes the rows of each head; `from`: the row of the head that moves here. */
function withinHeads(tensor: Tensor, headDim: number, from: (row: number) => number): Tensor {
  const source = (row: number) => row - (row % headDim) + from(row % headDim);
  // A bias is one row of values, so its elements are permuted instead.
  if (tensor.rows === 1)
    return {
      ...shape(tensor),
      type: "f32",
      async readRows(_first, _count, into) {
        const values = await f32Rows(tensor, 0, 1);
        into.set(asBytes(values.map((_, i) => values[source(i)])));
      },
    };
  const bytes = rowBytes(tensor.type, tensor.cols);
  return {
    ...shape(tensor),
    type: tensor.type,
    async readRows(first, count, into) {
      // Reads whole heads, so that a range is one read in any order of rows.
      const from = Math.floor(first / headDim) * headDim;
      const to = Math.min(tensor.rows, Math.ceil((first + count) / headDim) * headDim);
      const heads = new Uint8Array((to - from) * bytes);
      await tensor.readRows(from, to - from, heads);
      for (let r = 0; r < count; r++) {
        const at = (source(first + r) - from) * bytes;
        into.set(heads.subarray(at, at + bytes), r * bytes);
      }
    },
  };
}

/** Permutes rows: row r is row `source(r)` of the tensor. Rows that stay adjacent are one read. */
export function reorderRows(tensor: Tensor, source: (row: number) => number): Tensor {
  const bytes = rowBytes(tensor.type, tensor.cols);
  return {
    ...shape(tensor),
    type: tensor.type,
    async readRows(first, count, into) {
      for (let done = 0; done < count; ) {
        let run = 1;
        while (done + run < count && source(first + done + run) === source(first + done) + run) run++;
        const part = into.subarray(done * bytes, (done + run) * bytes);
        await tensor.readRows(source(first + done), run, part);
        done += run;
      }
    },
  };
}

/** Permutes the values of each row, as float32: value c is value `source(c)` of the row. */
export function reorderColumns(tensor: Tensor, source: (column: number) => number): Tensor {
  const { cols } = tensor;
  return {
    ...shape(tensor),
    type: "f32",
    async readRows(first, count, into) {
      const values = await f32Rows(tensor, first, count);
      into.set(asBytes(values.map((_, i) => values[i - (i % cols) + source(i % cols)])));
    },
  };
}

/** The same values in another shape, as float32. Held in memory while they are read, so for small tensors only. */
export function reshaped(tensor: Tensor, rows: number, cols: number): Tensor {
  return {
    ...{ name: tensor.name, type: "f32", rows, cols },
    async readRows(first, count, into) {
      const values = await f32Rows(tensor, 0, tensor.rows);
      into.set(asBytes(values.slice(first * cols, (first + count) * cols)));
    },
  };
}

function shape(tensor: Tensor) {
  const { name, rows, cols } = tensor;
  return { name, rows, cols };
}
