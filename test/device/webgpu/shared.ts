/**
 * SwiftShader as `navigator.gpu`, whose devices with equal features and limits are one: kernels are compiled once for all
 * tests of a file, which takes most of their time. What a test sees is a device of its own, with its own buffers and end.
 */
import { afterAll } from "vitest";
import { softwareGpu } from "./gpu.ts";
import { wrapped } from "./wrapped.ts";

/** Devices that are to be lost or to fail are `softwareGpu`'s. */
export async function sharedGpu(): Promise<GPU> {
  const root = await (sharing.root ??= softwareGpu());
  const requestAdapter = async (options?: GPURequestAdapterOptions) => {
    const adapter = await root.requestAdapter(options);
    return (
      adapter && wrapped(adapter, { requestDevice: (asked: GPUDeviceDescriptor) => share(adapter, asked) })
    );
  };
  return wrapped(root, { requestAdapter });
}

interface SharedDevice {
  readonly device: GPUDevice;
  readonly modules: Map<string, GPUShaderModule>;
  readonly codes: Map<GPUShaderModule, string>;
  readonly pipelines: Map<string, Promise<GPUComputePipeline>>;
}

const sharing: { root: Promise<GPU> | null; devices: Map<string, Promise<SharedDevice>> } = {
  root: null,
  devices: new Map(),
};

/** A device that its owner may destroy: only its buffers go. */
async function share(adapter: GPUAdapter, asked: GPUDeviceDescriptor): Promise<GPUDevice> {
  const key = JSON.stringify(asked);
  let made = sharing.devices.get(key);
  if (!made) {
    made = adapter.requestDevice(asked).then((device) => ({
      device,
      modules: new Map(),
      codes: new Map(),
      pipelines: new Map(),
    }));
    sharing.devices.set(key, made);
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

afterAll(async () => {
  for (const shared of sharing.devices.values()) (await shared).device.destroy();
  sharing.devices.clear();
});
