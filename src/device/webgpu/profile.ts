/**
 * Where a step's time goes: each dispatch in a pass of its own between two timestamps, the whole step in one pass beside
 * it, and what the memory gives to a kernel that does nothing but read. Owns the measuring; bench.ts makes the table.
 * One idea: dispatches are timed in the order of the step and never repeated in place, so that a matrix that fits into
 * the GPU's cache is not read from there.
 */
import type { StepProfile } from "../contract.ts";
import { type Dispatch, type StepShape, spread } from "./dispatch.ts";
import { USAGE } from "./flags.ts";
import type { Gpu } from "./gpu.ts";
import { type Encode, timePasses } from "./timing.ts";
import { packParams } from "./wgsl.ts";

/** A dispatch with everything that encoding it needs. */
export interface ReadyDispatch {
  readonly dispatch: Pick<Dispatch, "label" | "workgroups" | "bytes">;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
}

export interface ProfileOptions {
  /** Runs whose median is taken. Default 7, fewer of slow steps. */
  repetitions?: number;
  /** Of the buffer that is read to find the bandwidth: larger than any cache. Default 256 MiB, or what a binding may hold; 4 MiB on what is slow. */
  bandwidthBytes?: number;
}

export interface Bandwidth {
  readonly readBytesPerSecond: number;
  /** Bytes read and bytes written. */
  readonly copyBytesPerSecond: number;
}

const REPETITIONS = 7;
/** All runs of a step together should not take much longer. */
const TIMED_US = 2e6;
const BANDWIDTH_BYTES = 2 ** 28;
const SLOW_BANDWIDTH_BYTES = 2 ** 22;
/** Below this, in bytes a second, it is no GPU but its imitation in software. */
export const SLOW = 1e10;
/** One workgroup of the bandwidth kernels: 256 invocations, 16 loads of 16 bytes. */
const GROUP_BYTES = 256 * 16 * 16;
/** In one pass, so that its beginning and end count little. */
const BANDWIDTH_DISPATCHES = 4;

/** The bandwidth of a GPU does not change: it is measured once. */
const known = new WeakMap<Gpu, Promise<Bandwidth>>();

/**
 * Profiles `ready`, the dispatches of a step whose inputs (ids, step uniform, turns) are on the GPU: it runs again some
 * dozens of times. UnsupportedError when the adapter has no timestamps, DeviceError.
 */
export async function profileStep(
  gpu: Gpu,
  ready: readonly ReadyDispatch[],
  step: StepShape,
  options: ProfileOptions = {},
): Promise<StepProfile> {
  const jobs = ready.flatMap(({ dispatch, pipeline, group }) => {
    const groups = dispatch.workgroups(step);
    if (groups === null) return [];
    const encode: Encode = (pass) => {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...groups);
    };
    return [{ label: dispatch.label, bytes: dispatch.bytes?.(step) ?? 0, encode }];
  });
  const whole: Encode = (pass) => {
    for (const { encode } of jobs) encode(pass);
  };
  const passes = [...jobs.map(({ encode }) => encode), whole];
  const [once] = await timePasses(gpu, [whole], whole, 1);
  const fitting = Math.floor(TIMED_US / once);
  const repetitions = options.repetitions ?? Math.max(1, Math.min(REPETITIONS, fitting));
  const us = await timePasses(gpu, passes, whole, repetitions);
  let bandwidth = known.get(gpu);
  if (!bandwidth) {
    bandwidth = measureBandwidth(gpu, options.bandwidthBytes);
    known.set(gpu, bandwidth);
  }
  return {
    us: us[jobs.length],
    dispatches: jobs.map(({ label, bytes }, i) => ({ label, bytes, us: us[i] })),
    ...(await bandwidth),
  };
}

/** What memory gives at best; the kernels read, or copy, a buffer from end to end. */
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
