/**
 * `nibble serve`: the API over HTTP. The socket, the output, and the shutdown: no new requests, running ones may
 * finish for a while and are then cancelled. The API is in `api/`.
 */
import { setMaxListeners } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ArgumentError, NibbleError, sampler } from "../index.ts";
import { type Api, createApi } from "./api/api.ts";
import { ApiError, errorResponse } from "./api/errors.ts";
import { type GuardOptions, readGuard } from "./api/guard.ts";
import { openPage } from "./api/page.ts";
import { HTTP_BOUNDS, httpServer } from "./http-server.ts";
import { write } from "./interrupt.ts";
import { type OfferOptions, openServing, type Serving } from "./serve-models.ts";

interface ServeOptions extends OfferOptions {
  host: string;
  port: number;
  apiKey?: string;
  cors: string[];
  allowHost: string[];
  grace: number;
  connections?: number;
  connectionsPerAddress?: number;
}

const MOST_PARALLEL = 64;

/** dist/page, next to dist/app, and the packaged models, which the page can run itself. */
const HERE = dirname(fileURLToPath(import.meta.url));
const PAGE = join(HERE, "..", "page");
const MODELS = join(HERE, "..", "..", "models", "needle-14m");

export async function serve(
  models: readonly string[],
  options: ServeOptions,
  signal: AbortSignal,
): Promise<void> {
  // Options first: a typing mistake should not cost the time to load a model.
  sampler(options);
  checkOptions(options);
  const guard = guardOf(options);
  const page = await openPage(PAGE, MODELS);
  let api: Api = async () => errorResponse(LOADING);
  const server = httpServer((request) => api(request), connectionBounds(options));
  // Before the model, too: a port in use is reported at once, and early requests learn that the model is loading.
  await listen(server, options);
  const closing = new AbortController();
  // Each request that runs or waits adds a listener.
  setMaxListeners(0, closing.signal);
  let serving: Serving | null = null;
  try {
    serving = await openServing(models, options, closing.signal, signal);
    api = createApi(serving.offered, guard, page);
    await write(`${greeting(serving, server, guard.apiKey === null)}\n`, signal);
    await ended(signal);
  } finally {
    await shutDown(server, closing, serving ? options.grace : 0);
    await serving?.close();
  }
}

const LOADING = new ApiError(503, "the model is loading; try again soon", {
  code: "loading",
  headers: { "retry-after": "1" },
});

function checkOptions(options: ServeOptions): void {
  const { port, grace, queue, parallel } = options;
  if (port > 65535) throw new ArgumentError("port", port, "0 (any that is free) to 65535");
  if (!(parallel >= 1 && parallel <= MOST_PARALLEL))
    throw new ArgumentError("parallel", parallel, `1 to ${MOST_PARALLEL}`);
  if (grace > 3600) throw new ArgumentError("grace", grace, "0 to 3600 seconds");
  if (queue > 100_000) throw new ArgumentError("queue", queue, "0 to 100000");
  for (const name of ["connections", "connectionsPerAddress"] as const)
    if (!((options[name] ?? 1) >= 1)) throw new ArgumentError(name, options[name], "integers from 1 on");
}

/** A longer queue is for more clients; one address may use all of it. */
function connectionBounds({ connections, connectionsPerAddress, parallel, queue }: ServeOptions) {
  const requests = parallel + queue;
  return {
    connections: connections ?? Math.max(HTTP_BOUNDS.connections, 2 * requests),
    connectionsPerAddress: connectionsPerAddress ?? Math.max(HTTP_BOUNDS.connectionsPerAddress, requests),
  };
}

/** An empty variable means no key, as other programs read it; an empty option is a mistake, such as an unset variable. */
function guardOf({
  apiKey = process.env.NIBBLE_API_KEY || undefined,
  ...options
}: ServeOptions): GuardOptions {
  const { hosts, ...guard } = readGuard({ ...options, apiKey });
  return { ...guard, hosts: [options.host.toLowerCase(), ...hosts] };
}

function listen(server: Server, { host, port }: ServeOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const reasons: Record<string, string> = {
        EADDRINUSE: "in use already; choose another with --port",
        EACCES: "not ours to take; ports from 1024 on are",
        EADDRNOTAVAIL: "no address of this machine",
        ENOTFOUND: "a name that is not known",
      };
      reject(
        new NibbleError("io", `${host}:${port} is ${reasons[cause.code ?? ""] ?? cause.message}`, { cause }),
      );
    });
    server.listen(port, host, resolve);
  });
}

function greeting({ name, about }: Serving, server: Server, isOpen: boolean): string {
  const { address, family, port } = server.address() as AddressInfo;
  const url = `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
  const warning =
    isOpen && !(address.startsWith("127.") || address === "::1")
      ? "\nnibble: anyone who reaches this address may use the model; --api-key asks for a key"
      : "";
  return `${name} at ${url} · OpenAI API at ${url}/v1 · ${about}${warning}`;
}

function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** grace: seconds for what runs. */
async function shutDown(server: Server, closing: AbortController, grace: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // Connections that were busy when the server was closed, and would be kept alive needlessly.
  const idle = setInterval(() => server.closeIdleConnections(), 50);
  const cancel = setTimeout(() => closing.abort(), grace * 1000);
  // Cancelled answers report that to their clients; a client that does not read it is disconnected.
  const cut = setTimeout(() => server.closeAllConnections(), grace * 1000 + 1000);
  await closed;
  clearInterval(idle);
  clearTimeout(cancel);
  clearTimeout(cut);
}
