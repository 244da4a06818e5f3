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
  for (const place of placement.places) await loadRows(gpu, place, tensor, bufferOf, onBytes);
}

async function loadRows(
  gpu: Gpu,
  { codes, scales, from, rows, at }: MatrixPlace,
  tensor: Tensor,
  bufferOf: (planned: Buffer) => GPUBuffer,
  onBytes?: (bytes: number) => void,
): Promise<void> {
  const { queue } = gpu.device;
  const form = weightForm(tensor.type);
  const bytes = rowBytes(tensor.type, tensor.cols);
  const codesBytes = codesRowBytes(form, tensor.cols);
  const scalesBytes = scalesRowBytes(form, tensor.cols);
  const most = Math.max(1, Math.min(rows, Math.floor(PIECE_BYTES / bytes)));
  const file = new Uint8Array(most * bytes);
  const codeWords = new Uint32Array((most * codesBytes) / 4);
  const scaleWords = new Uint32Array((most * scalesBytes) / 4);
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const read = file.subarray(0, count * bytes);
    await tensor.readRows(from + first, count, read);
    packRows(tensor.type, read, count, tensor.cols, codeWords, scaleWords);
    const packed = codeWords.subarray(0, (count * codesBytes) / 4);
    checkWeights(tensor.name, form, packed, scaleWords.subarray(0, (count * scalesBytes) / 4));
    queue.writeBuffer(bufferOf(codes), (at + first) * codesBytes, packed);
    if (scales)
      queue.writeBuffer(
        bufferOf(scales),
        (at + first) * scalesBytes,
        scaleWords,
        0,
        (count * scalesBytes) / 4,
      );
    // Without a wait the queue would hold the whole model in host memory.
    await gpu.submitted();
    gpu.check();
    onBytes?.(read.length);
  }
}
