/**
 * GPUs that are not what they seem: Dawn's null backend under another name, an adapter with other limits, a device that
 * is lost when the test says so. Everything else is the real one's.
 */
import { COUNT_LABEL } from "../../../src/device/webgpu/submits.ts";
import { nullGpu, softwareGpu } from "./gpu.ts";
import { wrapped } from "./wrap.ts";

export interface Pretence {
  /** "null" compiles fast, computes nothing, and each u32 that is read back is `word`; "software": SwiftShader. */
  backend?: "null" | "software";
  word?: number;
  info?: Partial<GPUAdapterInfo>;
  limits?: Partial<Record<keyof GPUSupportedLimits, number>>;
  /** The device that is given for the one that was opened. */
  device?: (opened: GPUDevice) => GPUDevice;
}

export interface Pretended {
  gpu: GPU;
  /** What devices were asked for. */
  requests: GPUDeviceDescriptor[];
  /** The real ones that were opened. */
  devices: GPUDevice[];
}

export async function pretended(options: Pretence = {}): Promise<Pretended> {
  const { backend = "null", word = 0, info, limits, device = (opened) => opened } = options;
  const isNull = backend === "null";
  const root = await (isNull ? nullGpu() : softwareGpu());
  const requests: GPUDeviceDescriptor[] = [];
  const devices: GPUDevice[] = [];
  const requestAdapter = async (asked?: GPURequestAdapterOptions) => {
    const adapter = await root.requestAdapter(asked);
    if (!adapter) return null;
    const requestDevice = async (descriptor: GPUDeviceDescriptor) => {
      requests.push(descriptor);
      const opened = await adapter.requestDevice(descriptor);
      if (isNull) readWords(opened, word);
      devices.push(opened);
      return device(opened);
    };
    const named = isNull ? { vendor: "nobody", device: "pretence" } : {};
    return wrapped(adapter, {
      info: wrapped(adapter.info, { ...named, ...info }),
      limits: wrapped(adapter.limits, { ...limits }),
      requestDevice,
    });
  };
  return { gpu: wrapped(root, { requestAdapter }), requests, devices };
}

/** What the null backend gives by itself is whatever lay in memory. Submits that are counted count as if they had run. */
function readWords(device: GPUDevice, word: number): void {
  const { createBuffer } = device;
  let counted = 0;
  device.createBuffer = (descriptor) => {
    const buffer = createBuffer.call(device, descriptor);
    buffer.getMappedRange = (_, bytes = buffer.size) =>
      new Uint32Array(bytes / 4).fill(descriptor.label === COUNT_LABEL ? ++counted : word).buffer;
    return buffer;
  };
}
