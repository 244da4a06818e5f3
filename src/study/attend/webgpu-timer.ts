/**
 * Times one layer's attention on a GPU, by its own clock; webgpu-layers.ts has the dispatches. A pass is many layers'
 * attention, each over its own cache and after the previous one, so that the time of a layer is its cost in a model.
 * Jobs are interleaved, so that clocks and other programs affect them equally.
 */

import { measureBandwidth, SLOW } from "../../device/webgpu/bandwidth.ts";
import type { StepShape } from "../../device/webgpu/dispatch.ts";
import type { Gpu } from "../../device/webgpu/gpu.ts";
import { cacheBufferBytes, KV_FORMATS, KV_PARTS } from "../../device/webgpu/kv.ts";
import { bufferBytes } from "../../device/webgpu/program.ts";
import { encodeReady } from "../../device/webgpu/ready.ts";
import { type Encode, timePasses } from "../../device/webgpu/timing.ts";
import type { WebgpuDevice } from "../../device/webgpu/webgpu.ts";
import {
  type AttendJob,
  type AttendStep,
  type AttendTime,
  type AttendTimer,
  ROTATED_BYTES,
} from "./attend-timer.ts";
import { EXPANDABLE } from "./dequantize.ts";
import { AttendLayers, type LayerRun } from "./webgpu-layers.ts";

/** A pass is long enough that its beginning and end matter little. */
const PASS_US = 2000;
const MOST_ROUNDS = 64;
const REPETITIONS = 9;
/** All repetitions together should not take much longer. */
const TIMED_US = 1.5e6;
/** The first measurements of a process are up to twice too long, whatever ran before them (lab/LOG.md). */
const DROPPED = 2;

/** Opens a GPU of its own, which `close` releases. */
export async function gpuAttendTimer({ openGpu }: WebgpuDevice): Promise<AttendTimer> {
  return new GpuAttendTimer(await openGpu());
}

class GpuAttendTimer implements AttendTimer {
  readonly kvFormats = KV_FORMATS;
  readonly kvParts = KV_PARTS;
  readonly expandable = EXPANDABLE;
  #isWarm = false;
  #readRate: number | null = null;

  constructor(readonly gpu: Gpu) {}

  get adapter(): string {
    return this.gpu.name;
  }

  async readBytesPerSecond(): Promise<number> {
    this.#readRate ??= (await measureBandwidth(this.gpu)).readBytesPerSecond;
    return this.#readRate;
  }

  refusal({ cache, expanded }: AttendJob): string | null {
    const most = bufferBytes(this.gpu.device.limits);
    const keys = cacheBufferBytes(expanded ?? cache, "keys");
    const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0);
    return keys > most ? `keys of ${mib(keys)} MiB in one buffer; this GPU allows ${mib(most)}` : null;
  }

  async time(jobs: readonly AttendJob[], step: AttendStep): Promise<AttendTime[]> {
    // GPUs in software have no cache to avoid, and no time for many layers.
    const copiesBytes = (await this.readBytesPerSecond()) < SLOW ? 0 : ROTATED_BYTES;
    const layers = new AttendLayers(this.gpu, jobs, step, copiesBytes);
    try {
      await layers.fill();
      const errors = await layers.errors();
      const us = await this.#time(await layers.runs(), layers.batch.shape);
      return jobs.map((_, i) => ({ us: us[i], error: errors[i] }));
    } finally {
      layers.destroy();
    }
  }

  async close(): Promise<void> {
    this.gpu.close();
  }

  /** Microseconds of one layer of each run. */
  async #time(runs: readonly LayerRun[], step: StepShape): Promise<number[]> {
    const passes = (rounds: readonly number[]) =>
      runs.map(
        ({ layers }, i): Encode =>
          (pass) => {
            for (let round = 0; round < rounds[i]; round++)
              for (const ready of layers) encodeReady(pass, ready, step);
          },
      );
    const single = passes(runs.map(() => 1));
    const busy: Encode = (pass) => {
      for (const encode of single) encode(pass);
    };
    const once = await timePasses(this.gpu, single, busy, 1);
    const rounds = runs.map((_, i) => Math.max(1, Math.min(MOST_ROUNDS, Math.ceil(PASS_US / once[i]))));
    const whole = rounds.reduce((sum, count, i) => sum + count * once[i], 0);
    const repetitions = Math.max(1, Math.min(REPETITIONS, Math.floor(TIMED_US / whole)));
    const measure = () => timePasses(this.gpu, passes(rounds), busy, repetitions);
    for (let i = 0; !this.#isWarm && repetitions > 1 && i < DROPPED; i++) await measure();
    this.#isWarm = true;
    const us = await measure();
    return runs.map(({ layers }, i) => us[i] / rounds[i] / layers.length);
  }
}
