/**
 * The server's API as a function from Request to Response (`nibble-llm/server`), for programs with their own server:
 * Hono, Next's route handlers, Bun.serve, Deno.serve, Node. The defaults are those that `nibble serve` has as options.
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
  /** The model's names for clients; the first is reported. Default: the model's own name. */
  names?: readonly string[];
  /** Prefix of /v1: "/api" where the program has it at /api/v1. Default: none. */
  basePath?: string;
  /** Clients send it as Authorization: Bearer KEY or x-api-key. Default: none is required. */
  apiKey?: string;
  /** Origins of pages that may use it. */
  cors?: readonly string[];
  /** Names of this server, other than localhost and addresses: pages of other sites cannot reach it under their own names. */
  allowHosts?: readonly string[];
  /** For options that a request does not set. */
  defaults?: GenerateOptions;
  /** Requests that may wait for their turn. Default 64. */
  queue?: number;
  /** Default: 1 MiB and 32 bytes for each token of the context. */
  maxBodyBytes?: number;
  /** Refuse requests with unknown fields. */
  strict?: boolean;
  /** Called with internal errors. Default: console.error. */
  onError?: (error: unknown) => void;
  /** Called for each refused request, and once for each unknown field. */
  onRefused?: (line: string) => void;
  /** Called for each answer that reached its end. */
  onAnswer?: (result: GenerationResult, seconds: number) => void;
}

/** The server's API as a function. */
export interface Fetch {
  (request: Request): Promise<Response>;
  /** Ends running requests and the threads of grammars; the model stays open. */
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
    // Other paths are answered with 404.
    if (url.pathname.startsWith(`${basePath}/`)) url.pathname = url.pathname.slice(basePath.length);
    return api(new Request(url, request));
  };
  const close = () => {
    closing.abort();
    grammars.close();
  };
  return Object.assign(fetch, { close });
}
