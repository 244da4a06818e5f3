/**
 * NVFP4 in GGUF files. Blocks are stored as [4 scales][32 nibble bytes], and the tensor X.scale of X.weight holds an
 * f32 that multiplies all values, or one for each expert; this file joins the two. X.input_scale is for NVFP4
 * activations and not used here. tensor.ts defines the joined block, blocks/codebook.ts its values.
 */
import { FormatError, UnsupportedError } from "./errors.ts";
import { quote } from "./gguf-metadata.ts";
import { checkRows, type TensorShape } from "./range-tensor.ts";
import type { Source } from "./source.ts";
import { BLOCKS, rowBytes, storedRowBytes, type Tensor } from "./tensor.ts";

/** The kernels of the CPU device hold the scale once for 8 rows. */
const ROWS_OF_SCALE = 8;

const BLOCK = BLOCKS.nvfp4.bytes;
const STORED = storedRowBytes("nvfp4", BLOCKS.nvfp4.elements);

/** The tensor at byte `offset` of `source`, with a scale of 1. */
export function nvfp4Tensor(source: Source, shape: TensorShape, offset: number): Tensor {
  const { name, type, rows, cols } = shape;
  const stored = storedRowBytes("nvfp4", cols);
  return {
    ...{ name, type, rows, cols },
    async readRows(first, count, into) {
      checkRows(shape, first, count, into);
      const file = new Uint8Array(count * stored);
      await source.read(offset + first * stored, file);
      const view = new DataView(into.buffer, into.byteOffset, into.length);
      for (let at = 0, to = 0; at < file.length; at += STORED, to += BLOCK) {
        view.setFloat32(to, 1, true);
        into.set(file.subarray(at, at + STORED), to + 4);
      }
    },
  };
}

/**
 * The tensors of a checkpoint, with the scales of NVFP4 matrices moved into the blocks. Throws FormatError for scales
 * that do not fit their matrix; UnsupportedError if a scale changes within 8 rows.
 */
export function joinScales(place: string, tensors: ReadonlyMap<string, Tensor>): ReadonlyMap<string, Tensor> {
  if (![...tensors.values()].some(({ type }) => type === "nvfp4")) return tensors;
  const joined = new Map(tensors);
  for (const tensor of tensors.values()) {
    const { name, type } = tensor;
    if (type !== "nvfp4" || !name.endsWith(".weight")) continue;
    const base = name.slice(0, -"weight".length);
    joined.delete(`${base}input_scale`);
    const scale = tensors.get(`${base}scale`);
    if (!scale || isRouters(base, tensors)) continue;
    joined.delete(scale.name);
    joined.set(name, scaledTensor(place, tensor, scale));
  }
  return joined;
}

/**
 * Gemma 4's router has two vectors with such names: ffn_gate_inp.scale multiplies its input, and ffn_down_exps.scale
 * the experts' outputs, which takes the place of the matrices' scales (llama.cpp multiplies by that tensor once).
 */
function isRouters(base: string, tensors: ReadonlyMap<string, Tensor>): boolean {
  return base.endsWith("ffn_down_exps.") && tensors.has(base.replace("ffn_down_exps.", "ffn_gate_inp.scale"));
}

function scaledTensor(place: string, tensor: Tensor, scale: Tensor): Tensor {
  const { name, type, rows, cols } = tensor;
  const count = scale.rows * scale.cols;
  const every = rows / count;
  if (scale.type !== "f32" || !Number.isInteger(every))
    throw new FormatError(
      `${place}: tensor ${quote(scale.name)}`,
      `${count} values of ${scale.type}`,
      `an f32, or one for each expert, for the ${rows} rows of ${quote(name)}`,
    );
  if (count > 1 && every % ROWS_OF_SCALE !== 0)
    throw new UnsupportedError(
      `${place}: tensor ${quote(scale.name)} with a value for each ${every} rows of ${quote(name)}`,
      `Supported: multiples of ${ROWS_OF_SCALE} rows.`,
    );
  let scales: Promise<Float32Array> | undefined;
  const read = async () => {
    const bytes = new Uint8Array(count * 4);
    await scale.readRows(0, scale.rows, bytes);
    return new Float32Array(bytes.buffer);
  };
  return {
    ...{ name, type, rows, cols },
    async readRows(first, rowCount, into) {
      await tensor.readRows(first, rowCount, into);
      scales ??= read();
      const values = await scales;
      const view = new DataView(into.buffer, into.byteOffset, into.length);
      const step = rowBytes("nvfp4", cols);
      for (let row = 0; row < rowCount; row++)
        for (let at = row * step; at < (row + 1) * step; at += BLOCK)
          view.setFloat32(at, values[Math.floor((first + row) / every)], true);
    },
  };
}
