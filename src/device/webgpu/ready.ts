/**
 * Planned dispatches -> pipelines and bind groups, made once, so that a step only sets and dispatches them. Makes the
 * buffer of all Params, and binds the variables of kernels to the planned buffers.
 */
import { ArgumentError, DeviceError } from "../../format/errors.ts";
import type { Dispatch, PlannedBuffer, StepShape, Workgroups } from "./dispatch.ts";
import { USAGE } from "./flags.ts";
import { type Gpu, oneLine } from "./gpu.ts";
import type { KernelSource } from "./kernel-source.ts";
import { KERNELS } from "./kernels.ts";
import { PARAMS_BYTES } from "./sizes.ts";

/** A dispatch with everything that encoding it needs. */
export interface Ready {
  readonly dispatch: Dispatch;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
}

export interface BoundTo {
  /** The GPU's buffer for a planned one. */
  readonly bufferOf: (planned: PlannedBuffer) => GPUBuffer;
  /** The step uniform. */
  readonly step: GPUBuffer;
}

/** Compiles new pipelines concurrently and binds all buffers. Throws DeviceError if a kernel or a binding is wrong. */
export async function makeReady(
  gpu: Gpu,
  dispatches: readonly Dispatch[],
  { bufferOf, step }: BoundTo,
): Promise<Ready[]> {
  const { device } = gpu;
  const pipelines = await Promise.all(dispatches.map(({ kernel }) => gpu.pipeline(kernel)));
  device.pushErrorScope("validation");
  const size = Math.max(1, dispatches.length) * PARAMS_BYTES;
  const params = device.createBuffer({ label: "params", size, usage: USAGE.uniform | USAGE.copyTarget });
  const written = new Uint8Array(size);
  const readies = dispatches.map((dispatch, i): Ready => {
    const { kernel } = dispatch.kernel;
    const offset = i * PARAMS_BYTES;
    written.set(new Uint8Array(dispatch.params.buffer), offset);
    const { bindings } = KERNELS[kernel] as KernelSource;
    const layout = gpu.bindLayout(kernel);
    const entries = bindings.map(([binding, , variable]): GPUBindGroupEntry => {
      if (variable === "params")
        return { binding, resource: { buffer: params, offset, size: dispatch.params.byteLength } };
      if (variable === "step") return { binding, resource: { buffer: step } };
      const planned = dispatch.buffers[variable];
      if (!planned) throw new ArgumentError(`buffer of ${dispatch.label}`, variable, "a planned buffer");
      return { binding, resource: { buffer: bufferOf(planned) } };
    });
    const group = device.createBindGroup({ label: dispatch.label, layout, entries });
    return { dispatch, pipeline: pipelines[i], group };
  });
  device.queue.writeBuffer(params, 0, written);
  const wrong = await gpu.scoped();
  if (wrong) throw new DeviceError("gpu", `${gpu.name}: ${oneLine(wrong)}`, { cause: wrong });
  return readies;
}

/** Encodes a pass with the dispatches that the step needs. sizes: the workgroups of the first ones, if they are known. */
export function encodePass(
  encoder: GPUCommandEncoder,
  readies: readonly Ready[],
  step: StepShape,
  sizes?: readonly Workgroups[] | null,
): void {
  const pass = encoder.beginComputePass();
  encodeReady(pass, readies, step, sizes);
  pass.end();
}

/** Encodes the dispatches that the step needs into an open pass. */
export function encodeReady(
  pass: GPUComputePassEncoder,
  readies: readonly Ready[],
  step: StepShape,
  sizes?: readonly Workgroups[] | null,
): void {
  let set: GPUComputePipeline | null = null;
  for (let i = 0; i < readies.length; i++) {
    const { dispatch, pipeline, group } = readies[i];
    const workgroups = sizes && i < sizes.length ? sizes[i] : dispatch.workgroups(step);
    if (workgroups === null) continue;
    if (pipeline !== set) pass.setPipeline(pipeline);
    set = pipeline;
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(workgroups[0], workgroups[1], workgroups[2]);
  }
}
