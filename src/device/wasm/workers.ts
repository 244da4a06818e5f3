/**
 * The worker threads of one allocation: start, one step at a time, failure, end. A trap or a lost worker fails the
 * running step and every later one with a DeviceError; nothing waits for a thread that is gone. While no step runs the
 * threads sleep in Atomics.wait and do not keep the process alive.
 */
import { Worker } from "node:worker_threads";
import { DeviceError } from "../../format/errors.ts";
import { CONTROL, CONTROL_BYTES, RECORD_WORDS } from "./abi.js";
import type { Stretch } from "./operations.ts";

/** The value of the step word that ends a worker. */
const EXIT = -1;
/**
 * How often a thread looks at a barrier before it sleeps: 20,000 are about 50 us (lab/LOG.md, 2026-11-23, the engine).
 */
const SPINS = 20_000;

interface WorkerMemory {
  memory: WebAssembly.Memory;
  /** Addresses of the control block and of the operation records. */
  control: number;
  operations: number;
}

export interface WorkerSetup {
  module: WebAssembly.Module;
  memories: readonly WorkerMemory[];
  stretches: readonly Stretch[];
  threads: number;
  /** The number of threads that can run at once. */
  cores: number;
}

interface Pending {
  resolve: () => void;
  reject: (error: Error) => void;
  left: number;
}

export class Workers {
  readonly #workers: Worker[] = [];
  /** The control block of each memory; empty once closed, so that nothing here keeps a memory alive. */
  #controls: Int32Array[];
  #pending: Pending | null = null;
  #failure: DeviceError | null = null;
  #closing: Promise<void> | null = null;
  #step = 0;

  private constructor(setup: WorkerSetup) {
    const { memories, threads, cores } = setup;
    this.#controls = memories.map((m) => new Int32Array(m.memory.buffer, m.control, CONTROL_BYTES / 4));
    for (const words of this.#controls) words[CONTROL.spins / 4] = threads <= cores ? SPINS : 0;
  }

  static async start(setup: WorkerSetup): Promise<Workers> {
    const workers = new Workers(setup);
    const words = { ...CONTROL, exit: EXIT, bytes: CONTROL_BYTES, recordBytes: RECORD_WORDS * 4 };
    const { cores: _, ...rest } = setup;
    try {
      for (let thread = 0; thread < setup.threads; thread++) {
        const worker = new Worker(new URL("./worker.js", import.meta.url), {
          workerData: { ...rest, thread, words },
          // Flags of the parent (test runners, inspectors) are not for the workers.
          execArgv: [],
        });
        worker.on("message", (message) => workers.#hear(message));
        worker.on("error", (error) => workers.#fail(error.message));
        worker.on("exit", () => workers.#closing ?? workers.#fail("a worker thread ended"));
        workers.#workers.push(worker);
      }
      await workers.#expect(setup.threads);
      return workers;
    } catch (error) {
      // If one does not start, the others must end, too.
      await workers.close();
      throw error;
    }
  }

  /** Why no step can start now; null if one can. */
  get refusal(): DeviceError | null {
    if (this.#failure) return this.#failure;
    if (this.#closing) return new DeviceError("wasm", "the device is closed");
    return this.#pending && new DeviceError("wasm", "a step is already running");
  }

  /** Runs the operations [from, to) of the list once on all threads. */
  run(from: number, to: number): Promise<void> {
    const { refusal } = this;
    if (refusal) return Promise.reject(refusal);
    const done = this.#expect(this.#workers.length);
    const [words] = this.#controls;
    words[CONTROL.from / 4] = from;
    words[CONTROL.to / 4] = to;
    // Never 0, which workers start from, and never EXIT.
    this.#step = (this.#step % 0x3fffffff) + 1;
    this.#wake(this.#step);
    return done;
  }

  /** Ends the threads, and with them a running step. Safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    this.#settle(new DeviceError("wasm", "the device was closed during a step"));
    this.#stop();
    this.#wake(EXIT);
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
    this.#controls = [];
  }

  /** Ends a worker from outside, like a crash: for the tests. */
  terminateOne(): Promise<number> {
    return this.#workers[0].terminate();
  }

  #wake(step: number): void {
    const [words] = this.#controls;
    Atomics.store(words, CONTROL.step / 4, step);
    Atomics.notify(words, CONTROL.step / 4);
  }

  /** Threads leave at their next barrier, in whichever memory that is. */
  #stop(): void {
    for (const words of this.#controls) Atomics.store(words, CONTROL.stop / 4, 1);
  }

  /** A promise that resolves when all workers have answered; they keep the process alive until then. */
  #expect(answers: number): Promise<void> {
    for (const worker of this.#workers) worker.ref();
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject, left: answers };
    });
  }

  #hear(message: { failed?: string }): void {
    if (message.failed !== undefined) return this.#fail(message.failed);
    if (this.#pending && --this.#pending.left === 0) this.#settle(null);
  }

  #fail(reason: string): void {
    this.#failure ??= new DeviceError("wasm", `a worker thread failed: ${reason}`);
    this.#stop();
    this.#settle(this.#failure);
  }

  #settle(error: Error | null): void {
    const pending = this.#pending;
    this.#pending = null;
    for (const worker of this.#workers) worker.unref();
    if (error) pending?.reject(error);
    else pending?.resolve();
  }
}
