/**
 * Threads that many allocations of a test file use one after another. A thread of Node takes 50 ms of processor time to
 * start (EPYC, 2026-11-30), and conformance.test.ts makes 200 allocations. Each allocation runs the whole of worker.js, as
 * in a thread of its own, which workers.test.ts and others start.
 */
import { EventEmitter } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire, syncBuiltinESMExports } from "node:module";
import type { Worker, WorkerOptions } from "node:worker_threads";
import { afterAll, beforeAll } from "vitest";

/** CommonJS's exports can be changed; `syncBuiltinESMExports` copies them to what modules import. */
const threads: { Worker: typeof Worker } = createRequire(import.meta.url)("node:worker_threads");

/** Runs worker.js once for each message. As a function, so that nothing of it stays when it has ended. */
const RUNS = `
const { parentPort } = require("node:worker_threads");
parentPort.on("message", ({ text, workerData }) => {
  new Function("parentPort", "workerData", text)(parentPort, workerData);
  parentPort.postMessage({ hasEnded: true });
});`;

const IMPORT = 'import { parentPort, workerData } from "node:worker_threads";\n';

/** One use of a thread, with what workers.ts asks of a Worker. */
class SharedThread extends EventEmitter {
  readonly #thread: Worker;
  readonly #ended: Promise<void>;

  constructor(url: URL, { workerData }: WorkerOptions) {
    super();
    this.#thread = idle.pop() ?? new RealWorker(RUNS, { eval: true, execArgv: [] });
    const text = readFileSync(url, "utf8");
    if (!text.includes(IMPORT)) throw new Error(`${url} imports something else`);
    this.#ended = new Promise((resolve) => {
      this.#thread.on("message", (message: { hasEnded?: true }) => {
        if (message.hasEnded) resolve();
        else this.emit("message", message);
      });
    });
    for (const event of ["error", "exit"]) this.#thread.on(event, (found) => this.emit(event, found));
    this.#thread.postMessage({ text: text.replace(IMPORT, ""), workerData });
  }

  ref(): void {
    this.#thread.ref();
  }

  unref(): void {
    this.#thread.unref();
  }

  /** The host has told the thread to end. */
  async terminate(): Promise<number> {
    this.#thread.ref();
    await this.#ended;
    this.#thread.unref();
    // Not all: Node has some of its own, without which a thread that is used again is never heard.
    for (const event of ["message", "error", "exit"]) this.#thread.removeAllListeners(event);
    idle.push(this.#thread);
    return 0;
  }
}

const RealWorker = threads.Worker;
const idle: Worker[] = [];

/** From here to the end of the file, CPU devices share threads. */
export function shareThreads(): void {
  const set = (worker: typeof Worker) => {
    threads.Worker = worker;
    syncBuiltinESMExports();
  };
  beforeAll(() => set(SharedThread as unknown as typeof Worker));
  afterAll(async () => {
    set(RealWorker);
    await Promise.all(idle.splice(0).map((thread) => thread.terminate()));
  });
}
