/** POST /v1/chat/completions. Complete answers and streams are made of the same events, gathered or sent one by one. */
import type { AnswerPart, ToolCall } from "../../answer/parts.ts";
import { inSlices, type Likelihood } from "../../index.ts";
import { type Answering, admitAnswers, together } from "./answering.ts";
import { readBody } from "./body.ts";
import { type ChatRequest, readChat } from "./chat-request.ts";
import { toApiError } from "./errors.ts";
import { eventResponse } from "./events.ts";
import type { Fields } from "./fields.ts";
import { CHAT } from "./known-fields.ts";
import { chatLogprobs } from "./logprobs.ts";
import type { Offered } from "./offered.ts";
import type { Served } from "./served.ts";
import { timingsOf, usageOfAll, usageSoFar } from "./usage.ts";

export async function chatCompletion(offered: Offered, request: Request): Promise<Response> {
  const fields = await readBody(request, offered.shared, CHAT);
  const { signal } = request;
  return offered.use({ name: fields.text("model"), signal }, (served) => answerChat(served, fields, request));
}

async function answerChat(served: Served, fields: Fields, request: Request): Promise<Response> {
  const { signal } = request;
  const asked = await inSlices(readChat(fields, served), "reading the request", signal);
  const { promptTokens, answers } = await admitAnswers(served, request, asked, asked.count);
  const frame = {
    id: `chatcmpl-${crypto.randomUUID().replaceAll("-", "")}`,
    created: Math.floor(Date.now() / 1000),
    model: served.names[0],
  };
  return asked.stream
    ? streamed(served, { ...asked, promptTokens }, answers, frame)
    : Response.json({ ...frame, ...(await whole(served, asked, answers)) });
}

type Frame = Readonly<Record<"id" | "model", string>> & { readonly created: number };

async function whole(served: Served, asked: ChatRequest, answers: readonly Answering[]) {
  const done = await together(answers, async (answer, index) => {
    const tokens: Likelihood[] = [];
    const ending = await answer.start({ onUpdate: (update) => void tokens.push(...update.tokens) });
    const { said, result, finish } = ending;
    const { text, reasoning, calls } = said;
    const message = {
      role: "assistant",
      // As with OpenAI: an answer of calls only has no content.
      content: text === "" && calls.length > 0 ? null : text,
      refusal: null,
      ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
      ...(calls.length === 0 ? {} : { tool_calls: calls.map(callOf) }),
    };
    const logprobs = logprobsOf(served, asked, [...tokens, ...ending.tokens]);
    return { choice: { index, message, logprobs, finish_reason: finish }, result };
  });
  const results = done.map(({ result }) => result);
  return {
    object: "chat.completion",
    choices: done.map(({ choice }) => choice),
    usage: usageOfAll(results),
    timings: timingsOf(results[0]),
  };
}

function streamed(
  served: Served,
  asked: ChatRequest & { readonly promptTokens: number },
  answers: readonly Answering[],
  frame: Frame,
): Response {
  const chunk = (choices: readonly unknown[], more: object = {}) => ({
    ...frame,
    object: "chat.completion.chunk",
    choices,
    ...(asked.includeUsage ? { usage: null } : {}),
    ...more,
  });
  const soFar = (generatedTokens: number) =>
    asked.liveUsage ? { usage: usageSoFar(asked.promptTokens, generatedTokens) } : {};
  return eventResponse({
    async write({ send }) {
      const results = await together(answers, async (answer, index) => {
        let calls = 0;
        const deltaOf = (part: AnswerPart): object => {
          if (part.kind === "call") return { tool_calls: [{ index: calls++, ...callOf(part.call) }] };
          return part.kind === "text" ? { content: part.text } : { reasoning_content: part.text };
        };
        const choice = (delta: object, tokens: readonly Likelihood[] = [], finish: string | null = null) => ({
          index,
          delta,
          logprobs: tokens.length > 0 ? logprobsOf(served, asked, tokens) : null,
          finish_reason: finish,
        });
        await send(chunk([choice({ role: "assistant", content: "" })], soFar(0)));
        const { result, finish, tokens } = await answer.start({
          onUpdate: ({ part, tokens, generated }) =>
            send(chunk([choice(deltaOf(part), tokens)], soFar(generated))),
          onProgress: asked.progress
            ? // A client that has gone is noticed at the next update.
              (prompt_progress) => void send(chunk([choice({})], { prompt_progress })).catch(() => {})
            : undefined,
        });
        await send(chunk([choice({}, tokens, finish)], { timings: timingsOf(result) }));
        return result;
      });
      if (asked.includeUsage) await send(chunk([], { usage: usageOfAll(results) }));
    },
    onGone: () => {
      for (const { cancel } of answers) cancel();
    },
    describe: (error) => toApiError(error, served.log),
  });
}

function callOf({ id, name, arguments: given }: ToolCall) {
  return { id, type: "function", function: { name, arguments: JSON.stringify(given) } };
}

function logprobsOf({ model }: Served, { generate }: ChatRequest, tokens: readonly Likelihood[]) {
  return generate.logprobs === undefined ? null : chatLogprobs(tokens, model.tokenizer);
}
