/**
 * POST /v1/chat/completions. Owns the form of its answers, whole and streamed, which are the same events gathered or
 * sent one by one.
 */

import { afterThinking, answerStart } from "../../answer/grammar/after-thinking.ts";
import { HARMONY } from "../../answer/harmony.ts";
import { type AnswerPart, AnswerParts, type ToolCall } from "../../answer/parts.ts";
import { type GenerationResult, inSlices, type Likelihood } from "../../index.ts";
import { readBody } from "./body.ts";
import { type ChatRequest, readChat } from "./chat-request.ts";
import { toApiError, unsupported } from "./errors.ts";
import { eventResponse } from "./events.ts";
import { openFormat } from "./format.ts";
import { CHAT } from "./known-fields.ts";
import { chatLogprobs, toldTokens } from "./logprobs.ts";
import { admit, encode, fitting, type Run, type Served } from "./served.ts";
import { finishReason, timingsOf, usageOf, usageSoFar } from "./usage.ts";

/** What is new in an answer, and the tokens behind it. */
interface News {
  readonly part: AnswerPart | null;
  readonly tokens: readonly Likelihood[];
  /** Tokens of the answer so far. */
  readonly generated: number;
}

interface Ending {
  readonly result: GenerationResult;
  readonly finish: "stop" | "length" | "tool_calls";
  /** Of tokens whose text was no part of the answer. */
  readonly tokens: readonly Likelihood[];
}

export async function chat(served: Served, request: Request): Promise<Response> {
  const { signal } = request;
  const fields = await readBody(request, served, CHAT);
  const asked = await inSlices(readChat(fields, served), "reading the request", signal);
  const { begun } = asked;
  const promptIds = await encode(served, asked.messages, { template: asked.template, signal });
  const { tokenizer, chatTemplate } = served.model;
  const ids =
    begun === "" ? promptIds : fitting(served, await served.model.begin(promptIds, begun, { signal }));
  const start = answerStart(promptIds, tokenizer, chatTemplate);
  const { opened } = start;
  if (opened === HARMONY && begun !== "")
    throw unsupported("messages", "this model's answers have channels, so one cannot be begun");
  if (opened && begun !== "" && !begun.includes(opened.close))
    throw unsupported(
      "messages",
      `the answer that is begun has to end the reasoning that the template opens, by ${opened.close}`,
    );
  const grammar = asked.format && (await openFormat(served, request, asked.format));
  const constraint = grammar && afterThinking(grammar, start, tokenizer);
  const run = admit(served, request, ids, asked.generate, constraint);
  const parts = new AnswerParts(begun === "" ? opened : "begun", asked.calls);
  const answer = (onNews: (news: News) => void | Promise<void>) => tell(served, run, parts, onNews);
  const frame = {
    id: `chatcmpl-${crypto.randomUUID().replaceAll("-", "")}`,
    created: Math.floor(Date.now() / 1000),
    model: served.names[0],
  };
  return asked.stream
    ? streamed(served, { ...asked, promptTokens: ids.length }, run, answer, frame)
    : Response.json({ ...frame, ...(await whole(served, asked, answer)) });
}

/** Runs the generation and tells its news. */
async function tell(
  served: Served,
  run: Run,
  parts: AnswerParts,
  onNews: (news: News) => void | Promise<void>,
): Promise<Ending> {
  let tokens: Likelihood[] = [];
  let generated = 0;
  let called = false;
  const give = async (found: readonly AnswerPart[]) => {
    for (const part of found) {
      called ||= part.kind === "call";
      const news = { part, tokens, generated };
      tokens = [];
      await onNews(news);
    }
  };
  const result = await run.start(async (piece) => {
    tokens = [...tokens, ...toldTokens(piece, served.model.tokenizer)];
    generated += piece.ids.length;
    await give(parts.push(piece.text));
  });
  await give(parts.end());
  const finish = finishReason(result.stopReason);
  return { result, finish: called && finish === "stop" ? "tool_calls" : finish, tokens };
}

type Answer = (onNews: (news: News) => void | Promise<void>) => Promise<Ending>;
type Frame = Readonly<Record<"id" | "model", string>> & { readonly created: number };

async function whole(served: Served, asked: ChatRequest, answer: Answer) {
  const said = { text: "", reasoning: "" };
  const calls: unknown[] = [];
  const tokens: Likelihood[] = [];
  const ending = await answer((news) => {
    tokens.push(...news.tokens);
    if (news.part?.kind === "call") calls.push(callOf(news.part.call));
    else if (news.part) said[news.part.kind] += news.part.text;
  });
  tokens.push(...ending.tokens);
  return {
    object: "chat.completion",
    choices: [
      {
        index: 0,
        message: {
          role: "assistant",
          // As OpenAI: an answer that only calls has no content.
          content: said.text === "" && calls.length > 0 ? null : said.text,
          refusal: null,
          ...(said.reasoning === "" ? {} : { reasoning_content: said.reasoning }),
          ...(calls.length === 0 ? {} : { tool_calls: calls }),
        },
        logprobs: logprobsOf(served, asked, tokens),
        finish_reason: ending.finish,
      },
    ],
    usage: usageOf(ending.result),
    timings: timingsOf(ending.result),
  };
}

function streamed(
  served: Served,
  asked: ChatRequest & { readonly promptTokens: number },
  run: Run,
  answer: Answer,
  frame: Frame,
): Response {
  let calls = 0;
  const chunk = (choices: readonly unknown[], more: object = {}) => ({
    ...frame,
    object: "chat.completion.chunk",
    choices,
    ...(asked.includeUsage ? { usage: null } : {}),
    ...more,
  });
  const choice = (delta: object, tokens: readonly Likelihood[] = [], finish: string | null = null) => ({
    index: 0,
    delta,
    logprobs: tokens.length > 0 ? logprobsOf(served, asked, tokens) : null,
    finish_reason: finish,
  });
  const deltaOf = (part: AnswerPart | null): object => {
    if (part === null) return {};
    if (part.kind === "call") return { tool_calls: [{ index: calls++, ...callOf(part.call) }] };
    return part.kind === "text" ? { content: part.text } : { reasoning_content: part.text };
  };
  const soFar = (generatedTokens: number) =>
    asked.liveUsage ? { usage: usageSoFar(asked.promptTokens, generatedTokens) } : {};
  return eventResponse({
    async write({ send }) {
      await send(chunk([choice({ role: "assistant", content: "" })], soFar(0)));
      const { result, finish, tokens } = await answer(({ part, tokens, generated }) =>
        send(chunk([choice(deltaOf(part), tokens)], soFar(generated))),
      );
      await send(chunk([choice({}, tokens, finish)], { timings: timingsOf(result) }));
      if (asked.includeUsage) await send(chunk([], { usage: usageOf(result) }));
    },
    onGone: run.cancel,
    describe: (error) => toApiError(error, served.log),
  });
}

function callOf({ id, name, arguments: given }: ToolCall) {
  return { id, type: "function", function: { name, arguments: JSON.stringify(given) } };
}

function logprobsOf({ model }: Served, { generate }: ChatRequest, tokens: readonly Likelihood[]) {
  return generate.logprobs === undefined ? null : chatLogprobs(tokens, model.tokenizer);
}
