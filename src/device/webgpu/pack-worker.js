// @ts-check
/**
 * A thread that packs weights for the GPU: packs what lies in a slot's shared memory. Plain JavaScript because Node
 * loads it as it stands, from the sources and from dist/; what it runs is named by the one who started it.
 */
import { parentPort, workerData } from "node:worker_threads";

const port = /** @type {import("node:worker_threads").MessagePort} */ (parentPort);
/** @type {typeof import("./pack-slab.ts")} */
const { packSlab } = await import(workerData.module);

port.on("message", ({ slot, slab }) => {
  /** @type {import("./pack-slab.ts").SlabCheck | null} */
  let found = null;
  /** @type {string | null} */
  let error = null;
  try {
    found = packSlab(slot, slab);
  } catch (thrown) {
    error = thrown instanceof Error ? thrown.message : String(thrown);
  }
  port.postMessage({ found, error });
});
