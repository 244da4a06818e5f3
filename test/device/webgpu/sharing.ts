/**
 * A `navigator.gpu` whose devices with equal features and limits are one: kernels are compiled once for all that use it. What a
 * user sees is a device of its own, with its own buffers and end.
 */
import { wrapped } from "./wrap.ts";

export interface Sharing {
  readonly gpu: GPU;
  /** The devices that were shared end. */
  end(): Promise<void>;
}

export function shareDevices(root: GPU): Sharing {
  const devices = new Map<string, Promise<SharedDevice>>();
  const requestAdapter = async (options?: GPURequestAdapterOptions) => {
    const adapter = await root.requestAdapter(options);
    return (
      adapter &&
      wrapped(adapter, { requestDevice: (asked: GPUDeviceDescriptor) => share(devices, adapter, asked) })
    );
  };
  return {
    gpu: wrapped(root, { requestAdapter }),
    async end() {
      for (const shared of devices.values()) (await shared).device.destroy();
      devices.clear();
    },
  };
}

interface SharedDevice {
  readonly device: GPUDevice;
  readonly modules: Map<string, GPUShaderModule>;
  readonly codes: Map<GPUShaderModule, string>;
  readonly pipelines: Map<string, Promise<GPUComputePipeline>>;
}

/** A device that its owner may destroy: only its buffers go. */
async function share(
  devices: Map<string, Promise<SharedDevice>>,
  adapter: GPUAdapter,
  asked: GPUDeviceDescriptor,
): Promise<GPUDevice> {
  const key = JSON.stringify(asked);
  let made = devices.get(key);
  if (!made) {
    made = adapter.requestDevice(asked).then((device) => ({
      device,
      modules: new Map(),
      codes: new Map(),
      pipelines: new Map(),
    }));
    devices.set(key, made);
  }
  const { device, modules, codes, pipelines } = await made;
  const buffers = new Set<GPUBuffer>();
  const heard: EventListener[] = [];
  return wrapped(device, {
    createShaderModule(descriptor: GPUShaderModuleDescriptor) {
      const module = modules.get(descriptor.code) ?? device.createShaderModule(descriptor);
      modules.set(descriptor.code, module);
      codes.set(module, descriptor.code);
      return module;
    },
    // Layouts that are equal are exchangeable, and those of a kernel are.
    createComputePipelineAsync(descriptor: GPUComputePipelineDescriptor) {
      const code = codes.get(descriptor.compute.module)!;
      const pipeline = pipelines.get(code) ?? device.createComputePipelineAsync(descriptor);
      pipelines.set(code, pipeline);
      return pipeline;
    },
    createBuffer(descriptor: GPUBufferDescriptor) {
      const buffer = device.createBuffer(descriptor);
      buffers.add(buffer);
      return buffer;
    },
    addEventListener(type: string, listener: EventListener) {
      heard.push(listener);
      device.addEventListener(type, listener);
    },
    destroy() {
      for (const buffer of buffers) buffer.destroy();
      for (const listener of heard) device.removeEventListener("uncapturederror", listener);
    },
  });
}
