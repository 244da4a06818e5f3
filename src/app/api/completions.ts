/** POST /v1/completions: text that goes on, without a chat template. Owns its fields and the form of its answers. */
import type { GenerateOptions, Likelihood, Piece, Prompt } from "../../index.ts";
import { readBody } from "./body.ts";
import { readStreaming } from "./chat-request.ts";
import { toApiError, unsupported } from "./errors.ts";
import { eventResponse } from "./events.ts";
import type { Fields } from "./fields.ts";
import { openFormat, readFormat } from "./format.ts";
import { jsonResponse } from "./json-text.ts";
import { COMPLETIONS } from "./known-fields.ts";
import { completionLogprobs, readCompletionLogprobs, toldTokens } from "./logprobs.ts";
import { readSampling } from "./sampling.ts";
import { admit, checkModel, encode, type Served } from "./served.ts";
import { finishReason, timingsOf, usageOf, usageSoFar } from "./usage.ts";

export async function completions(served: Served, request: Request): Promise<Response> {
  const fields = await readBody(request, served, COMPLETIONS);
  checkModel(fields, served);
  const prompt = readPrompt(fields, served);
  const generate: GenerateOptions = {
    ...readSampling(fields, served.defaults),
    logprobs: readCompletionLogprobs(fields),
  };
  const { stream, includeUsage, liveUsage } = readStreaming(fields);
  const ids = await encode(served, prompt, { raw: true, signal: request.signal });
  const format = readFormat(fields);
  const grammar = format && (await openFormat(served, request, format));
  const run = admit(served, request, ids, { ...generate, raw: true }, grammar);
  const frame = {
    id: `cmpl-${crypto.randomUUID().replaceAll("-", "")}`,
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    model: served.names[0],
  };
  const likely = generate.logprobs === undefined ? () => null : completionLogprobs(served.model.tokenizer);
  const choice = (text: string, tokens: readonly Likelihood[], finish: string | null) => ({
    index: 0,
    text,
    logprobs: likely(tokens),
    finish_reason: finish,
  });
  const told = (piece: Piece) => toldTokens(piece, served.model.tokenizer);

  if (!stream) {
    const tokens: Likelihood[] = [];
    const result = await run.start((piece) => void tokens.push(...told(piece)));
    const choices = [choice(result.text, tokens, finishReason(result.stopReason))];
    return jsonResponse({ ...frame, choices, usage: usageOf(result), timings: timingsOf(result) });
  }
  const chunk = (choices: readonly unknown[], more: object = {}) => ({
    ...frame,
    choices,
    ...(includeUsage ? { usage: null } : {}),
    ...more,
  });
  return eventResponse({
    async write({ send }) {
      let generated = 0;
      const result = await run.start((piece) => {
        generated += piece.ids.length;
        const usage = liveUsage ? { usage: usageSoFar(ids.length, generated) } : {};
        return send(chunk([choice(piece.text, told(piece), null)], usage));
      });
      const finish = choice("", [], finishReason(result.stopReason));
      await send(chunk([finish], { timings: timingsOf(result) }));
      if (includeUsage) await send(chunk([], { usage: usageOf(result) }));
    },
    onGone: run.cancel,
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
