// @ts-check
/**
 * One worker thread of the WASM device. It sleeps until the host advances the step word, runs its share of the operations
 * that the control block names, and says so. Plain JavaScript because Node loads it as it stands, from the sources and from dist/.
 */
import { parentPort, workerData } from "node:worker_threads";

const { module, memory, control, operations, thread, threads, words } = workerData;
const state = new Int32Array(memory.buffer);
const step = (control + words.step) / 4;
const instance = new WebAssembly.Instance(module, { env: { memory } });
const { run } = /** @type {{ run: Function }} */ (/** @type {unknown} */ (instance.exports));

/** The step after `seen`. A wake says nothing: that of a step may come when it has already been run. */
function nextAfter(/** @type {number} */ seen) {
  for (;;) {
    const next = Atomics.load(state, step);
    if (next !== seen) return next;
    Atomics.wait(state, step, seen);
  }
}

let seen = 0;
parentPort?.postMessage({ ready: true });
for (;;) {
  seen = nextAfter(seen);
  if (seen === words.exit) break;
  try {
    const from = state[(control + words.from) / 4];
    const to = state[(control + words.to) / 4];
    run(control, operations + from * words.recordBytes, to - from, thread, threads);
    parentPort?.postMessage({ done: seen });
  } catch (error) {
    // The others leave at their next barrier; the host fails the step and the device.
    Atomics.store(state, (control + words.stop) / 4, 1);
    parentPort?.postMessage({ failed: error instanceof Error ? error.message : String(error) });
    break;
  }
}
