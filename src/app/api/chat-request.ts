/**
 * A chat request, read and checked: options of the template and the sampler, and the form of the answer, from the fields of
 * /v1/chat/completions.
 */

import type { RenderOptions, Slices } from "../../index.ts";
import type { Question } from "./answering.ts";
import { unsupported } from "./errors.ts";
import type { Fields } from "./fields.ts";
import { readFormat } from "./format.ts";
import { STREAM_OPTIONS } from "./known-fields.ts";
import { readChatLogprobs } from "./logprobs.ts";
import { readMessages } from "./messages.ts";
import { readSampling } from "./sampling.ts";
import { checkModel, type Served } from "./served.ts";
import { readTools } from "./tools.ts";

const MOST_ANSWERS = 16;

export interface ChatRequest extends Streaming, Question {
  /** Answers. */
  readonly count: number;
  /** Report how far the prompt is read, in a stream. */
  readonly progress: boolean;
}

export interface Streaming {
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Usage in every event, not only at the end. */
  readonly liveUsage: boolean;
}

export function* readChat(fields: Fields, served: Served): Slices<ChatRequest> {
  checkModel(fields, served);
  if (served.model.chatTemplate === null)
    throw unsupported("model", `${served.names[0]} has no chat template; /v1/completions continues text`);
  const { messages, begun } = yield* readMessages(fields);
  const format = readFormat(fields);
  const { described, calls, grammar } = readTools(fields, served, format);
  if (begun !== "" && grammar)
    throw unsupported(
      "messages",
      `an answer that is begun cannot be held to ${format?.place ?? "calls"}; leave the last message out`,
    );
  return {
    messages,
    begun,
    template: { ...readTemplateVariables(fields, served), tools: described },
    generate: {
      ...readSampling(fields, served),
      logprobs: readChatLogprobs(fields),
    },
    calls,
    format: grammar && { place: format?.place ?? "tools", grammar },
    count: readCount(fields, served),
    progress: fields.boolean("return_progress") ?? false,
    ...readStreaming(fields),
  };
}

/** Each is an answer that runs or waits, so they are bounded alike. */
export function readCount(fields: Fields, { model, mostWaiting }: Served): number {
  const high = Math.max(1, Math.min(MOST_ANSWERS, model.plan.parallel + mostWaiting));
  return fields.number("n", { low: 1, high, integer: true }) ?? 1;
}

export function readStreaming(fields: Fields): Streaming {
  const stream = fields.boolean("stream") ?? false;
  const options = fields.object("stream_options")?.hold(STREAM_OPTIONS);
  if (options && !stream) throw fields.wrong("stream_options", "an object only with stream: true");
  return {
    stream,
    includeUsage: options?.boolean("include_usage") ?? false,
    liveUsage: options?.boolean("continuous_usage_stats") ?? false,
  };
}

/** Variables that `render` sets itself. */
const RESERVED = ["messages", "tools", "add_generation_prompt", "addGenerationPrompt", "now"];

/** "chat_template_kwargs", as vLLM and llama.cpp have it: {"enable_thinking": false}. And OpenAI's one of its own. */
function readTemplateVariables(fields: Fields, { model }: Served): RenderOptions {
  const source = model.chatTemplate?.source ?? "";
  const variables = fields.object("chat_template_kwargs");
  const taken = RESERVED.find((name) => variables?.has(name));
  if (taken !== undefined) throw variables?.wrong(taken, "nothing: the request's own fields say it");
  for (const name of Object.keys(variables?.record ?? {}))
    if (!source.includes(name)) variables?.tellUnknown(name);
  const effort = fields.text("reasoning_effort");
  if (effort !== undefined && !source.includes("reasoning_effort"))
    throw unsupported(
      "reasoning_effort",
      'the template of this model knows no reasoning_effort; some take chat_template_kwargs {"enable_thinking": false}',
    );
  return { ...(effort === undefined ? {} : { reasoning_effort: effort }), ...variables?.record };
}
