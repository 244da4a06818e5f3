// @ts-check
/**
 * One thread of bench/attend.js. The parent says which job to time (a list of phases, each a kernel's calls for this
 * thread); threads meet by spinning before the first phase and after each, so the time is that of the slowest.
 */
import { performance } from "node:perf_hooks";
import { parentPort, workerData } from "node:worker_threads";

const { memory, modules, thread, threads, meeting } = workerData;
const state = new Int32Array(memory.buffer);
const ARRIVED = meeting / 4;
const GENERATION = meeting / 4 + 16;
/** @type {Record<string, Function>} */
const kernels = {};
for (const module of modules)
  Object.assign(kernels, new WebAssembly.Instance(module, { env: { memory } }).exports);

function meet() {
  const generation = Atomics.load(state, GENERATION);
  if (Atomics.add(state, ARRIVED, 1) === threads - 1) {
    Atomics.store(state, ARRIVED, 0);
    Atomics.add(state, GENERATION, 1);
  } else while (Atomics.load(state, GENERATION) === generation);
}

parentPort?.on("message", ({ phases, rounds }) => {
  const times = [];
  for (let round = 0; round < rounds; round++) {
    meet();
    const start = performance.now();
    for (const calls of phases) {
      for (const [kernel, args] of calls[thread]) kernels[kernel](...args);
      meet();
    }
    times.push(performance.now() - start);
  }
  parentPort?.postMessage(times);
});
