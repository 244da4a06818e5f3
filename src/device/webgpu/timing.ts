/**
 * GPU time of compute passes by timestamp queries: the queries, their way back to the host, and the warm-up. A GPU that
 * waits for the host lowers its clocks and shows times two to four times too long.
 */
import { UnsupportedError } from "../../format/errors.ts";
import { median } from "../median.ts";
import { USAGE } from "./flags.ts";
import type { Gpu } from "./gpu.ts";
import { ReadBack } from "./read-back.ts";

/** Encodes what it should time into a pass. */
export type Encode = (pass: GPUComputePassEncoder) => void;

/** WebGPU's maximum number of queries in a set is 4,096; a pass takes two. */
const PASSES_OF_SET = 2048;
const BUSY_MS = 300;

/**
 * Microseconds of each pass: the medians of `repetitions` runs of all of them in order, without waiting for the host.
 * `busy` runs before them. Throws UnsupportedError if the adapter has no timestamps.
 */
export async function timePasses(
  gpu: Gpu,
  passes: readonly Encode[],
  busy: Encode,
  repetitions: number,
): Promise<Float64Array> {
  const { device } = gpu;
  if (!gpu.traits.timestamps) throw new UnsupportedError(`Timing on ${gpu.name}`, "It has no timestamps.");
  const sets = Array.from({ length: Math.ceil(passes.length / PASSES_OF_SET) }, (_, i) => {
    const count = 2 * Math.min(PASSES_OF_SET, passes.length - i * PASSES_OF_SET);
    return device.createQuerySet({ type: "timestamp", count });
  });
  // Resolving requires offsets in multiples of 256 bytes.
  const stride = Math.ceil((passes.length * 16) / 256) * 256;
  const resolved = device.createBuffer({
    size: repetitions * stride,
    usage: USAGE.copySource | USAGE.queryResolve,
  });
  try {
    // Encoded before and submitted at once, after some more of what keeps it busy.
    const commands = [untimed(device, busy), untimed(device, busy)];
    for (let run = 0; run < repetitions; run++) {
      const encoder = device.createCommandEncoder();
      passes.forEach((encode, i) => {
        const querySet = sets[Math.floor(i / PASSES_OF_SET)];
        const at = 2 * (i % PASSES_OF_SET);
        const timestampWrites = { querySet, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
        const pass = encoder.beginComputePass({ timestampWrites });
        encode(pass);
        pass.end();
      });
      sets.forEach((set, i) => {
        encoder.resolveQuerySet(set, 0, set.count, resolved, run * stride + i * PASSES_OF_SET * 16);
      });
      commands.push(encoder.finish());
    }
    await keepBusy(gpu, busy);
    device.queue.submit(commands);
    const bytes = await new ReadBack(gpu).read(resolved, [0], repetitions * stride);
    gpu.check();
    const stamps = new BigUint64Array(bytes);
    const times = passes.map(() => new Float64Array(repetitions));
    let end = 0n;
    for (let run = 0; run < repetitions; run++)
      times.forEach((ofPass, i) => {
        const at = (run * stride) / 8 + 2 * i;
        // A pass may count as begun while it waits for the previous one.
        const begin = stamps[at] > end ? stamps[at] : end;
        end = stamps[at + 1];
        // A clock that is set back between the two gives nonsense; WebGPU allows that.
        ofPass[run] = Math.max(0, Number(end - begin) / 1000);
      });
    return Float64Array.from(times, median);
  } finally {
    resolved.destroy();
    for (const set of sets) set.destroy();
  }
}

/** Runs `encode` for 300 ms, at least once, and leaves the last run pending. */
async function keepBusy(gpu: Gpu, encode: Encode): Promise<void> {
  const { queue } = gpu.device;
  const started = performance.now();
  let before: Promise<unknown> = Promise.resolve();
  do {
    queue.submit([untimed(gpu.device, encode)]);
    await before;
    before = queue.onSubmittedWorkDone();
  } while (performance.now() - started < BUSY_MS);
  gpu.check();
}

function untimed(device: GPUDevice, encode: Encode): GPUCommandBuffer {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  encode(pass);
  pass.end();
  return encoder.finish();
}
