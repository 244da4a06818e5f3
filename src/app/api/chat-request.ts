/**
 * A chat request, read and checked: what to tell the template and the sampler, and how to answer. Owns the fields of
 * /v1/chat/completions; refuses to know how any of it is done.
 */
import type { ChatMessage, GenerateOptions, RenderOptions } from "../../index.ts";
import type { Grammar } from "../grammar/grammars.ts";
import type { CallOptions } from "./answer.ts";
import { unsupported } from "./errors.ts";
import type { Fields } from "./fields.ts";
import { readFormat } from "./format.ts";
import { readChatLogprobs } from "./logprobs.ts";
import { readMessages } from "./messages.ts";
import { readSampling } from "./sampling.ts";
import { checkModel, type Served } from "./served.ts";
import { readTools } from "./tools.ts";

export interface ChatRequest {
  readonly messages: readonly ChatMessage[];
  /** Variables of the template. */
  readonly template: RenderOptions;
  readonly generate: GenerateOptions;
  /** null: no tools were given. */
  readonly calls: CallOptions | null;
  /** What the answer has to be, behind its reasoning; null: anything. */
  readonly grammar: Grammar | null;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Usage in every event, not only at the end. */
  readonly liveUsage: boolean;
}

export function readChat(fields: Fields, served: Served): ChatRequest {
  checkModel(fields, served);
  if (served.model.chatTemplate === null)
    throw unsupported("model", `${served.names[0]} has no chat template; /v1/completions continues text`);
  const messages = readMessages(fields);
  const { described, calls, grammar } = readTools(fields, served);
  const format = readFormat(fields);
  if (grammar && format)
    throw unsupported(
      "response_format",
      "response_format is not possible beside calls that are forced or strict",
    );
  return {
    messages,
    template: { ...readTemplateVariables(fields), tools: described },
    generate: {
      ...readSampling(fields, served.defaults),
      logprobs: readChatLogprobs(fields),
      // Marks of reasoning and of calls may be control tokens.
      special: true,
    },
    calls,
    grammar: grammar ?? format,
    ...readStreaming(fields),
    liveUsage: fields.object("stream_options")?.boolean("continuous_usage_stats") ?? false,
  };
}

export function readStreaming(fields: Fields): { stream: boolean; includeUsage: boolean } {
  const stream = fields.boolean("stream") ?? false;
  const options = fields.object("stream_options");
  if (options && !stream) throw fields.wrong("stream_options", "an object only beside stream: true");
  return { stream, includeUsage: options?.boolean("include_usage") ?? false };
}

/** What `render` gives the template itself. */
const RESERVED = ["messages", "tools", "add_generation_prompt", "addGenerationPrompt", "now"];

/** "chat_template_kwargs", as vLLM and llama.cpp have it: {"enable_thinking": false}. */
function readTemplateVariables(fields: Fields): RenderOptions {
  const variables = fields.object("chat_template_kwargs");
  if (!variables) return {};
  const taken = RESERVED.find((name) => variables.has(name));
  if (taken !== undefined) throw variables.wrong(taken, "nothing: the request's own fields say it");
  return { ...variables.record };
}
