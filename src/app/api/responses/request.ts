/**
 * Translates a request of OpenAI's Responses API into one of chat completions, which is read like any other.
 * (https://platform.openai.com/docs/api-reference/responses/create)
 */
import { shown } from "../../../answer/object-fields.ts";
import type { Slices } from "../../../index.ts";
import { type ChatRequest, readChat } from "../chat-request.ts";
import { unsupported } from "../errors.ts";
import { EMPTY, fieldTable, harmless, kept, refused } from "../field-rules.ts";
import { Fields } from "../fields.ts";
import { type Renames, taken } from "../renamed.ts";
import type { Served } from "../served.ts";

export const RESPONSES = fieldTable(
  kept("model", "input", "instructions", "previous_response_id", "store", "stream", "max_output_tokens"),
  kept("temperature", "top_p", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning"),
  // Ours, as for chat.
  kept(
    "top_k",
    "min_p",
    "repeat_penalty",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
  ),
  kept("chat_template_kwargs", "metadata", "truncation"),
  harmless("says who asks, or how it is billed", "user", "safety_identifier", "service_tier"),
  harmless("is about speed", "prompt_cache_key", "prompt_cache_retention"),
  harmless("hides lengths of tokens from a network that is not this machine's", "stream_options"),
  harmless(
    "asks for what is not available: reasoning is returned as it is, and no tools run here",
    "include",
  ),
  refused("An answer comes to who asks, while they wait.", { background: EMPTY }),
  refused("previous_response_id goes on with a conversation.", { conversation: EMPTY, prompt: EMPTY }),
  refused("This server runs no tools of its own.", { max_tool_calls: [] }),
  refused("/v1/chat/completions gives the likelihoods of tokens.", { top_logprobs: EMPTY }),
  refused("A prompt that does not fit is refused with its length.", { context_management: EMPTY }),
);

const TEXT = fieldTable(
  kept("format"),
  refused("max_output_tokens bounds an answer.", { verbosity: ["medium"] }),
);
const FORMAT = fieldTable(
  kept("type", "schema", "strict"),
  harmless("is for readers", "name", "description"),
);
const REASONING = fieldTable(
  kept("effort"),
  harmless("reasoning is returned as it is", "summary", "generate_summary"),
);
const TOOL = kept("type", "name", "description", "parameters", "strict");
const CHOICE = kept("type", "name");
const ITEM_STATE = harmless("says how far an item was when it was given", "id", "status");
const ITEMS = {
  message: fieldTable(kept("type", "role", "content"), ITEM_STATE, harmless("is for the client", "phase")),
  reasoning: fieldTable(
    kept("type", "content", "summary"),
    ITEM_STATE,
    harmless("nothing is encrypted here", "encrypted_content"),
  ),
  function_call: fieldTable(
    kept("type", "call_id", "name", "arguments"),
    ITEM_STATE,
    harmless("is for the client", "parsed_arguments"),
  ),
  function_call_output: fieldTable(kept("type", "call_id", "output"), ITEM_STATE),
} as const;
const PART = fieldTable(
  kept("type", "text"),
  harmless("goes with the text, which is kept", "annotations", "logprobs", "parsed"),
);

export const RENAMES: Renames = [
  [/(tools\[\d+\])\.function\b/g, "$1"],
  [/\bresponse_format\b(\.json_schema)?/g, "text.format"],
  [/\btool_choice\.function\b/g, "tool_choice"],
  [/\breasoning_effort\b/g, "reasoning.effort"],
  [/\bmax_tokens\b/g, "max_output_tokens"],
];

export interface ResponsesRequest extends ChatRequest {
  /** The conversation that a later response continues: without instructions, and without this answer. */
  readonly history: readonly unknown[];
}

/** before: of the previous response. Throws PlaceError, ApiError. */
export function* readResponses(
  fields: Fields,
  served: Served,
  before: readonly unknown[],
): Slices<ResponsesRequest> {
  fields.choice("truncation", ["disabled"]);
  const history = [...before, ...(yield* readInput(fields))];
  const instructions = fields.text("instructions");
  const reasoning = fields.object("reasoning")?.hold(REASONING);
  const effort = reasoning?.text("effort");
  const most = fields.any("max_output_tokens");
  const sampling = ["temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "stop"];
  const body = {
    ...taken(fields, "model", "stream", ...sampling, "presence_penalty", "frequency_penalty", "logit_bias"),
    ...taken(fields, "chat_template_kwargs", "parallel_tool_calls"),
    messages: instructions ? [{ role: "system", content: instructions }, ...history] : history,
    ...(most === undefined ? {} : { max_tokens: most }),
    ...(effort === undefined || effort === "none" ? {} : { reasoning_effort: effort }),
    ...readTools(fields),
    ...readFormat(fields),
  };
  return { ...(yield* readChat(new Fields(body, ""), served)), history };
}

function* readInput(fields: Fields): Slices<unknown[]> {
  const input = fields.any("input");
  if (typeof input === "string") return [{ role: "user", content: input }];
  const messages: Record<string, unknown>[] = [];
  let thoughts = "";
  for (const item of fields.objects("input") ?? []) {
    yield;
    const type = item.text("type") ?? "message";
    if (!Object.hasOwn(ITEMS, type))
      throw unsupported(
        item.place("type"),
        `${item.place("type")} is ${shown(type)}; this server takes ${Object.keys(ITEMS).join(", ")}`,
      );
    item.hold(ITEMS[type as keyof typeof ITEMS]);
    if (type === "reasoning") {
      thoughts += textOf(item, "content") || textOf(item, "summary") || "";
      continue;
    }
    if (type === "function_call_output") {
      messages.push({
        role: "tool",
        tool_call_id: item.requiredText("call_id"),
        content: textOf(item, "output") ?? "",
      });
      continue;
    }
    const thinking = thoughts === "" ? {} : { reasoning_content: thoughts };
    thoughts = "";
    if (type === "message") {
      const role = item.choice("role", ["user", "assistant", "system", "developer"]);
      if (role === undefined) throw item.wrong("role", "user, assistant, system, developer");
      const content = textOf(item, "content");
      if (content === undefined) throw item.wrong("content", "a text, or a list of text parts");
      messages.push({ role, content, ...(role === "assistant" ? thinking : {}) });
      continue;
    }
    const called = { name: item.requiredText("name"), arguments: item.text("arguments") ?? "{}" };
    const call = { id: item.requiredText("call_id"), type: "function", function: called };
    // Words and calls of one answer are one message.
    const last = messages.at(-1);
    if (last?.role === "assistant") last.tool_calls = [...((last.tool_calls as unknown[]) ?? []), call];
    else messages.push({ role: "assistant", content: "", ...thinking, tool_calls: [call] });
  }
  if (messages.length === 0) throw fields.wrong("input", "a text, or a list of at least one item");
  return messages;
}

/** A text, or text parts joined. */
function textOf(item: Fields, name: string): string | undefined {
  if (!Array.isArray(item.any(name))) return item.text(name);
  const parts = item.objects(name)?.map((part) => {
    const type = part.requiredText("type");
    if (/^(input_text|output_text|text|reasoning_text|summary_text)$/.test(type))
      return part.hold(PART).requiredText("text");
    throw unsupported(
      part.place("type"),
      `${part.place("type")} is ${shown(type)}; this server reads text only`,
    );
  });
  return parts?.join("");
}

function readTools(fields: Fields) {
  const tools = fields.objects("tools")?.map((tool) => {
    const type = tool.text("type");
    if (type !== "function")
      throw unsupported(
        tool.place("type"),
        `${tool.place("type")} is ${shown(type)}; this server runs no tools of its own`,
      );
    const { description, parameters, strict } = taken(tool.hold(TOOL), "description", "parameters", "strict");
    return { type, function: { name: tool.requiredText("name"), description, parameters, strict } };
  });
  const choice = fields.any("tool_choice");
  const named =
    typeof choice === "object" && choice !== null ? fields.object("tool_choice")?.hold(CHOICE) : null;
  return {
    ...(tools === undefined ? {} : { tools }),
    ...(choice === undefined
      ? {}
      : {
          tool_choice: named ? { type: named.text("type"), function: { name: named.text("name") } } : choice,
        }),
  };
}

function readFormat(fields: Fields) {
  const format = fields.object("text")?.hold(TEXT).object("format")?.hold(FORMAT);
  const type = format?.choice("type", ["text", "json_object", "json_schema"]);
  if (format === undefined || type === undefined) return {};
  const { schema, strict } = taken(format, "schema", "strict");
  return {
    response_format: { type, ...(type === "json_schema" ? { json_schema: { schema, strict } } : {}) },
  };
}
