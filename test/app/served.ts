/** The server's API in this process, over needle-14m or any model: no socket, so a test can ask thousands of times. */

import { Grammars } from "../../src/answer/grammar/grammars.ts";
import { type Api, createApi } from "../../src/app/api/api.ts";
import type { GuardOptions } from "../../src/app/api/guard.ts";
import { Metrics } from "../../src/app/api/metrics.ts";
import { alone } from "../../src/app/api/offered.ts";
import type { Page } from "../../src/app/api/page.ts";
import type { Served } from "../../src/app/api/served.ts";
import type { ChatTemplate, RenderOptions } from "../../src/format/template.ts";
import { encodeChat } from "../../src/format/template-prompt.ts";
import type { Tokenizer } from "../../src/format/tokenizer.ts";
import { Generation, type GenerationResult, type LanguageModel, type Piece } from "../../src/index.ts";

export const FACT = "The access code of Clara Whitfield is 48213.";
export const QUESTION = "What is the access code of Clara Whitfield?";
/** needle-14m answers them with FACT. */
export const MESSAGES = [
  { role: "system" as const, content: FACT },
  { role: "user" as const, content: QUESTION },
];

export interface Serving {
  api: Api;
  served: Served;
  /** What was told as the server's own fault. */
  faults: unknown[];
  /** As `shutDown` does. */
  close(): void;
  post(path: string, body: unknown, init?: RequestInit): Promise<Response>;
  get(path: string, init?: RequestInit): Promise<Response>;
  /** Posts, and reads the answer's JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: tests say what they expect of it
  ask(path: string, body: unknown): Promise<{ status: number; body: any }>;
}

export interface ServingOptions extends Partial<Served>, Partial<GuardOptions> {
  mostWaiting?: number;
  page?: Page;
}

export function serving(model: LanguageModel, options: ServingOptions = {}): Serving {
  const { mostWaiting = 64, apiKey = null, origins = [], hosts = [], ...others } = options;
  const { page = async () => null, ...rest } = others;
  const faults: unknown[] = [];
  const closing = new AbortController();
  const served: Served = {
    model,
    names: ["needle"],
    created: 1,
    mostWaiting,
    metrics: new Metrics(),
    grammars: new Grammars(model.tokenizer, model.config.vocab),
    defaults: {},
    mostBodyBytes: 2 ** 20,
    closing: closing.signal,
    failure: null,
    unknownField: () => {},
    log: (error) => faults.push(error),
    ...rest,
  };
  const api = createApi(alone(served), { apiKey, origins, hosts }, page);
  const at = (path: string) => `http://localhost${path}`;
  const post: Serving["post"] = (path, body, init = {}) =>
    api(
      new Request(at(path), {
        method: "POST",
        body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
        ...init,
      } as RequestInit),
    );
  return {
    api,
    served,
    faults,
    close: () => closing.abort(),
    post,
    get: (path, init) => api(new Request(at(path), init)),
    ask: async (path, body) => {
      const response = await post(path, body);
      return { status: response.status, body: await response.json() };
    },
  };
}

/** The data of a stream of events; "[DONE]" is left out and must be last. */
export async function eventsOf(response: Response): Promise<Record<string, unknown>[]> {
  const events = (await response.text()).split("\n\n").filter((event) => event.startsWith("data: "));
  if (events.pop() !== "data: [DONE]") throw new Error("the stream does not end with [DONE]");
  return events.map((event) => JSON.parse(event.slice("data: ".length)));
}

export interface TemplateServing extends Serving {
  /** What the model was given last, as text. */
  prompt(): string;
}

/** A server whose model has this template and vocabulary and answers with `pieces`. */
export function servingTemplate(
  tokenizer: Tokenizer,
  chatTemplate: ChatTemplate,
  pieces: (prompt: readonly number[]) => AsyncGenerator<Piece, GenerationResult>,
): TemplateServing {
  let prompt: readonly number[] = [];
  const model = {
    ...{ tokenizer, chatTemplate, config: { vocab: tokenizer.vocab } },
    plan: { context: 100_000, parallel: 1 },
    activity: { running: 0, waiting: 0 },
    encodeInSlices: async (messages: never, { template }: { template: RenderOptions }) =>
      encodeChat(tokenizer, chatTemplate, messages, template),
    generateFrom: (ids: readonly number[]) => {
      prompt = ids;
      return new Generation(pieces(ids));
    },
  } as unknown as LanguageModel;
  return { ...serving(model), prompt: () => tokenizer.decode(prompt, { special: true }) };
}
