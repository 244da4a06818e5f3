/**
 * A `navigator.gpu` whose new buffers are full of NaN (0xff in every byte) instead of zeros, and whose workgroup memory is
 * zeroed by the compiler, as in browsers. A kernel that reads what nothing wrote gives NaN; so does attention that takes values of
 * slots that no row sees.
 * `NIBBLE_POISON=1 npx vitest run test/device test/engine` does so to every GPU of the suite; poison.test.ts always.
 */
import { wrapped } from "./wrap.ts";

export const IS_POISONED = process.env.NIBBLE_POISON !== undefined;

/** Those of dawn.ts but disable_workgroup_init. */
export const ZEROING_TOGGLES = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia"];

/** Whose first zeros are WebGPU's, by intent (program.ts, blocks.ts): no other value ever lies there. */
const ZERO = /^(stamp$|bias of )/;

/** GPUBufferUsage.MAP_READ. */
const MAP_READ = 1;

export function poisoned(root: GPU): GPU {
  const requestAdapter = async (options?: GPURequestAdapterOptions) => {
    const adapter = await root.requestAdapter(options);
    const requestDevice = async (asked?: GPUDeviceDescriptor) =>
      poisonedDevice(await adapter!.requestDevice(asked));
    return adapter && wrapped(adapter, { requestDevice });
  };
  return wrapped(root, { requestAdapter });
}

function poisonedDevice(device: GPUDevice): GPUDevice {
  return wrapped(device, {
    createBuffer(descriptor: GPUBufferDescriptor): GPUBuffer {
      const { label = "" } = descriptor;
      const isOwn =
        ZERO.test(label) ||
        descriptor.mappedAtCreation ||
        descriptor.usage & MAP_READ ||
        descriptor.size % 4 !== 0;
      if (isOwn) return device.createBuffer(descriptor);
      const buffer = device.createBuffer({ ...descriptor, mappedAtCreation: true });
      new Uint8Array(buffer.getMappedRange()).fill(0xff);
      buffer.unmap();
      return buffer;
    },
  });
}
