/**
 * Threads that pack weights (Node only). A slot's buffers are transferred to a thread and come back, since Dawn accepts
 * no shared ones. A thread that fails or ends fails every slab that it had and every later one; nothing waits for it.
 */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { DeviceError } from "../../format/errors.ts";
import type { Slab, SlabBuffers, SlabCheck } from "./pack-slab.ts";
import type { PackThreads, PackThreadsMaker } from "./weight-packing.ts";

/** More than disks and the thread that writes to the GPU can keep busy: a thread packs 2 GB/s. */
const MOST_THREADS = 4;

/** pack-worker.js answers with the buffers and what it found, or with an error message. */
interface Packed extends SlabBuffers {
  readonly found: SlabCheck | null;
  readonly error: string | null;
}

interface Pending {
  readonly slot: SlabBuffers;
  resolve(found: SlabCheck): void;
  reject(error: Error): void;
}

interface Thread {
  readonly worker: Worker;
  /** Slots that are being packed, in the order in which answers arrive. */
  readonly pending: Pending[];
}

/** null if there is only one core. module: of pack-slab, for tests of the sources. */
export function packThreads(
  threads = Math.min(MOST_THREADS, availableParallelism() - 1),
  module = new URL("./pack-slab.js", import.meta.url),
): PackThreadsMaker | null {
  return threads < 1 ? null : { threads, start: () => new Threads(threads, module) };
}

class Threads implements PackThreads {
  readonly #threads: Thread[];
  #failure: DeviceError | null = null;
  #isClosed = false;

  constructor(threads: number, module: URL) {
    this.#threads = Array.from({ length: threads }, () => this.#start(module));
  }

  pack(slot: SlabBuffers, slab: Slab): Promise<SlabCheck> {
    if (this.#failure) return Promise.reject(this.#failure);
    const thread = this.#threads.reduce((a, b) => (b.pending.length < a.pending.length ? b : a));
    return new Promise((resolve, reject) => {
      thread.pending.push({ slot, resolve, reject });
      const { file, packed } = slot;
      thread.worker.postMessage({ slot: { file, packed }, slab }, [file, packed]);
    });
  }

  close(): void {
    this.#isClosed = true;
    for (const { worker } of this.#threads) void worker.terminate();
    this.#fail("were ended");
  }

  #start(module: URL): Thread {
    const worker = new Worker(new URL("./pack-worker.js", import.meta.url), {
      workerData: { module: module.href },
      // Flags of the parent (test runners, inspectors) are not for the workers.
      execArgv: [],
    });
    const thread: Thread = { worker, pending: [] };
    worker.on("message", ({ file, packed, found, error }: Packed) => {
      const pending = thread.pending.shift();
      // Answers of others after one has failed.
      if (!pending) return;
      Object.assign(pending.slot, { file, packed });
      if (found !== null) pending.resolve(found);
      else pending.reject(failure(`failed: ${error}`));
    });
    worker.on("error", ({ message }) => this.#fail(`failed: ${message}`));
    worker.on("exit", () => this.#isClosed || this.#fail("ended"));
    return thread;
  }

  #fail(found: string): void {
    this.#failure ??= failure(found);
    for (const { pending } of this.#threads)
      for (const { slot, reject } of pending.splice(0)) {
        // Transferred buffers are lost with the thread.
        Object.assign(slot, { file: new ArrayBuffer(0), packed: new ArrayBuffer(0) });
        reject(this.#failure);
      }
  }
}

function failure(found: string): DeviceError {
  return new DeviceError("gpu", `threads that pack weights ${found}. Load the model again.`);
}
