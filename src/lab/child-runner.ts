/**
 * Runs claims in a child process (`Runner`). The parent stays free to send heartbeats and ends a child that takes too long,
 * by SIGTERM and then SIGKILL. A child that dies is an error of its experiment; the next claim gets a new child.
 */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { AbortedError, NibbleError, throwIfAborted } from "../format/errors.ts";
import type { Claim, Runner } from "./book.ts";
import type { ModelEntry, ResultEntry } from "./types.ts";

export interface ChildOptions {
  /** URL of a module with `openRunner(models, options, signal)`. Default: this library's. */
  readonly module?: string;
  readonly models: readonly string[];
  /** Plain data, for openRunner. */
  readonly options?: object;
  /**
   * The lower bound of an experiment's time limit; where the model's speed is known, the limit is five times the estimate.
   * Default: 1 minute.
   */
  readonly leastMs?: number;
  /** The time limit of an experiment while its model's speed is unknown. Default: 1 hour. */
  readonly firstMs?: number;
  /** Time between SIGTERM and SIGKILL. Default: 5 s. */
  readonly graceMs?: number;
}

/** The experiment exceeded its time limit. */
export class DeadlineError extends NibbleError {
  constructor(ms: number) {
    super("io", `no result after ${(ms / 1000).toFixed(1)} s, five times what was expected; stopped`);
    // The platform's name for it, by which a worker's loop recognises it.
    this.name = "TimeoutError";
  }
}

interface Answer {
  ready?: { can: string[]; entries: ModelEntry[] };
  result?: ResultEntry;
  error?: { name: string; message: string };
}

const KEPT_WORDS = 2000;

export class ChildRunner implements Runner {
  readonly #options: ChildOptions;
  #child: Child | null = null;
  /** For each model, the milliseconds of a position in its slowest run so far. */
  readonly #speeds = new Map<string, number>();
  can: readonly string[] = [];
  entries: readonly ModelEntry[] = [];

  private constructor(options: ChildOptions) {
    this.#options = options;
  }

  /** Starts a child and waits until its models are open. */
  static async open(options: ChildOptions, signal?: AbortSignal): Promise<ChildRunner> {
    const runner = new ChildRunner(options);
    await runner.#start(signal);
    return runner;
  }

  async #start(signal?: AbortSignal): Promise<Child> {
    throwIfAborted(signal, "starting a worker's child");
    const {
      module = new URL("./runner.js", import.meta.url).href,
      models,
      options = {},
      graceMs,
    } = this.#options;
    const child = new Child(module);
    const { ready } = await child.ask({ models, options }, { signal, graceMs }).catch(async (error) => {
      await child.end(graceMs);
      throw error;
    });
    if (ready === undefined)
      throw new NibbleError("io", "a worker's child gave another answer than that it is ready");
    this.can = ready.can;
    this.entries = ready.entries;
    this.#child = child;
    return child;
  }

  async run(claim: Claim, signal: AbortSignal): Promise<ResultEntry> {
    const child = this.#child?.isAlive ? this.#child : await this.#start(signal);
    const { model, rung } = claim.experiment;
    const { token: _, ...plain } = claim;
    const speed = this.#speeds.get(model);
    const { leastMs = 60_000, firstMs = 3_600_000, graceMs } = this.#options;
    const deadlineMs = speed === undefined ? firstMs : Math.max(leastMs, 5 * speed * rung);
    const began = performance.now();
    const { result } = await child.ask({ claim: plain }, { signal, deadlineMs, graceMs });
    if (result === undefined) throw new NibbleError("io", "a worker's child gave no result");
    this.#speeds.set(model, Math.max(speed ?? 0, (performance.now() - began) / rung));
    return result;
  }

  async close(): Promise<void> {
    await this.#child?.end(this.#options.graceMs);
    this.#child = null;
  }
}

class Child {
  readonly #process: ChildProcess;
  readonly #ended: Promise<string>;
  #words = "";
  isAlive = true;

  constructor(module: string) {
    const file = fileURLToPath(new URL("./child.js", import.meta.url));
    this.#process = fork(file, [module], { stdio: ["ignore", "ignore", "pipe", "ipc"], execArgv: [] });
    this.#process.stderr?.setEncoding("utf8").on("data", (words: string) => {
      this.#words = (this.#words + words).slice(-KEPT_WORDS);
    });
    this.#ended = new Promise((resolve) => {
      const ended = (how: string) => {
        this.isAlive = false;
        resolve(how);
      };
      this.#process.on("error", (error) => ended(error.message));
      this.#process.on("close", (code, signal) => ended(this.#how(code, signal)));
    });
  }

  #how(code: number | null, signal: string | null): string {
    const words = this.#words.trim();
    // The kernel kills a process that takes too much memory without a message; V8 prints one before it aborts.
    const memory = signal === "SIGKILL" || /heap out of memory/.test(words) ? " (out of memory?)" : "";
    return `the child ended with ${signal ?? `exit code ${code}`}${memory}${words && `: ${words}`}`;
  }

  /** Sends a message and waits for the reply. After any error that the child did not report itself, the child has ended. */
  async ask(
    message: object,
    { signal, deadlineMs, graceMs }: { signal?: AbortSignal; deadlineMs?: number; graceMs?: number },
  ): Promise<Answer> {
    const cleanups: (() => void)[] = [];
    try {
      return await new Promise<Answer>((resolve, reject) => {
        // Why we end it; later messages of the child are ignored.
        let reason: NibbleError | null = null;
        const onAnswer = ({ error, ...answer }: Answer) => {
          if (reason) return;
          if (error) reject(Object.assign(new Error(error.message), { name: error.name }));
          else resolve(answer);
        };
        this.#process.on("message", onAnswer);
        cleanups.push(() => this.#process.off("message", onAnswer));
        void this.#ended.then((how) => reject(reason ?? new NibbleError("io", how)));
        const giveUp = (error: NibbleError) => {
          reason ??= error;
          void this.end(graceMs);
        };
        const onAbort = () => giveUp(new AbortedError("an experiment"));
        signal?.addEventListener("abort", onAbort, { once: true });
        cleanups.push(() => signal?.removeEventListener("abort", onAbort));
        if (deadlineMs !== undefined) {
          const timer = setTimeout(() => giveUp(new DeadlineError(deadlineMs)), deadlineMs);
          cleanups.push(() => clearTimeout(timer));
        }
        if (this.isAlive) this.#process.send(message, () => {});
      });
    } finally {
      for (const cleanup of cleanups) cleanup();
    }
  }

  /** Asks it to end, then kills it. */
  async end(graceMs = 5000): Promise<void> {
    if (!this.isAlive) return;
    this.#process.kill("SIGTERM");
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), graceMs);
    await this.#ended;
    clearTimeout(timer);
  }
}
