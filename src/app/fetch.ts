/**
 * The server's API as a function from Request to Response (`nibble-llm/server`), for programs that have a server of their own:
 * Hono, Next's route handlers, Bun.serve, Deno.serve, Node. Owns the defaults that `nibble serve` takes from its options.
 */
import { Grammars } from "../answer/grammar/grammars.ts";
import {
  ArgumentError,
  type GenerateOptions,
  type GenerationResult,
  type LanguageModel,
  sampler,
} from "../index.ts";
import { createApi } from "./api/api.ts";
import { unknownFields } from "./api/field-rules.ts";
import { readGuard } from "./api/guard.ts";
import { Metrics } from "./api/metrics.ts";
import { alone } from "./api/offered.ts";
import type { Served } from "./api/served.ts";

/** Options of `createFetch`. */
export interface FetchOptions {
  /** What clients call the model; the first is told. Default: the model's own name. */
  names?: readonly string[];
  /** In front of /v1: "/api" where the program has it at /api/v1. Default: nothing. */
  basePath?: string;
  /** Clients send it as Authorization: Bearer KEY or x-api-key. Default: none is asked for. */
  apiKey?: string;
  /** Origins of pages that may use it. */
  cors?: readonly string[];
  /** Names of this server besides localhost and addresses: pages of other sites cannot reach it under a name of theirs. */
  allowHosts?: readonly string[];
  /** For what a request does not say. */
  defaults?: GenerateOptions;
  /** Requests that may wait for their turn. Default 64. */
  queue?: number;
  /** Default: 1 MiB and 32 bytes for each token of the context. */
  maxBodyBytes?: number;
  /** Refuse requests with fields that are not known. */
  strict?: boolean;
  /** Hears of errors that are ours. Default: console.error. */
  onError?: (error: unknown) => void;
  /** Hears of each request that is refused, and once of each field that is not known. */
  onRefused?: (line: string) => void;
  /** Hears of each answer that reached its end. */
  onAnswer?: (result: GenerationResult, seconds: number) => void;
}

/** The server's API as a function. */
export interface Fetch {
  (request: Request): Promise<Response>;
  /** Ends what runs and the threads that follow grammars; the model stays open. */
  close(): void;
}

/**
 *     const fetch = createFetch(await load("needle"), { basePath: "/ai" });
 *     new Hono().all("/ai/*", (context) => fetch(context.req.raw));
 *
 * OpenAI's and Anthropic's endpoints, /health and /metrics, as docs/server.md describes them; requests end with their signals. Reads the
 * vocabulary: with 150,000 tokens some 0.1 s. Throws ArgumentError for options out of their ranges.
 */
export function createFetch(model: LanguageModel, options: FetchOptions = {}): Fetch {
  const { basePath = "", queue = 64, defaults = {}, strict = false, onRefused = () => {} } = options;
  if (!/^(\/[^/?#]+)*$/.test(basePath))
    throw new ArgumentError(
      "basePath",
      JSON.stringify(basePath),
      '"" or a path such as "/api", without / at its end',
    );
  if (!(Number.isInteger(queue) && queue >= 0)) throw new ArgumentError("queue", queue, "integers from 0 on");
  sampler(defaults);
  const { apiKey, cors = [], allowHosts = [] } = options;
  const guard = readGuard({ apiKey, cors: [...cors], allowHost: [...allowHosts] });
  const [name = model.config.name, ...others] = options.names ?? [];
  const closing = new AbortController();
  const grammars = new Grammars(model.tokenizer, model.config.vocab);
  const served: Served = {
    ...{ model, grammars, defaults, names: [name, ...others] },
    created: Math.floor(Date.now() / 1000),
    metrics: new Metrics(),
    mostWaiting: queue,
    mostBodyBytes: options.maxBodyBytes ?? 2 ** 20 + 32 * model.plan.context,
    closing: closing.signal,
    failure: null,
    unknownField: unknownFields(strict, onRefused),
    log: options.onError ?? ((error) => console.error(error)),
    refused: onRefused,
    done: options.onAnswer,
  };
  const api = createApi(alone(served), guard, async () => null);
  const fetch = (request: Request) => {
    if (basePath === "") return api(request);
    const url = new URL(request.url);
    // What lies elsewhere is not found, under its own path.
    if (url.pathname.startsWith(`${basePath}/`)) url.pathname = url.pathname.slice(basePath.length);
    return api(new Request(url, request));
  };
  const close = () => {
    closing.abort();
    grammars.close();
  };
  return Object.assign(fetch, { close });
}
