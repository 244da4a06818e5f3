/**
 * The page's side of its worker: a call by name, progress while it works, one result or one error. Calls are numbered, and
 * none is left waiting when the worker fails or is closed.
 */
import type { ErrorCode } from "../../src/browser.ts";
import type { FromWorker, Work, WorkName } from "./protocol.ts";

/** What went wrong in the worker. `code` is that of Nibble's errors; null: anything else. */
export class WorkError extends Error {
  constructor(
    readonly code: ErrorCode | null,
    message: string,
  ) {
    super(message);
  }
}

interface Waiting {
  progress(progress: unknown): void;
  done(gives: unknown): void;
  fail(error: WorkError): void;
}

export interface CallOptions<Name extends WorkName> {
  onProgress?: (progress: Work[Name]["progress"]) => void;
  /** Asks the work to end; the call rejects with code "aborted" when it has. */
  signal?: AbortSignal;
}

export class PageWorker {
  readonly #worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  #closed: WorkError | null = null;

  constructor() {
    this.#worker.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => {
      const waiting = this.#waiting.get(data.id);
      if (!waiting) return;
      if ("progress" in data) waiting.progress(data.progress);
      else {
        this.#waiting.delete(data.id);
        if ("gives" in data) waiting.done(data.gives);
        else waiting.fail(new WorkError(data.code, data.message));
      }
    });
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#end(
        new WorkError("io", "a part of this page could not be loaded or has failed. Reload the page."),
      );
    });
  }

  call<Name extends WorkName>(
    name: Name,
    ask: Work[Name]["ask"],
    { onProgress, signal }: CallOptions<Name> = {},
  ): Promise<Work[Name]["gives"]> {
    return new Promise((done, fail) => {
      if (this.#closed) return fail(this.#closed);
      const id = this.#next++;
      const stop = () => this.#worker.postMessage({ id, stop: true });
      const settled =
        <Value>(then: (value: Value) => void) =>
        (value: Value) => {
          signal?.removeEventListener("abort", stop);
          then(value);
        };
      this.#waiting.set(id, {
        progress: (progress) => onProgress?.(progress as Work[Name]["progress"]),
        done: settled((gives: unknown) => done(gives as Work[Name]["gives"])),
        fail: settled(fail),
      });
      this.#worker.postMessage({ id, name, ask });
      signal?.addEventListener("abort", stop, { once: true });
      if (signal?.aborted) stop();
    });
  }

  /** What runs is dropped, and all memory is freed. */
  close(): void {
    this.#end(new WorkError("aborted", "the model was closed"));
    this.#worker.terminate();
  }

  #end(error: WorkError): void {
    this.#closed = error;
    for (const waiting of this.#waiting.values()) waiting.fail(error);
    this.#waiting.clear();
  }
}
