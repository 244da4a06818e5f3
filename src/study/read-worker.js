// @ts-check
/**
 * One thread of the bandwidth measurement: reads its share on request, and reports the time. Plain JavaScript because
 * Node loads it as it stands, from the sources and from dist/.
 */
import { parentPort, workerData } from "node:worker_threads";

const { module, memory, from, to } = workerData;
const instance = new WebAssembly.Instance(module, { env: { memory } });
const { readBytes } = /** @type {{ readBytes: Function }} */ (/** @type {unknown} */ (instance.exports));

// Its own pages: memory that was never written is one page of zeros in the cache.
new Uint8Array(memory.buffer, from, to - from).fill(1);
parentPort?.on("message", () => {
  readBytes(from, to);
  parentPort?.postMessage(null);
});
parentPort?.postMessage(null);
