// @ts-check
/**
 * One worker thread of the WASM device. It sleeps until the host advances the step word, runs its share of the operations
 * that the control block lists, and reports. Plain JavaScript because Node loads it directly, from the sources and from dist/.
 */
import { parentPort, workerData } from "node:worker_threads";

/**
 * @typedef {{ run: Function, barrier: Function }} Kernels
 * @typedef {{ from: number, fromAt: number, toAt: number, rows: string, rowBytes: number }} Copy
 */

const { module, memories, stretches, thread, threads, words } = workerData;
/** @type {Int32Array[]} */
const controls = memories.map(
  (/** @type {{ memory: WebAssembly.Memory, control: number }} */ { memory, control }) =>
    new Int32Array(memory.buffer, control, words.bytes / 4),
);
/** @type {Uint8Array[]} */
const bytes = memories.map(
  (/** @type {{ memory: WebAssembly.Memory }} */ { memory }) => new Uint8Array(memory.buffer),
);
/** Kernels reach one memory, so there is an instance for each. */
const kernels = memories.map((/** @type {{ memory: WebAssembly.Memory }} */ { memory }) => {
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  return /** @type {Kernels} */ (/** @type {unknown} */ (instance.exports));
});
const [state] = controls;
const step = words.step / 4;

/** Waits for the step after `seen`. The word is checked after each wake: a wake may arrive after its step has run. */
function nextAfter(/** @type {number} */ seen) {
  for (;;) {
    const next = Atomics.load(state, step);
    if (next !== seen) return next;
    Atomics.wait(state, step, seen);
  }
}

/** Copies a step's rows of values between memories. */
function cross(/** @type {number} */ shard, /** @type {Copy[]} */ copies) {
  const tokens = state[words.tokens / 4];
  const outputs = state[words.outputs / 4];
  for (const { from, fromAt, toAt, rows, rowBytes } of copies) {
    const size = (rows === "tokens" ? tokens : outputs) * rowBytes;
    bytes[shard].set(bytes[from].subarray(fromAt, fromAt + size), toAt);
  }
}

/** Runs the records [from, to) of all memories, or returns early when the step was stopped. */
function runStep(/** @type {number} */ from, /** @type {number} */ to) {
  for (const { shard, first, from: begin, count, copies } of stretches) {
    const start = Math.max(from, begin);
    const end = Math.min(to, begin + count);
    if (start >= end) continue;
    const { control, operations } = memories[shard];
    const { run, barrier } = kernels[shard];
    if (start === begin && copies.length > 0) {
      // The source rows are finished, and no thread continues before they are copied.
      if (!barrier(control, threads)) return;
      if (thread === 0) cross(shard, copies);
      if (!barrier(control, threads)) return;
    }
    run(control, operations + (first + start - begin) * words.recordBytes, end - start, thread, threads);
  }
}

let seen = 0;
parentPort?.postMessage({ ready: true });
for (;;) {
  seen = nextAfter(seen);
  if (seen === words.exit) break;
  try {
    runStep(state[words.from / 4], state[words.to / 4]);
    parentPort?.postMessage({ done: seen });
  } catch (error) {
    // The others leave at their next barrier; the host fails the step and the device.
    for (const control of controls) Atomics.store(control, words.stop / 4, 1);
    parentPort?.postMessage({ failed: error instanceof Error ? error.message : String(error) });
    break;
  }
}
