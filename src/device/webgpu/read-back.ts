/**
 * GPU -> host: one mappable buffer, as large as the largest read so far. These reads are the only waits of a step. If
 * the device is lost meanwhile, they reject with the GPU's error.
 */
import { MAP_READ, USAGE } from "./flags.ts";
import type { Gpu } from "./gpu.ts";

/** Usage of a buffer that the host reads. */
export const MAPPABLE = USAGE.mapRead | USAGE.copyTarget;

export class ReadBack {
  #staging: GPUBuffer | null = null;
  /** One read at a time: they share the buffer. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(readonly gpu: Gpu) {}

  /** Reads `bytes` bytes of a buffer from each offset, one after another, in one wait; multiples of 4. */
  read(from: GPUBuffer, offsets: readonly number[], bytes: number): Promise<ArrayBuffer> {
    const result = this.#last.then(() => this.#read(from, offsets, bytes));
    this.#last = result.catch(() => {});
    return result;
  }

  async #read(from: GPUBuffer, offsets: readonly number[], each: number): Promise<ArrayBuffer> {
    const { device } = this.gpu;
    const bytes = offsets.length * each;
    if (this.#staging === null || this.#staging.size < bytes) {
      this.#staging?.destroy();
      this.#staging = device.createBuffer({ label: "read back", size: bytes, usage: MAPPABLE });
    }
    const staging = this.#staging;
    const encoder = device.createCommandEncoder();
    offsets.forEach((offset, i) => {
      encoder.copyBufferToBuffer(from, offset, staging, i * each, each);
    });
    device.queue.submit([encoder.finish()]);
    try {
      await staging.mapAsync(MAP_READ, 0, bytes);
    } catch (cause) {
      throw await this.gpu.failure("reading back", cause);
    }
    const copy = staging.getMappedRange(0, bytes).slice(0);
    staging.unmap();
    return copy;
  }
}
