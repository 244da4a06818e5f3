/** The memory bandwidth available to a kernel that only reads, and to one that copies. */
import { spread } from "./dispatch.ts";
import { USAGE } from "./flags.ts";
import type { Gpu } from "./gpu.ts";
import { packParams } from "./params.ts";
import { type Encode, timePasses } from "./timing.ts";

export interface Bandwidth {
  readonly readBytesPerSecond: number;
  /** Bytes read plus bytes written. */
  readonly copyBytesPerSecond: number;
}

/** Runs whose median is taken. */
const REPETITIONS = 7;
const BANDWIDTH_BYTES = 2 ** 28;
const SLOW_BANDWIDTH_BYTES = 2 ** 22;
/** Below this, in bytes per second, it is not a GPU but one emulated in software. */
export const SLOW = 1e10;
/** One workgroup of the bandwidth kernels: 256 invocations, 16 loads of 16 bytes each. */
const GROUP_BYTES = 256 * 16 * 16;
/** Dispatches in one pass, so that its beginning and end matter little. */
const BANDWIDTH_DISPATCHES = 4;

/** The best bandwidth of the memory; the kernels read, or copy, a buffer from end to end. */
export async function measureBandwidth(gpu: Gpu, bytes?: number): Promise<Bandwidth> {
  if (bytes !== undefined) return copyAndRead(gpu, bytes, REPETITIONS);
  const roughly = await copyAndRead(gpu, SLOW_BANDWIDTH_BYTES, 1);
  return roughly.readBytesPerSecond < SLOW ? roughly : copyAndRead(gpu, BANDWIDTH_BYTES, REPETITIONS);
}

async function copyAndRead(gpu: Gpu, wanted: number, repetitions: number): Promise<Bandwidth> {
  const { device } = gpu;
  const { maxStorageBufferBindingSize, maxBufferSize } = device.limits;
  const most = Math.min(wanted, maxStorageBufferBindingSize, maxBufferSize);
  const groups = Math.max(1, Math.floor(most / GROUP_BYTES));
  const bytes = groups * GROUP_BYTES;
  const buffer = (label: string, size: number, usage: number) => device.createBuffer({ label, size, usage });
  const values = packParams("readBandwidth", { never: 1 });
  const params = buffer("params", values.byteLength, USAGE.uniform | USAGE.copyTarget);
  const source = buffer("read", bytes, USAGE.storage);
  const out = buffer("written", bytes, USAGE.storage);
  device.queue.writeBuffer(params, 0, values);
  try {
    const resources = [
      { binding: 2, resource: { buffer: source } },
      { binding: 3, resource: { buffer: out } },
    ];
    const job = async (
      kernel: "readBandwidth" | "copyBandwidth",
      own: GPUBindGroupEntry[],
    ): Promise<Encode> => {
      const pipeline = await gpu.pipeline({ kernel, values: {} });
      const entries = [...own, ...resources];
      const group = device.createBindGroup({ layout: gpu.bindLayout(kernel), entries });
      return (pass) => {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        for (let i = 0; i < BANDWIDTH_DISPATCHES; i++) pass.dispatchWorkgroups(...spread(groups));
      };
    };
    const read = await job("readBandwidth", [{ binding: 0, resource: { buffer: params } }]);
    const copy = await job("copyBandwidth", []);
    const [readUs, copyUs] = await timePasses(gpu, [read, copy], copy, repetitions);
    const perSecond = (count: number, us: number) => (us > 0 ? (count * BANDWIDTH_DISPATCHES * 1e6) / us : 0);
    return {
      readBytesPerSecond: perSecond(bytes, readUs),
      copyBytesPerSecond: perSecond(2 * bytes, copyUs),
    };
  } finally {
    for (const made of [params, source, out]) made.destroy();
  }
}
