/**
 * Requests to the Hub and to the servers that it redirects to. The token is sent to the Hub's own origin only. Handles
 * redirects, silence, retries with waits, and the pages of the API.
 */
import { FormatError, NibbleError, throwIfAborted } from "../errors.ts";
import { Dropped, endedBy, type Guard } from "../http-answer.ts";
import { parseJson } from "../json.ts";
import { refuseHubStatus } from "./answers.ts";
import type { HubName } from "./name.ts";

export interface HubClientOptions {
  readonly endpoint: string;
  readonly token: string | null;
  readonly signal?: AbortSignal;
  /** How long a connection may be silent before it counts as dropped. Default 30,000. */
  readonly stallMs?: number;
  /** How often a request without progress is made. Default 6. */
  readonly attempts?: number;
  /** The wait before the second attempt, doubled for each further one. Default 500. */
  readonly backoffMs?: number;
}

/** The Hub cannot be reached, or currently answers nothing useful. */
export class UnreachableError extends NibbleError {}

const MOST_REDIRECTS = 5;
/** The largest response of the API. */
const MOST_JSON_BYTES = 64 * 1024 * 1024;
/** Progress after which the count of attempts starts again. */
const PROGRESS_BYTES = 1024 * 1024;

export class HubClient {
  readonly #name: HubName;
  readonly #options: HubClientOptions;
  readonly #origin: string;

  constructor(name: HubName, options: HubClientOptions) {
    this.#name = name;
    this.#options = options;
    this.#origin = new URL(options.endpoint).origin;
  }

  /** A response of the API; `path` starts at the endpoint. */
  async json(path: string): Promise<unknown> {
    return (await this.page(path)).value;
  }

  /** One page of a list; `following` is the path of the next. */
  async page(path: string): Promise<{ value: unknown; following: string | null }> {
    const thing = this.#name.text;
    return this.attempt(thing, () =>
      this.exchange(async (guard, signal) => {
        const url = new URL(`${this.#options.endpoint}/${path}`);
        const { response, at } = await this.follow(url, {}, guard, signal);
        this.refuse(response, at, thing);
        const text = await textOf(thing, response, guard);
        return {
          value: parseJson(text, `${thing}: the Hub's answer`),
          following: this.#following(response),
        };
      }),
    );
  }

  /** The URL of a file of the repository at a commit, and its name in errors. */
  fileAt(commit: string, path: string): { url: URL; thing: string } {
    const { owner, name } = this.#name;
    const parts = [owner, name, "resolve", commit, ...path.split("/")].map(encodeURIComponent);
    const url = new URL(`${this.#options.endpoint}/${parts.join("/")}`);
    return { url, thing: `${this.#name.text}: ${path}` };
  }

  /** Retries what was dropped. `done` returns the bytes received so far; if it has grown, attempts are counted anew. */
  async attempt<Result>(
    thing: string,
    work: () => Promise<Result>,
    done: () => number = () => 0,
    signal = this.#options.signal,
  ): Promise<Result> {
    const { attempts = 6, backoffMs = 500 } = this.#options;
    let failures = 0;
    let counted = done();
    for (;;) {
      try {
        throwIfAborted(signal, `downloading ${thing}`);
        return await work();
      } catch (error) {
        throwIfAborted(signal, `downloading ${thing}`);
        if (!(error instanceof Dropped)) throw error;
        if (done() - counted >= PROGRESS_BYTES) {
          failures = 0;
          counted = done();
        }
        if (++failures >= attempts)
          throw new UnreachableError("io", `${thing}: ${error.message}, ${failures} times in a row`, {
            cause: error.cause ?? error,
          });
        await pause(Math.max(backoffMs * 2 ** (failures - 1), error.waitMs), signal);
      }
    }
  }

  /** Runs one exchange, which ends if nothing arrives for too long; however it ends, the connection is released. */
  async exchange<Result>(
    work: (guard: Guard, signal: AbortSignal) => Promise<Result>,
    outer = this.#options.signal,
  ): Promise<Result> {
    const { stallMs = 30_000 } = this.#options;
    const controller = new AbortController();
    const stop = () => controller.abort();
    outer?.addEventListener("abort", stop);
    let silent = false;
    const ended = endedBy(controller.signal);
    const guard: Guard = async (step) => {
      const timer = setTimeout(() => {
        silent = true;
        stop();
      }, stallMs);
      try {
        return await Promise.race([step, ended]);
      } catch (cause) {
        // Only failures of the connection are worth another attempt; a full disk is not.
        throw new Dropped(silent ? `no data for ${stallMs} ms` : reasonOf(cause), 0, cause);
      } finally {
        clearTimeout(timer);
      }
    };
    try {
      return await work(guard, controller.signal);
    } catch (error) {
      stop();
      throw error;
    } finally {
      outer?.removeEventListener("abort", stop);
    }
  }

  /** Throws the error for the status of a response from `at`. */
  refuse(response: Response, at: URL, thing: string): void {
    const { status } = response;
    if (!this.isHub(at) && status >= 400 && status < 500 && status !== 408 && status !== 429)
      throw new NibbleError("io", `${thing}: ${at.host}, where the Hub keeps it, answered ${status}`);
    refuseHubStatus(response, this.#asker(thing));
  }

  isHub(url: URL): boolean {
    return url.origin === this.#origin;
  }

  /**
   * Requests `url` and follows its redirects. `trail`: the headers of every response on the way, including the last.
   */
  async follow(
    url: URL,
    headers: Readonly<Record<string, string>>,
    guard: Guard,
    signal: AbortSignal,
  ): Promise<{ response: Response; at: URL; trail: Headers[] }> {
    const trail: Headers[] = [];
    let at = url;
    for (let hop = 0; hop <= MOST_REDIRECTS; hop++) {
      const { token } = this.#options;
      const sent: Record<string, string> = { "accept-encoding": "identity", ...headers };
      if (token !== null && this.isHub(at)) sent.authorization = `Bearer ${token}`;
      const response = await guard(fetch(at, { headers: sent, redirect: "manual", signal }));
      trail.push(response.headers);
      const location = response.headers.get("location");
      if (location === null || ![301, 302, 303, 307, 308].includes(response.status))
        return { response, at, trail };
      await guard(response.body?.cancel() ?? Promise.resolve()).catch(() => {});
      const next = URL.canParse(location, at) ? new URL(location, at) : null;
      const fine =
        next && (next.protocol === "https:" || (next.protocol === "http:" && at.protocol === "http:"));
      if (!fine)
        throw new FormatError(at.origin + at.pathname, "a redirect to something else than http or https");
      at = next;
    }
    throw new NibbleError("io", `${url.origin}${url.pathname}: more than ${MOST_REDIRECTS} redirects`);
  }

  #asker(thing: string) {
    const { endpoint, token } = this.#options;
    const { owner, name } = this.#name;
    return { thing, endpoint, page: `${endpoint}/${owner}/${name}`, token: token !== null };
  }

  /**
   * The path and query of rel="next", from the endpoint on. Wherever it points, the request goes to the configured Hub.
   */
  #following(response: Response): string | null {
    const { endpoint } = this.#options;
    const link = /<([^>]*)>\s*;\s*rel="?next"?/.exec(response.headers.get("link") ?? "")?.[1];
    if (link === undefined) return null;
    const url = URL.canParse(link, `${endpoint}/`) ? new URL(link, `${endpoint}/`) : null;
    const from = url?.pathname.indexOf("/api/models/") ?? -1;
    if (!url || from < 0)
      throw new FormatError(
        this.#name.text,
        `a next page at ${JSON.stringify(link)}`,
        "one of the Hub's API",
      );
    return `${url.pathname.slice(from + 1)}${url.search}`;
  }
}

async function textOf(thing: string, response: Response, guard: Guard): Promise<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for (;;) {
    const { done, value } = reader ? await guard(reader.read()) : { done: true, value: undefined };
    if (done || !value) break;
    bytes += value.length;
    if (bytes > MOST_JSON_BYTES)
      throw new FormatError(`${thing}: the Hub's answer`, `more than ${MOST_JSON_BYTES} bytes`);
    text += decoder.decode(value, { stream: true });
  }
  return text + decoder.decode();
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
    if (signal?.aborted) end();
  });
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error && cause.message ? `${message} (${cause.message})` : message;
}
