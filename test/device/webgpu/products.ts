/** Runs planned dispatches on a Gpu with given contents of buffers, for tests of kernels one by one. */
import type { Buffer, Dispatch, StepShape } from "../../../src/device/webgpu/dispatch.ts";
import type { Gpu } from "../../../src/device/webgpu/gpu.ts";
import { KERNELS } from "../../../src/device/webgpu/kernels.ts";
import type { KernelSource } from "../../../src/device/webgpu/wgsl.ts";

/** Planned buffers with contents. */
export class Buffers {
  readonly contents = new Map<number, Uint32Array<ArrayBuffer>>();
  #count = 0;

  /** A buffer that holds these words (padded to 16 bytes). */
  of(label: string, words: Uint32Array | Float32Array): Buffer {
    const bytes = Math.max(16, Math.ceil(words.byteLength / 16) * 16);
    const buffer = { id: this.#count++, label, bytes };
    const held = new Uint32Array(bytes / 4);
    held.set(new Uint32Array(words.buffer, words.byteOffset, words.length));
    this.contents.set(buffer.id, held);
    return buffer;
  }

  /** A buffer for results; it starts as ones, so that a word nobody wrote shows as NaN. */
  empty(label: string, words: number): Buffer {
    return this.of(label, new Uint32Array(words).fill(0xffffffff));
  }
}

const USAGE = { mapRead: 1, copySource: 4, copyTarget: 8, uniform: 64, storage: 128 };

/** Runs the dispatches in order; gives the words of `out`. */
export async function runDispatches(
  { device, ...gpu }: { device: GPUDevice; pipeline: Gpu["pipeline"]; bindLayout: Gpu["bindLayout"] },
  dispatches: readonly Dispatch[],
  buffers: Buffers,
  out: Buffer,
  step: StepShape,
): Promise<Uint32Array> {
  device.pushErrorScope("validation");
  const made = new Map<number, GPUBuffer>();
  const all: GPUBuffer[] = [];
  const create = (bytes: number, usage: number) => {
    const buffer = device.createBuffer({ size: bytes, usage });
    all.push(buffer);
    return buffer;
  };
  const place = ({ id, bytes }: Buffer) => {
    let buffer = made.get(id);
    if (!buffer) {
      buffer = create(bytes, USAGE.storage | USAGE.copySource | USAGE.copyTarget);
      device.queue.writeBuffer(buffer, 0, buffers.contents.get(id)!);
      made.set(id, buffer);
    }
    return buffer;
  };
  const encoder = device.createCommandEncoder();
  for (const dispatch of dispatches) {
    const groups = dispatch.workgroups(step);
    if (!groups) continue;
    const pipeline = await gpu.pipeline(dispatch.kernel);
    const params = create(dispatch.params.byteLength, USAGE.uniform | USAGE.copyTarget);
    device.queue.writeBuffer(params, 0, dispatch.params);
    const { bindings } = KERNELS[dispatch.kernel.kernel] as KernelSource;
    const entries = bindings.map(([binding, , variable]) => ({
      binding,
      resource: { buffer: variable === "params" ? params : place(dispatch.buffers[variable]) },
    }));
    const layout = gpu.bindLayout(dispatch.kernel.kernel);
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout, entries }));
    pass.dispatchWorkgroups(...groups);
    pass.end();
  }
  const back = create(out.bytes, USAGE.mapRead | USAGE.copyTarget);
  encoder.copyBufferToBuffer(place(out), 0, back, 0, out.bytes);
  device.queue.submit([encoder.finish()]);
  const failed = await device.popErrorScope();
  if (failed) throw new Error(failed.message);
  await back.mapAsync(1);
  const words = new Uint32Array(back.getMappedRange().slice(0));
  for (const buffer of all) buffer.destroy();
  return words;
}
