/**
 * File rows -> GPU buffers, in pieces of a few MiB: no second copy of a model is ever in memory. Owns the size of the
 * pieces and that the queue does not run ahead of the file.
 */
import { dequantize } from "../../format/blocks.ts";
import { rowBytes, type Tensor } from "../../format/tensor.ts";
import type { MatrixPlace, Placement } from "./blocks.ts";
import type { Buffer } from "./dispatch.ts";
import type { Gpu } from "./gpu.ts";
import { packRows } from "./pack.ts";
import { checkWeights } from "./weight-bounds.ts";
import { codesRowBytes, scalesRowBytes, weightForm } from "./weights.ts";

/** File bytes read at once. Dawn holds as much again until the GPU has taken it. */
const PIECE_BYTES = 8 * 1024 * 1024;

export async function loadWeight(
  gpu: Gpu,
  placement: Placement,
  tensor: Tensor,
  bufferOf: (planned: Buffer) => GPUBuffer,
  onBytes?: (bytes: number) => void,
): Promise<void> {
  const { queue } = gpu.device;
  if (placement.kind === "vector") {
    // A vector may be stored as a column; its rows follow each other in the file.
    const bytes = new Uint8Array(tensor.rows * rowBytes(tensor.type, tensor.cols));
    await tensor.readRows(0, tensor.rows, bytes);
    const values = new Float32Array(tensor.rows * tensor.cols);
    dequantize(tensor.type, bytes, values);
    for (const { buffer, from, count, at } of placement.places)
      queue.writeBuffer(bufferOf(buffer), at * 4, values, from, count);
    onBytes?.(bytes.length);
    return;
  }
  await loadRows(gpu, placement.places, tensor, bufferOf, onBytes);
}

/** Reads the file once, from its beginning to its end, wherever its rows go. */
async function loadRows(
  gpu: Gpu,
  places: readonly MatrixPlace[],
  tensor: Tensor,
  bufferOf: (planned: Buffer) => GPUBuffer,
  onBytes?: (bytes: number) => void,
): Promise<void> {
  const { queue } = gpu.device;
  const { name, type, rows, cols } = tensor;
  const form = weightForm(type);
  const bytes = rowBytes(type, cols);
  const codesWords = codesRowBytes(form, cols) / 4;
  const scalesWords = scalesRowBytes(form, cols) / 4;
  const most = Math.max(1, Math.min(rows, Math.floor(PIECE_BYTES / bytes)));
  const file = new Uint8Array(most * bytes);
  const codes = new Uint32Array(most * codesWords);
  const scales = new Uint32Array(most * scalesWords);
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const read = file.subarray(0, count * bytes);
    await tensor.readRows(first, count, read);
    packRows(type, read, count, cols, codes, scales);
    checkWeights(
      name,
      form,
      codes.subarray(0, count * codesWords),
      scales.subarray(0, count * scalesWords),
      scalesWords,
    );
    for (const place of places) {
      const start = Math.max(first, place.from);
      const length = Math.min(first + count, place.from + place.rows) - start;
      if (length <= 0) continue;
      const at = place.at + start - place.from;
      const write = (buffer: Buffer, words: Uint32Array<ArrayBuffer>, each: number) =>
        queue.writeBuffer(bufferOf(buffer), at * each * 4, words, (start - first) * each, length * each);
      write(place.codes, codes, codesWords);
      if (place.scales) write(place.scales, scales, scalesWords);
    }
    // Without a wait the queue would hold the whole model in host memory.
    await gpu.submitted();
    gpu.check();
    onBytes?.(read.length);
  }
}
