/**
 * A `navigator.gpu` that compiles a pipeline when a pass first sets it. A program asks for those of all kinds of steps when it
 * is loaded; a test runs some of these, and SwiftShader takes up to a second for each.
 */
import { wrapped } from "./wrap.ts";

export function compilesLate(root: GPU): GPU {
  const requestAdapter = async (options?: GPURequestAdapterOptions) => {
    const adapter = await root.requestAdapter(options);
    const requestDevice = async (asked?: GPUDeviceDescriptor) =>
      lateDevice(await adapter!.requestDevice(asked));
    return adapter && wrapped(adapter, { requestDevice });
  };
  return wrapped(root, { requestAdapter });
}

/** What a program holds as its pipeline. */
class LatePipeline {
  #made: GPUComputePipeline | null = null;

  constructor(
    readonly device: GPUDevice,
    readonly descriptor: GPUComputePipelineDescriptor,
  ) {}

  get made(): GPUComputePipeline {
    this.#made ??= this.device.createComputePipeline(this.descriptor);
    return this.#made;
  }

  getBindGroupLayout(index: number): GPUBindGroupLayout {
    return this.made.getBindGroupLayout(index);
  }
}

function lateDevice(device: GPUDevice): GPUDevice {
  return wrapped(device, {
    createComputePipelineAsync: async (descriptor: GPUComputePipelineDescriptor) =>
      new LatePipeline(device, descriptor),
    createCommandEncoder(descriptor?: GPUCommandEncoderDescriptor) {
      const encoder = device.createCommandEncoder(descriptor);
      return wrapped(encoder, { beginComputePass: (of?: GPUComputePassDescriptor) => latePass(encoder, of) });
    },
  });
}

function latePass(encoder: GPUCommandEncoder, descriptor?: GPUComputePassDescriptor): GPUComputePassEncoder {
  const pass = encoder.beginComputePass(descriptor);
  return wrapped(pass, {
    setPipeline(pipeline: GPUComputePipeline | LatePipeline) {
      pass.setPipeline(pipeline instanceof LatePipeline ? pipeline.made : pipeline);
    },
  });
}
