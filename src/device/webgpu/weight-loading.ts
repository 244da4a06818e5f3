/**
 * Loads file rows into GPU buffers, in slabs of a few MiB, several at once: there is never a second copy of a model in
 * memory. The first error ends the load, once none of its slabs is in flight.
 */
import { dequantize } from "../../format/blocks.ts";
import { notFinite } from "../../format/finite-tensor.ts";
import { rowBytes, type Tensor } from "../../format/tensor.ts";
import type { PlannedBuffer } from "./dispatch.ts";
import type { Gpu } from "./gpu.ts";
import { type Slab, type SlabBuffers, slabBytes, slabFile, slabRows } from "./pack-slab.ts";
import { tooLarge } from "./weight-bounds.ts";
import type { WeightPacking } from "./weight-packing.ts";
import type { MatrixPlace, Placement } from "./weight-plan.ts";
import type { Upload } from "./weight-uploads.ts";
import { codesRowBytes, scalesRowBytes, weightForm } from "./weights.ts";

export async function loadWeight(
  gpu: Gpu,
  placement: Placement,
  tensor: Tensor,
  bufferOf: (planned: PlannedBuffer) => GPUBuffer,
  packing: WeightPacking,
  onBytes: (bytes: number) => void = () => {},
): Promise<void> {
  const { queue } = gpu.device;
  if (placement.kind === "vector") {
    // A vector may be stored as a column; its rows are consecutive in the file.
    const bytes = new Uint8Array(tensor.rows * rowBytes(tensor.type, tensor.cols));
    await tensor.readRows(0, tensor.rows, bytes);
    const values = new Float32Array(tensor.rows * tensor.cols);
    dequantize(tensor.type, bytes, values);
    for (const { buffer, from, count, at } of placement.places)
      queue.writeBuffer(bufferOf(buffer), at * 4, values, from, count);
    onBytes(bytes.length);
    return;
  }
  const matrix = { tensor, places: placement.places };
  await packing.during((take) => loadRows(gpu, matrix, bufferOf, packing, take, onBytes));
}

interface Matrix {
  readonly tensor: Tensor;
  readonly places: readonly MatrixPlace[];
}

/** Reads the file once, from its beginning to its end, wherever its rows go. */
async function loadRows(
  gpu: Gpu,
  matrix: Matrix,
  bufferOf: (planned: PlannedBuffer) => GPUBuffer,
  packing: WeightPacking,
  take: () => SlabBuffers | Promise<SlabBuffers>,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const { type, rows, cols } = matrix.tensor;
  const most = slabRows(type, cols, packing.slabBytes);
  const underWay = new Set<Promise<void>>();
  const failures: unknown[] = [];
  const load = async (slot: SlabBuffers, first: number) => {
    try {
      const slab = { type, rows: Math.min(most, rows - first), cols };
      await loadSlab(gpu, matrix, slab, first, slot, bufferOf, packing);
      onBytes(slab.rows * rowBytes(type, cols));
      gpu.check();
    } catch (error) {
      failures.push(error);
    } finally {
      packing.give(slot);
    }
  };
  for (let first = 0; first < rows && failures.length === 0; first += most) {
    const taken = take();
    const slot = taken instanceof Promise ? await taken : taken;
    if (failures.length > 0) {
      packing.give(slot);
      break;
    }
    const loading = load(slot, first).finally(() => underWay.delete(loading));
    underWay.add(loading);
  }
  await Promise.all(underWay);
  await packing.uploads.done();
  if (failures.length > 0) throw failures[0];
}

async function loadSlab(
  gpu: Gpu,
  { tensor, places }: Matrix,
  slab: Slab,
  first: number,
  slot: SlabBuffers,
  bufferOf: (planned: PlannedBuffer) => GPUBuffer,
  packing: WeightPacking,
): Promise<void> {
  const { name, type, rows, cols } = tensor;
  // Packing checks the rows.
  const { unchecked = tensor } = tensor;
  await unchecked.readRows(first, slab.rows, slabFile(slot, slab));
  const found = await packing.pack(slot, slab, rows * rowBytes(type, cols));
  gpu.check();
  if (!found.isFinite && unchecked !== tensor) throw notFinite(name, first, slab.rows);
  if (found.beyond !== null) throw tooLarge(name, found.beyond);
  const form = weightForm(type);
  const sizes = slabBytes(slab);
  const uploads: Upload[] = [];
  for (const place of places) {
    const start = Math.max(first, place.from);
    const length = Math.min(first + slab.rows, place.from + place.rows) - start;
    if (length <= 0) continue;
    const at = place.at + start - place.from;
    const add = (buffer: PlannedBuffer, begin: number, each: number) =>
      uploads.push({
        ...{ to: bufferOf(buffer), at: at * each },
        ...{ from: begin + (start - first) * each, bytes: length * each },
      });
    add(place.codes, 0, codesRowBytes(form, cols));
    if (place.scales) add(place.scales, sizes.codes, scalesRowBytes(form, cols));
  }
  await packing.uploads.write(new Uint8Array(slot.packed, 0, sizes.codes + sizes.scales), uploads);
}
