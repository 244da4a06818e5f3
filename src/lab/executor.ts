/**
 * How the lab speaks to a database: `run` takes statements and gives their rows, and one call is one atomic unit, with any
 * database (PGlite in this process or another, Postgres). A call whose connection broke may have been carried
 * out all the same, so callers' units are idempotent. Classifies errors and retries
 * while a database is unavailable.
 */
import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { NibbleError } from "../format/errors.ts";
import type { Entry } from "./types.ts";

export interface Statement {
  readonly text: string;
  /** null, booleans, numbers, strings, and arrays or objects of them. Without: `text` may be several statements. */
  readonly values?: readonly unknown[];
}

export type Row = Readonly<Record<string, unknown>>;

export interface Executor {
  /**
   * Rows of each statement. All are carried out, or none. `entries`: what these statements add to the lab, for an owner's
   * journal. SqlError: the database refused; AwayError: it did not answer.
   */
  run(statements: readonly Statement[], entries?: readonly Entry[]): Promise<Row[][]>;
  close(): Promise<void>;
}

/** The database refused a statement. `state`: SQLSTATE. */
export class SqlError extends NibbleError {
  constructor(
    readonly state: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super("io", `database: ${message}`, options);
  }
}

/** No answer from the database: it is unreachable, stopping or starting. */
export class AwayError extends NibbleError {
  constructor(what: string, options?: ErrorOptions) {
    super("io", `database: ${what}`, options);
  }
}

/** Errors after which the same unit may succeed: a deadlock's victim, or a unit that lost against another. */
const AGAIN = ["40001", "40P01"];
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2000;

export interface Patience {
  /** How long one call waits for an unavailable database. */
  readonly patienceMs: number;
  /** The user stops: from then on all calls together have `leavingMs` to give back what runs. */
  readonly signal?: AbortSignal;
  /** Default: 5 s. */
  readonly leavingMs?: number;
}

/** Retries while the database is unavailable, up to `patienceMs` in one call, with growing pauses. */
export class PatientExecutor implements Executor {
  readonly #inner: Executor;
  readonly #patienceMs: number;
  readonly #closing = new AbortController();
  readonly #stopLeaving: () => void;

  constructor(inner: Executor, { patienceMs, signal, leavingMs = 5000 }: Patience) {
    this.#inner = inner;
    this.#patienceMs = patienceMs;
    // Each call may have a listener.
    setMaxListeners(0, this.#closing.signal);
    let timer: NodeJS.Timeout | undefined;
    const leave = () => {
      timer = setTimeout(() => this.#closing.abort(), leavingMs);
    };
    if (signal?.aborted) leave();
    else signal?.addEventListener("abort", leave, { once: true });
    this.#stopLeaving = () => {
      signal?.removeEventListener("abort", leave);
      clearTimeout(timer);
    };
  }

  async run(statements: readonly Statement[], entries?: readonly Entry[]): Promise<Row[][]> {
    const start = performance.now();
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        return await this.#untilClosing(this.#inner.run(statements, entries));
      } catch (error) {
        const again =
          error instanceof AwayError || (error instanceof SqlError && AGAIN.includes(error.state));
        if (!again || this.#closing.signal.aborted || performance.now() - start > this.#patienceMs)
          throw error;
        // Random pauses, so that units that collided do not collide again.
        await sleep(pause * (0.5 + Math.random()), undefined, { signal: this.#closing.signal }).catch(
          () => {},
        );
      }
    }
  }

  /** A server that froze gives neither an answer nor an error. */
  async #untilClosing<T>(answer: Promise<T>): Promise<T> {
    const { signal } = this.#closing;
    let give = () => {};
    const closed = new Promise<never>((_, reject) => {
      give = () => reject(new AwayError("no answer until the lab was left"));
    });
    if (signal.aborted) give();
    else signal.addEventListener("abort", give, { once: true });
    try {
      return await Promise.race([answer, closed]);
    } finally {
      signal.removeEventListener("abort", give);
    }
  }

  async close(): Promise<void> {
    this.#stopLeaving();
    this.#closing.abort();
    await this.#inner.close();
  }
}

/** Imports a package that only a lab with a database needs. */
export async function optional<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    throw new NibbleError(
      "unsupported",
      `a lab with a database needs the package ${name}, which is not installed or cannot be loaded; install it: npm install @electric-sql/pglite@0.5.17 pg@8 pg-boss@10.4.2 postgrator@8`,
      { cause },
    );
  }
}
