/**
 * Views of a tensor: the same interface with rows in another order or values shifted, still read by ranges. Loaders
 * use them so that devices see one convention (RoPE in halves, plain norm weights).
 */
import { dequantize } from "../format/blocks.ts";
import { rowBytes, type Tensor } from "../format/tensor.ts";

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

/** Gemma's norms multiply by 1 + weight; Hugging Face stores the weight, GGUF the sum. */
export function plusOne(tensor: Tensor): Tensor {
  return {
    ...shape(tensor),
    type: "f32",
    async readRows(first, count, into) {
      const values = await f32Rows(tensor, first, count);
      into.set(asBytes(values.map((x) => x + 1)));
    },
  };
}

/** Some rows of a matrix, or some values of a vector (one row), as a tensor `part` of their own. */
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

/**
 * GGUF stores the q and k rows of llama with RoPE pairs side by side (row 2i + half of each head); everyone else, and
 * our devices, keep the first halves in front (row half * headDim / 2 + i). This view undoes the permutation.
 */
export function unpermuteHeads(tensor: Tensor, headDim: number): Tensor {
  const source = (row: number) => {
    const head = row - (row % headDim);
    const half = Math.floor((row % headDim) / (headDim / 2));
    return head + 2 * (row % (headDim / 2)) + half;
  };
  // A bias is one row of values: permute its elements instead.
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
      // Whole heads are read, so that a range is one read whatever the order of its rows.
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

function shape(tensor: Tensor) {
  const { name, rows, cols } = tensor;
  return { name, rows, cols };
}
