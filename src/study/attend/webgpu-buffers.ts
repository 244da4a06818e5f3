/**
 * GPU buffers outside of a compiled program: made on demand and destroyed together. Maps planned buffers, which
 * dispatches refer to, to real ones. For measuring; models get theirs from allocation.ts.
 */

import { type Batch, STEP_BYTES } from "../../device/webgpu/batch.ts";
import { LEAST_RESULT_BYTES, storageUsage } from "../../device/webgpu/buffers.ts";
import type { PlannedBuffer } from "../../device/webgpu/dispatch.ts";
import { USAGE } from "../../device/webgpu/flags.ts";
import type { Gpu } from "../../device/webgpu/gpu.ts";
import { NibbleError } from "../../format/errors.ts";

export class BenchBuffers {
  readonly #made: GPUBuffer[] = [];
  /** The step uniform of all dispatches. */
  readonly step: GPUBuffer;
  #bytes = 0;
  #isSettled = false;

  constructor(readonly gpu: Gpu) {
    const usage = USAGE.uniform | USAGE.copyTarget;
    this.step = gpu.device.createBuffer({ label: "step", size: STEP_BYTES, usage });
    gpu.device.pushErrorScope("out-of-memory");
  }

  readonly make = (label: string, bytes: number): PlannedBuffer => {
    const size = Math.ceil(Math.max(LEAST_RESULT_BYTES, bytes) / 16) * 16;
    this.#made.push(this.gpu.device.createBuffer({ label, size, usage: storageUsage(size) }));
    this.#bytes += size;
    return { id: this.#made.length - 1, label, bytes: size };
  };

  upload(label: string, data: Float32Array<ArrayBuffer>): PlannedBuffer {
    const made = this.make(label, data.byteLength);
    this.gpu.device.queue.writeBuffer(this.of(made), 0, data);
    return made;
  }

  readonly of = ({ id }: PlannedBuffer): GPUBuffer => this.#made[id];

  /** batch: the buffer that kernels read the step's lists from. */
  writeStep(batch: PlannedBuffer, { uniform, lists, at }: Batch): void {
    const { queue } = this.gpu.device;
    queue.writeBuffer(this.step, 0, uniform);
    queue.writeBuffer(this.of(batch), at * 4, lists);
  }

  /** Throws NibbleError "memory" if what has been made so far does not fit. Call once, before anything runs. */
  async settled(): Promise<void> {
    this.#isSettled = true;
    const problem = await this.gpu.scoped();
    this.gpu.check();
    if (problem)
      throw new NibbleError(
        "memory",
        `${this.gpu.name} cannot hold the ${(this.#bytes / 2 ** 20).toFixed(0)} MiB of this measurement. Ask for fewer tokens.`,
        { cause: problem },
      );
  }

  destroy(): void {
    if (!this.#isSettled) void this.gpu.scoped();
    for (const buffer of [this.step, ...this.#made]) buffer.destroy();
  }
}
