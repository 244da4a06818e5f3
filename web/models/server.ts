/**
 * A server that speaks OpenAI's API: its models, and answers as a stream. Turns its statuses and broken connections
 * into messages for people. What other servers leave out (usage, the context, the cache's size) is null, not guessed.
 */

import type { ChatMessage, KvRate } from "../../src/browser.ts";
import { ReasoningStream, type StreamedPart } from "../../src/page.ts";
import { amountOf, fieldsOf, listOf, textOf } from "../checked.ts";
import type { FormatRates } from "../work/protocol.ts";
import {
  type AnswerEnd,
  AnswerFailure,
  type AnswerFigures,
  type AnswerOptions,
  type AnswerResult,
  type ChatModel,
  speedometer,
  type TokenCount,
} from "./model.ts";
import { eventData } from "./sse.ts";

export interface ServerAddress {
  /** Ends with "/v1/". */
  readonly url: string;
  /** "": none. */
  readonly key: string;
}

export interface ServerModel {
  readonly id: string;
  /** "loaded", "unloaded", "loading", "failed": the words of Nibble and llama.cpp; null: not reported. */
  readonly state: string | null;
  /** Loaded part of its weights, 0 to 1; null: not reported, or not loading. */
  readonly part: number | null;
  readonly context: number | null;
  readonly kv: string | null;
  readonly rates: readonly KvRate[] | null;
  readonly formats: readonly FormatRates[];
}

/** An address as people type it -> the API's address. "": where this page comes from. null: no address. */
export function serverUrl(text: string, page: string): string | null {
  const written = text.trim();
  const full = /^[a-z]+:\/\//i.test(written) || written === "" ? written : `http://${written}`;
  try {
    const url = new URL(full, page);
    if (url.protocol !== "http:" && url.protocol !== "https:") return null;
    const path = written === "" ? url.pathname.replace(/[^/]*$/, "") : `${url.pathname.replace(/\/+$/, "")}/`;
    return `${url.origin}${path.endsWith("/v1/") ? path : `${path}v1/`}`;
  } catch {
    return null;
  }
}

/** Rejects with AnswerFailure. */
export async function serverModels(server: ServerAddress, signal?: AbortSignal): Promise<ServerModel[]> {
  const response = await request(server, "models", { signal });
  const body = await response.json().catch(() => null);
  const list: unknown = body?.data;
  if (!Array.isArray(list)) throw new AnswerFailure("other", `${server.url} answers, but is no OpenAI API.`);
  return list
    .filter((entry) => typeof entry?.id === "string")
    .map((entry) => ({
      id: entry.id,
      state: textOf(entry.status?.value),
      part: amountOf(entry.status?.progress?.bytes / entry.status?.progress?.totalBytes),
      // Nibble's own, vLLM's, llama.cpp's.
      context: amountOf(entry.nibble?.context ?? entry.max_model_len ?? entry.meta?.n_ctx),
      kv: textOf(entry.nibble?.kv),
      rates: readRates(entry.nibble?.cacheRates),
      formats: listOf(entry.nibble?.formats, (item) => {
        const { name, rates } = fieldsOf(item);
        const read = { name: textOf(name), rates: readRates(rates) };
        return read.name === null || read.rates === null ? null : (read as FormatRates);
      }),
    }));
}

/** null unless all are rates: a sum without one of them would be wrong. */
function readRates(value: unknown): KvRate[] | null {
  const rates = listOf(value, (item) => {
    const found = fieldsOf(item);
    const capacity = amountOf(found.capacity);
    const tokenBytes = amountOf(found.tokenBytes);
    const tokenBytesF16 = amountOf(found.tokenBytesF16);
    if (capacity === null || tokenBytes === null || tokenBytesF16 === null) return null;
    return { capacity, tokenBytes, tokenBytesF16 };
  });
  return Array.isArray(value) && rates.length === value.length ? rates : null;
}

export class ServerChatModel implements ChatModel {
  readonly kind = "server";
  readonly name: string;
  readonly place: string;
  context!: number | null;
  kv!: string | null;
  rates!: readonly KvRate[] | null;
  formats!: readonly FormatRates[];

  constructor(
    readonly server: ServerAddress,
    model: ServerModel,
  ) {
    this.name = model.id;
    this.place = new URL(server.url).host;
    this.learn(model);
  }

  /** More is known of a model that is loaded on first use once it is loaded. */
  learn({ context, kv, rates, formats }: ServerModel): void {
    Object.assign(this, { context, kv, rates, formats });
  }

  async answer(messages: readonly ChatMessage[], options: AnswerOptions): Promise<AnswerResult> {
    const { settings, signal } = options;
    const started = performance.now();
    const response = await request(this.server, "chat/completions", {
      signal,
      body: {
        model: this.name,
        messages,
        stream: true,
        // The second is vLLM's and Nibble's; others may refuse what they do not know.
        stream_options: { include_usage: true, ...(this.rates ? { continuous_usage_stats: true } : {}) },
        // llama.cpp's and Nibble's.
        ...(this.rates ? { return_progress: true } : {}),
        ...(settings.temperature === null ? {} : { temperature: settings.temperature }),
        ...(settings.maxTokens === null ? {} : { max_tokens: settings.maxTokens }),
      },
    });
    if (!response.body) throw new AnswerFailure("other", "the server's answer has no body.");
    const answer = new StreamedAnswer(options, started, this.context);
    try {
      for await (const data of eventData(response.body)) if (answer.event(data)) break;
    } catch (error) {
      if (error instanceof AnswerFailure) throw error;
      if (signal.aborted) throw stopped();
      if (!answer.isEnded) throw lost();
    } finally {
      answer.flush();
    }
    if (signal.aborted) throw stopped();
    if (!answer.isEnded) throw lost();
    return answer.result();
  }

  /** Nibble's server counts; for others it is an estimate: English has about four bytes a token in today's vocabularies. */
  async count(text: string): Promise<TokenCount> {
    if (this.rates === null)
      return { tokens: Math.ceil(new TextEncoder().encode(text).length / 4), isExact: false };
    const response = await request(this.server, "../tokenize", {
      body: { model: this.name, content: text, parse_special: false },
    });
    const { tokens } = fieldsOf(await response.json().catch(() => null));
    if (!Array.isArray(tokens)) throw new AnswerFailure("other", `${this.place} does not count tokens.`);
    return { tokens: tokens.length, isExact: true };
  }

  async isThere(signal: AbortSignal): Promise<boolean> {
    try {
      await request(this.server, "models", { signal });
      return true;
    } catch (error) {
      // A server that requires a key, or is busy, is there.
      return (error as AnswerFailure).kind !== "lost";
    }
  }

  close(): void {}
}

/** One answer's events, put together. */
class StreamedAnswer {
  readonly #options: AnswerOptions;
  readonly #started: number;
  readonly #context: number | null;
  /** Servers that leave reasoning in the text mark it as models do. */
  readonly #reasoning = new ReasoningStream();
  readonly #speed = speedometer();
  #firstAt = 0;
  #lastAt = 0;
  #pieces = 0;
  #end: AnswerEnd | null = null;
  #usage: Record<string, unknown> | null = null;
  #isDone = false;

  constructor(options: AnswerOptions, started: number, context: number | null) {
    this.#options = options;
    this.#started = started;
    this.#context = context;
  }

  get isEnded(): boolean {
    return this.#isDone || this.#end !== null;
  }

  /** True: it was the last. */
  event(data: string): boolean {
    if (data === "[DONE]") {
      this.#isDone = true;
      return true;
    }
    const chunk = parsed(data);
    const problem = chunk.error as { message?: unknown } | undefined;
    if (problem) throw new AnswerFailure("other", sentence(problem.message ?? problem));
    const { processed, total } = fieldsOf(chunk.prompt_progress);
    const [read, all] = [amountOf(processed), amountOf(total)];
    if (read !== null && all !== null) this.#options.onReading?.(read, all);
    const choice = (chunk.choices as Record<string, unknown>[] | undefined)?.[0];
    const delta = (choice?.delta ?? {}) as Record<string, unknown>;
    const thought = delta.reasoning_content ?? delta.reasoning;
    const parts: StreamedPart[] = [
      ...(typeof thought === "string" && thought !== ""
        ? [{ kind: "reasoning", text: thought } as const]
        : []),
      ...(typeof delta.content === "string" ? this.#reasoning.push(delta.content) : []),
    ];
    if (parts.length > 0) this.#options.onParts(parts);
    const reason = choice?.finish_reason;
    if (typeof reason === "string") this.#end = reason === "length" ? "length" : "end";
    if (typeof chunk.usage === "object" && chunk.usage !== null) this.#use(chunk.usage as never);
    if ((typeof delta.content === "string" && delta.content !== "") || typeof thought === "string")
      this.#measure();
    return false;
  }

  /** By the tokens that the server reports, otherwise one per event. */
  #measure(): void {
    this.#lastAt = performance.now();
    this.#firstAt ||= this.#lastAt;
    this.#pieces++;
    const speed = this.#speed(amountOf(this.#usage?.completion_tokens) ?? this.#pieces);
    if (speed !== null) this.#options.onSpeed?.(speed);
  }

  #use(usage: Record<string, unknown>): void {
    this.#usage = usage;
    const [prompt, generated] = [amountOf(usage.prompt_tokens), amountOf(usage.completion_tokens)];
    if (prompt !== null && generated !== null) this.#options.onHeld?.(prompt + generated);
  }

  flush(): void {
    const parts = this.#reasoning.end();
    if (parts.length > 0) this.#options.onParts(parts);
  }

  result(): AnswerResult {
    const figures = this.#figures();
    const held = figures && figures.promptTokens + figures.generatedTokens;
    // The API has one word for both.
    const isFull = this.#end === "length" && this.#context !== null && held !== null && held >= this.#context;
    return { end: isFull ? "context" : (this.#end ?? "end"), figures };
  }

  #figures(): AnswerFigures | null {
    const [promptTokens, generatedTokens] = [
      amountOf(this.#usage?.prompt_tokens),
      amountOf(this.#usage?.completion_tokens),
    ];
    if (promptTokens === null || generatedTokens === null) return null;
    const details = this.#usage?.prompt_tokens_details as Record<string, unknown> | undefined;
    const guessed = this.#usage?.completion_tokens_details as Record<string, unknown> | undefined;
    const acceptedTokens = amountOf(guessed?.accepted_prediction_tokens);
    const rejected = amountOf(guessed?.rejected_prediction_tokens);
    return {
      promptTokens,
      reusedTokens: amountOf(details?.cached_tokens),
      generatedTokens,
      draftedTokens: acceptedTokens === null || rejected === null ? null : acceptedTokens + rejected,
      acceptedTokens,
      promptMs: this.#firstAt ? this.#firstAt - this.#started : 0,
      generateMs: this.#lastAt - this.#firstAt,
    };
  }
}

/** Nibble's and llama.cpp's; answers before the model is loaded. */
export async function loadServerModel(server: ServerAddress, model: string): Promise<void> {
  await request(server, "../models/load", { body: { model } });
}

async function request(
  { url, key }: ServerAddress,
  path: string,
  { body, signal }: { body?: object; signal?: AbortSignal },
): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(new URL(path, url), {
      method: body ? "POST" : "GET",
      headers: {
        ...(body ? { "content-type": "application/json" } : {}),
        ...(key === "" ? {} : { authorization: `Bearer ${key}` }),
      },
      body: body && JSON.stringify(body),
      signal,
    });
  } catch {
    if (signal?.aborted && signal.reason?.name !== "TimeoutError") throw stopped();
    const foreign = new URL(url).origin !== globalThis.location?.origin;
    throw new AnswerFailure(
      "lost",
      `${new URL(url).host} does not answer. Is the server running${foreign ? `, and does it allow this page (nibble serve --cors ${location.origin})` : ""}?`,
    );
  }
  if (response.ok) return response;
  const text = await response.text().catch(() => "");
  const said = parsed(text).error as { message?: unknown } | undefined;
  const message = said ? sentence(said.message ?? said) : `the server answers ${response.status} to ${path}.`;
  if (response.status === 401)
    throw new AnswerFailure("key", `The server wants an API key${key === "" ? "" : ", and not this one"}.`);
  if (response.status === 404 && path === "models")
    throw new AnswerFailure("other", `There is no OpenAI API at ${url} (404).`);
  throw new AnswerFailure("other", message);
}

function lost(): AnswerFailure {
  return new AnswerFailure("lost", "The connection was lost. What had come is kept.");
}

function stopped(): AnswerFailure {
  return new AnswerFailure("stopped", "Stopped.");
}

/** {} for what is no JSON object: other servers send comments and pings of their own. */
function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function sentence(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value).slice(0, 400);
}
