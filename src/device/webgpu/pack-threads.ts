/**
 * Threads that pack weights (Node only). They share a slot's memory: transferred buffers that come back cost the main
 * thread a garbage collection for every other slab, since V8 counts them as new. A thread that fails or ends fails every slab
 * that it had and every later one; nothing waits for it.
 */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { DeviceError } from "../../format/errors.ts";
import { type Slab, type SlabBuffers, type SlabCheck, slabPacked } from "./pack-slab.ts";
import type { PackThreads, PackThreadsMaker } from "./weight-packing.ts";

/** A thread packs 0.9 to 1.4 GB/s; eight load no faster (3.4 to 3.7 GB/s, H200's machine, 2026-11-29). */
const MOST_THREADS = 4;

/** pack-worker.js answers with what it found, or with an error message. */
interface Packed {
  readonly found: SlabCheck | null;
  readonly error: string | null;
}

interface Pending {
  resolve(found: SlabCheck): void;
  reject(error: Error): void;
}

interface Thread {
  readonly worker: Worker;
  /** Slabs that are being packed, in the order in which answers arrive. */
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
    // A thread could not hand over larger memory.
    slabPacked(slot, slab);
    return new Promise((resolve, reject) => {
      thread.pending.push({ resolve, reject });
      thread.worker.postMessage({ slot, slab });
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
    worker.on("message", ({ found, error }: Packed) => {
      const pending = thread.pending.shift();
      // Answers of others after one has failed.
      if (!pending) return;
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
      for (const { reject } of pending.splice(0)) reject(this.#failure);
  }
}

function failure(found: string): DeviceError {
  return new DeviceError("gpu", `threads that pack weights ${found}. Load the model again.`);
}
