/** POST /v1/completions: continues text, without a chat template. */
import type { GenerateOptions, Likelihood, Piece, Prompt } from "../../index.ts";
import { admitAll, together } from "./answering.ts";
import { readBody } from "./body.ts";
import { readCount, readStreaming } from "./chat-request.ts";
import { toApiError, unsupported } from "./errors.ts";
import { eventResponse } from "./events.ts";
import type { Fields } from "./fields.ts";
import { readFormat } from "./format.ts";
import { jsonResponse } from "./json-text.ts";
import { COMPLETIONS } from "./known-fields.ts";
import { completionLogprobs, likelihoodsOf, readCompletionLogprobs } from "./logprobs.ts";
import type { Offered } from "./offered.ts";
import { readSampling } from "./sampling.ts";
import { checkModel, encode, type Served } from "./served.ts";
import { finishReason, timingsOf, usageOfAll, usageSoFar } from "./usage.ts";

export async function completions(offered: Offered, request: Request): Promise<Response> {
  const fields = await readBody(request, offered.shared, COMPLETIONS);
  const { signal } = request;
  return offered.use({ name: fields.text("model"), signal }, (served) => goOn(served, fields, request));
}

async function goOn(served: Served, fields: Fields, request: Request): Promise<Response> {
  checkModel(fields, served);
  const prompt = readPrompt(fields, served);
  const generate: GenerateOptions = {
    ...readSampling(fields, served),
    logprobs: readCompletionLogprobs(fields),
  };
  const count = readCount(fields, served);
  const { stream, includeUsage, liveUsage } = readStreaming(fields);
  const ids = await encode(served, prompt, { raw: true, signal: request.signal });
  const format = readFormat(fields);
  const runs = await admitAll(served, request, { ids, format, count, generate: { ...generate, raw: true } });
  const frame = {
    id: `cmpl-${crypto.randomUUID().replaceAll("-", "")}`,
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    model: served.names[0],
  };
  const choices = (index: number) => {
    const likely = generate.logprobs === undefined ? () => null : completionLogprobs(served.model.tokenizer);
    return (text: string, tokens: readonly Likelihood[], finish: string | null) => {
      return { index, text, logprobs: likely(tokens), finish_reason: finish };
    };
  };
  const tokensOf = (piece: Piece) => likelihoodsOf(piece, served.model.tokenizer);

  if (!stream) {
    const answers = await together(runs, async (run, index) => {
      const tokens: Likelihood[] = [];
      const result = await run.start((piece) => void tokens.push(...tokensOf(piece)));
      return { result, choice: choices(index)(result.text, tokens, finishReason(result.stopReason)) };
    });
    const results = answers.map(({ result }) => result);
    return jsonResponse({
      ...frame,
      choices: answers.map(({ choice }) => choice),
      usage: usageOfAll(results),
      timings: timingsOf(results[0]),
    });
  }
  const chunk = (found: readonly unknown[], more: object = {}) => ({
    ...frame,
    choices: found,
    ...(includeUsage ? { usage: null } : {}),
    ...more,
  });
  return eventResponse({
    async write({ send }) {
      const results = await together(runs, async (run, index) => {
        const choice = choices(index);
        let generated = 0;
        const result = await run.start((piece) => {
          generated += piece.ids.length;
          const usage = liveUsage ? { usage: usageSoFar(ids.length, generated) } : {};
          return send(chunk([choice(piece.text, tokensOf(piece), null)], usage));
        });
        const finish = choice("", [], finishReason(result.stopReason));
        await send(chunk([finish], { timings: timingsOf(result) }));
        return result;
      });
      if (includeUsage) await send(chunk([], { usage: usageOfAll(results) }));
    },
    onGone: () => {
      for (const { cancel } of runs) cancel();
    },
    describe: (error) => toApiError(error, served.log),
  });
}

/** A text or token ids; of a list of prompts one. */
function readPrompt(fields: Fields, { model }: Served): Prompt {
  const found = fields.any("prompt");
  const one = Array.isArray(found) && found.length === 1 && typeof found[0] !== "number" ? found[0] : found;
  if (typeof one === "string") return one;
  if (!Array.isArray(one)) throw fields.wrong("prompt", "a text, or a list of token ids");
  if (one.length > 1 && one.every((prompt) => typeof prompt === "string" || Array.isArray(prompt)))
    throw unsupported("prompt", `prompt is a list of ${one.length} prompts; this server takes one a request`);
  const { vocab } = model.config;
  const isId = (id: unknown) => Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocab;
  if (one.length === 0 || !one.every(isId))
    throw fields.wrong("prompt", `a text, or a list of token ids 0 to ${vocab - 1}`);
  return { ids: one as number[] };
}
