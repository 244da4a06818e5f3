/**
 * Measures a step: each dispatch in a pass of its own between two timestamps, the whole step in one pass, and the
 * memory's bandwidth. bench.ts makes the table. Dispatches are timed in the order of the step and never repeated in
 * place, so that a matrix that would fit into the GPU's cache is not read from there.
 */
import type { StepProfile } from "../contract.ts";
import { type Bandwidth, measureBandwidth } from "./bandwidth.ts";
import type { Dispatch, StepShape } from "./dispatch.ts";
import type { Gpu } from "./gpu.ts";
import { type Encode, timePasses } from "./timing.ts";

/** A dispatch with everything needed to encode it. */
export interface ReadyDispatch {
  readonly dispatch: Pick<Dispatch, "label" | "workgroups" | "bytes">;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
}

export interface ProfileOptions {
  /** Runs whose median is taken. Default 7, fewer for slow steps. */
  repetitions?: number;
  /**
   * Size of the buffer that is read to find the bandwidth: larger than any cache. Default 256 MiB, or what a binding
   * may hold; 4 MiB on slow devices.
   */
  bandwidthBytes?: number;
}

const REPETITIONS = 7;
/** All runs of a step together should not take much longer. */
const TIMED_US = 2e6;

/** The bandwidth of a GPU does not change: it is measured once. */
const known = new WeakMap<Gpu, Promise<Bandwidth>>();

/**
 * Profiles `ready`, the dispatches of a step whose inputs (ids, step uniform, angles) are on the GPU, by running them
 * some dozens of times. Throws UnsupportedError if the adapter has no timestamps, and DeviceError.
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
