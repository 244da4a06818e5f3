/**
 * The memory bandwidth of the CPU device's threads on this machine: each only reads its share of one large memory.
 * Generation reads every weight for every token, so this limits its speed.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { compileKernels } from "../device/wasm/module.ts";
import { STATIC_BYTES, WASM_PAGE_BYTES } from "../device/wasm/program.ts";
import { DeviceError } from "../format/errors.ts";

export interface ReadRate {
  readonly bytesPerSecond: number;
  readonly threads: number;
  /** Bytes read each time. */
  readonly bytes: number;
}

/** Several times the largest caches. */
const BYTES = 2 ** 29;
/** The first runs are slow until the kernel is compiled well; the best counts. */
const MOST_RUNS = 40;
const MOST_MS = 1500;

/** bytes: memory to read, rounded up to whole pages of each thread. Throws DeviceError if it cannot be allocated. */
export async function measureReadRate(threads: number, bytes = BYTES): Promise<ReadRate> {
  const { module } = await compileKernels();
  const share = Math.ceil(bytes / threads / WASM_PAGE_BYTES) * WASM_PAGE_BYTES;
  const pages = (STATIC_BYTES + share * threads) / WASM_PAGE_BYTES;
  let memory: WebAssembly.Memory;
  try {
    memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    throw new DeviceError("wasm", `cannot reserve ${pages * WASM_PAGE_BYTES} bytes of memory`, { cause });
  }
  const workers = Array.from({ length: threads }, (_, thread) => {
    const from = STATIC_BYTES + thread * share;
    const workerData = { module, memory, from, to: from + share };
    return new Worker(new URL("./read-worker.js", import.meta.url), { workerData, execArgv: [] });
  });
  const answers = () => Promise.all(workers.map((worker) => once(worker, "message")));
  try {
    await answers();
    let least = Number.POSITIVE_INFINITY;
    const started = performance.now();
    for (let run = 0; run < MOST_RUNS && performance.now() - started < MOST_MS; run++) {
      const answered = answers();
      const begun = performance.now();
      for (const worker of workers) worker.postMessage(null);
      await answered;
      least = Math.min(least, performance.now() - begun);
    }
    const read = share * threads;
    return { bytesPerSecond: (read * 1000) / least, threads, bytes: read };
  } catch (cause) {
    throw new DeviceError("wasm", `measuring the memory failed: ${(cause as Error).message}`, { cause });
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}
