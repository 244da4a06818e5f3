/**
 * A file on an HTTP server as a Source, by range requests with the Web's fetch, in Node and in a page. It handles what
 * a server may do wrong: ignore Range, send another range, drop the connection, stall, or send a file that changed
 * between two requests. Dropped connections and overloaded servers are retried from where they stopped; anything else
 * is one error.
 */
import { ArgumentError, FormatError, NibbleError, throwIfAborted } from "./errors.ts";
import type { Folder } from "./folder.ts";
import {
  contentRange,
  Dropped,
  endedBy,
  type Guard,
  MissingError,
  receive,
  refuseStatus,
} from "./http-answer.ts";
import { PAGE_BYTES, pagedSource } from "./paged-source.ts";
import type { Source } from "./source.ts";

/** Options for files that are read over HTTP. */
export interface HttpOptions {
  /** Sent with every request: { authorization: "Bearer ..." }. */
  headers?: Readonly<Record<string, string>>;
  /**
   * How fetch uses the browser's cache. Default: "default", which keeps what fits for the next visit, but Chromium then
   * makes the requests for one file one after another. "no-store": in parallel, for pages that keep models themselves.
   */
  cache?: RequestCache;
  /** Ends every read, current and later, with AbortedError. */
  signal?: AbortSignal;
  /** How long a connection may be silent before it counts as dropped. Default 30,000. */
  stallMs?: number;
  /** How often a request without progress is made before the read fails. Default 5. */
  attempts?: number;
  /** The wait before the second attempt, doubled for each further one. Default 300. */
  backoffMs?: number;
}

/** Progress after which the count of attempts starts again. */
const PROGRESS_BYTES = 1024 * 1024;

/**
 * Opens a file by its URL (in a page also a relative one) with one request for its first page. Throws NibbleError "io"
 * if it is unreachable or missing or the server has no ranges; FormatError for a wrong response or a changed file, also
 * in reads.
 */
export async function httpSource(url: string | URL, options: HttpOptions = {}): Promise<Source> {
  const file = new HttpFile(url, options);
  const first = await file.open();
  return pagedSource(file, first);
}

/** The files of one folder under a URL: parts of a split GGUF, or a safetensors folder. */
export function httpFolder(url: string | URL, options: HttpOptions = {}): Folder {
  const base = absolute(url);
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return {
    name: nameOf(base).slice(0, -1),
    async open(file) {
      const at = new URL(encodeURIComponent(file), base);
      // A signed or versioned URL has a query, which the folder's other files need, too.
      at.search = base.search;
      try {
        return await httpSource(at, options);
      } catch (error) {
        if (error instanceof MissingError) return null;
        throw error;
      }
    },
  };
}

/** The files in the folder of `url`. */
export function httpSiblings(url: string | URL, options: HttpOptions = {}): Folder {
  const folder = absolute(url);
  folder.pathname = folder.pathname.replace(/[^/]*$/, "");
  return httpFolder(folder, options);
}

/** What must stay the same from one response to the next. */
interface Identity {
  readonly size: number;
  readonly etag: string | null;
  readonly modified: string | null;
}

class HttpFile implements Source {
  readonly #url: URL;
  readonly name: string;
  readonly #options: HttpOptions;
  #identity: Identity | null = null;
  /** For pending requests and waits. */
  readonly #running = new Set<AbortController>();
  #closed = false;
  readonly #stop = () => {
    for (const controller of this.#running) controller.abort();
  };

  constructor(url: string | URL, options: HttpOptions) {
    this.#url = absolute(url);
    this.name = nameOf(this.#url);
    this.#options = options;
    options.signal?.addEventListener("abort", this.#stop);
  }

  /** Known once the file is open. */
  get size(): number {
    return this.#identity?.size ?? 0;
  }

  /** The first page, or the whole file if it is shorter. */
  async open(): Promise<Uint8Array> {
    try {
      const page = new Uint8Array(PAGE_BYTES);
      await this.read(0, page);
      return page.slice(0, this.size);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    const { attempts = 5, backoffMs = 300 } = this.#options;
    const bytes = () => (this.#identity ? Math.min(into.length, this.#identity.size - offset) : into.length);
    let done = 0;
    let failures = 0;
    let counted = 0;
    while (!this.#identity || done < bytes()) {
      try {
        this.#check();
        await this.#exchange(offset + done, into.subarray(done, bytes()), (more) => {
          done += more;
        });
      } catch (error) {
        if (!(error instanceof Dropped)) throw error;
        this.#check();
        if (done - counted >= PROGRESS_BYTES) {
          failures = 0;
          counted = done;
        }
        if (++failures >= attempts) throw this.#givesUp(failures, error);
        await this.#pause(Math.max(backoffMs * 2 ** (failures - 1), error.waitMs));
      }
    }
  }

  /** One request for as much of `into` as the file has; the server may send less. `onBytes` counts as bytes arrive. */
  async #exchange(offset: number, into: Uint8Array, onBytes: (bytes: number) => void): Promise<void> {
    await this.#during(async (guard, signal) => {
      const { cache } = this.#options;
      const headers = { ...this.#options.headers, range: `bytes=${offset}-${offset + into.length - 1}` };
      const response = await guard(fetch(this.#url, { headers, cache, signal }));
      if (
        response.status === 416 &&
        !this.#identity &&
        response.headers.get("content-range") === "bytes */0"
      ) {
        this.#identity = { size: 0, etag: null, modified: null };
        return;
      }
      refuseStatus(this.name, response);
      const range = contentRange(this.name, response);
      // Hidden from a page of another origin unless the server lists it in Access-Control-Expose-Headers.
      const size = range?.size ?? this.#identity?.size ?? (await guard(this.#askSize(signal)));
      this.#compare(response, size);
      const end = Math.min(offset + into.length, size);
      if (range && (range.start !== offset || range.end > end))
        throw new FormatError(
          this.name,
          `a response with bytes ${range.start} to ${range.end}`,
          `${offset} to ${end}, the requested range`,
        );
      await receive(this.name, response, into.subarray(0, (range?.end ?? end) - offset), guard, onBytes);
    });
  }

  async #askSize(signal: AbortSignal): Promise<number> {
    const { headers, cache } = this.#options;
    const head = await fetch(this.#url, { method: "HEAD", headers, cache, signal });
    if (!head.ok) throw new Dropped(`the server answered ${head.status} to HEAD`);
    const size = Number(head.headers.get("content-length") ?? Number.NaN);
    if (Number.isSafeInteger(size)) return size;
    throw new FormatError(this.name, "a response without a size", "Content-Range or Content-Length");
  }

  #compare(response: Response, size: number): void {
    const etag = response.headers.get("etag")?.replace(/^W\//, "") ?? null;
    const modified = response.headers.get("last-modified");
    const first = (this.#identity ??= { size, etag, modified });
    // A date is weaker than a tag, and two servers of one file may report different dates.
    const [was, is] =
      first.etag !== null && etag !== null
        ? [first.etag, etag]
        : first.modified !== null && modified !== null
          ? [first.modified, modified]
          : ["", ""];
    if (size !== first.size)
      throw new FormatError(this.name, `it changed from ${first.size} to ${size} bytes while it was read`);
    if (was !== is) throw new FormatError(this.name, `it changed from ${was} to ${is} while it was read`);
  }

  /**
   * Runs one exchange. `guard` waits for one step of it, up to the longest silence allowed. However the exchange ends,
   * the connection is released.
   */
  async #during(work: (guard: Guard, signal: AbortSignal) => Promise<void>): Promise<void> {
    const { stallMs = 30_000 } = this.#options;
    const controller = new AbortController();
    const { signal } = controller;
    this.#running.add(controller);
    let silent = false;
    const ended = endedBy(signal);
    const guard: Guard = async (step) => {
      const timer = setTimeout(() => {
        silent = true;
        controller.abort();
      }, stallMs);
      try {
        return await Promise.race([step, ended]);
      } finally {
        clearTimeout(timer);
      }
    };
    try {
      await work(guard, signal);
    } catch (error) {
      controller.abort();
      this.#check();
      if (error instanceof NibbleError || error instanceof Dropped) throw error;
      throw new Dropped(silent ? `no data for ${stallMs} ms` : reasonOf(error), 0, error);
    } finally {
      this.#running.delete(controller);
    }
  }

  async #pause(ms: number): Promise<void> {
    const controller = new AbortController();
    this.#running.add(controller);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      controller.signal.addEventListener("abort", () => {
        clearTimeout(timer);
        resolve();
      });
    });
    this.#running.delete(controller);
  }

  #check(): void {
    throwIfAborted(this.#options.signal, `reading ${this.name}`);
    if (this.#closed) throw new NibbleError("io", `${this.name}: it is closed`);
  }

  #givesUp(attempts: number, { message, cause }: Dropped): NibbleError {
    const inPage = (globalThis as { location?: unknown }).location !== undefined;
    const cors =
      inPage && this.#identity === null ? " Does the server allow pages of this origin (CORS)?" : "";
    return new NibbleError("io", `${this.name}: ${message}, ${attempts} times in a row.${cors}`, { cause });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#options.signal?.removeEventListener("abort", this.#stop);
    this.#stop();
  }
}

function absolute(url: string | URL): URL {
  const page = (globalThis as { location?: { href?: string } }).location?.href;
  const parsed = URL.canParse(url, page) ? new URL(url, page) : null;
  if (parsed === null || !/^https?:$/.test(parsed.protocol))
    throw new ArgumentError("url", JSON.stringify(String(url)), "http and https URLs");
  // fetch refuses them on every attempt.
  if (parsed.username || parsed.password)
    throw new ArgumentError("url", nameOf(parsed), "URLs without a password; give an authorization header");
  return parsed;
}

/** Without a query, which may contain a secret, so that the name ends with the file's own name. */
function nameOf({ origin, pathname }: URL): string {
  return `${origin}${pathname}`;
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error && cause.message ? `${message} (${cause.message})` : message;
}
