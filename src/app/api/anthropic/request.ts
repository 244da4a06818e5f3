/**
 * Translates a request of Anthropic's Messages API into one of chat completions, which is read like any other.
 * (https://docs.anthropic.com/en/api/messages)
 */
import { shown } from "../../../answer/object-fields.ts";
import type { Slices } from "../../../index.ts";
import { type ChatRequest, readChat } from "../chat-request.ts";
import { unsupported } from "../errors.ts";
import { EMPTY, fieldTable, harmless, kept, refused } from "../field-rules.ts";
import { Fields } from "../fields.ts";
import { type Renames, taken } from "../renamed.ts";
import type { Served } from "../served.ts";

export const MESSAGES_API = fieldTable(
  kept("model", "messages", "system", "max_tokens", "stop_sequences", "stream", "tools", "tool_choice"),
  kept("temperature", "top_p", "top_k", "thinking", "output_config", "output_format"),
  harmless(
    "says who asks, or how it is kept and billed",
    "metadata",
    "service_tier",
    "inference_geo",
    "betas",
  ),
  harmless("marks what a provider may cache", "cache_control"),
  refused("This server runs no tools of its own.", { mcp_servers: EMPTY, container: EMPTY }),
  refused("A prompt that does not fit is refused with its length.", { context_management: EMPTY }),
);

const TOOL = fieldTable(
  kept("name", "description", "input_schema", "type", "strict"),
  harmless("marks what a provider may cache", "cache_control"),
  harmless("is about the order of tools", "defer_loading", "allowed_callers"),
  refused("description may hold them.", { input_examples: EMPTY }),
);
const CHOICE = kept("type", "name", "disable_parallel_tool_use");
const CONFIG = fieldTable(
  kept("format"),
  refused("The template of this model may know reasoning_effort.", { effort: ["high"] }),
);
const FORMAT = kept("type", "schema");
const THINKING = fieldTable(
  kept("type"),
  harmless("thinking and answer together are bounded by max_tokens", "budget_tokens"),
  harmless("thinking is returned as it is", "display"),
);
const MESSAGE = kept("role", "content");
const BLOCKS = {
  text: fieldTable(kept("type", "text"), harmless("is no part of the text", "cache_control", "citations")),
  thinking: fieldTable(kept("type", "thinking"), harmless("nothing is signed here", "signature")),
  tool_use: fieldTable(
    kept("type", "id", "name", "input"),
    harmless("is no part of the call", "cache_control", "caller"),
  ),
  tool_result: fieldTable(
    kept("type", "tool_use_id", "content", "is_error"),
    harmless("marks what a provider may cache", "cache_control"),
  ),
} as const;

export const RENAMES: Renames = [
  [/\bfunction\.parameters\b/g, "input_schema"],
  [/(tools\[\d+\])\.function\b/g, "$1"],
  [/\bresponse_format\b(\.json_schema)?/g, "output_config.format"],
  [/\btool_choice\.function\b/g, "tool_choice"],
  [/\bstop\b(?= is )/g, "stop_sequences"],
];

/** The request, checked; `max_tokens` may be missing where tokens are counted only. Throws PlaceError, ApiError. */
export function* readAnthropic(fields: Fields, served: Served, isCount: boolean): Slices<ChatRequest> {
  if (!isCount && fields.number("max_tokens", { low: 1, high: 2 ** 31, integer: true }) === undefined)
    throw fields.wrong("max_tokens", "an integer from 1 on");
  const messages: unknown[] = [];
  const system = textOf(fields, "system");
  if (system !== undefined) messages.push({ role: "system", content: system });
  for (const message of fields.objects("messages") ?? []) {
    yield;
    messages.push(...readMessage(message));
  }
  const stops = fields.list("stop_sequences");
  const body = {
    ...taken(fields, "model", "max_tokens", "temperature", "top_p", "top_k", "stream"),
    messages,
    ...(stops ? { stop: stops } : {}),
    ...readTools(fields),
    ...readThinking(fields, served),
    ...readFormat(fields),
  };
  return yield* readChat(new Fields(body, ""), served);
}

function readMessage(fields: Fields): unknown[] {
  const role = fields.hold(MESSAGE).choice("role", ["user", "assistant", "system"]);
  if (role === undefined) throw fields.wrong("role", "user, assistant");
  if (!Array.isArray(fields.any("content"))) {
    const content = fields.text("content");
    if (content === undefined) throw fields.wrong("content", "a text or a list of blocks");
    return [{ role, content }];
  }
  const [words, thoughts, calls, results] = [
    [] as string[],
    [] as string[],
    [] as unknown[],
    [] as unknown[],
  ];
  for (const block of fields.objects("content") ?? []) {
    const type = block.requiredText("type");
    if (type === "redacted_thinking") continue;
    if (!Object.hasOwn(BLOCKS, type))
      throw unsupported(
        block.place("type"),
        `${block.place("type")} is ${shown(type)}; this server reads text only`,
      );
    block.hold(BLOCKS[type as keyof typeof BLOCKS]);
    if (type === "text") words.push(block.requiredText("text"));
    else if (type === "thinking") thoughts.push(block.requiredText("thinking"));
    else if (type === "tool_use")
      calls.push({
        id: block.requiredText("id"),
        type: "function",
        function: { name: block.requiredText("name"), arguments: block.object("input")?.record ?? {} },
      });
    else results.push(readResult(block));
  }
  if (role !== "assistant") {
    if (calls.length > 0) throw fields.wrong("content", "tool_use in messages of the assistant only");
    // Tool results come before the text about them.
    return [
      ...results,
      ...(words.length > 0 || results.length === 0 ? [{ role, content: words.join("") }] : []),
    ];
  }
  if (results.length > 0) throw fields.wrong("content", "tool_result in messages of the user only");
  return [
    {
      role,
      content: words.join(""),
      ...(thoughts.length > 0 ? { reasoning_content: thoughts.join("\n") } : {}),
      ...(calls.length > 0 ? { tool_calls: calls } : {}),
    },
  ];
}

function readResult(block: Fields) {
  const said = textOf(block, "content") ?? "";
  const content = block.boolean("is_error") && !/^error/i.test(said) ? `error: ${said}` : said;
  return { role: "tool", tool_call_id: block.requiredText("tool_use_id"), content };
}

/** A text, or text blocks joined. */
function textOf(fields: Fields, name: string): string | undefined {
  if (!Array.isArray(fields.any(name))) return fields.text(name);
  const blocks = fields.objects(name)?.map((block) => {
    const type = block.requiredText("type");
    if (type === "text") return block.hold(BLOCKS.text).requiredText("text");
    throw unsupported(
      block.place("type"),
      `${block.place("type")} is ${shown(type)}; this server reads text only`,
    );
  });
  return blocks?.join("\n");
}

function readTools(fields: Fields) {
  const tools = fields.objects("tools")?.map((tool) => {
    const type = tool.hold(TOOL).text("type");
    if (type !== undefined && type !== "custom")
      throw unsupported(
        tool.place("type"),
        `${tool.place("type")} is ${shown(type)}; this server runs no tools of its own`,
      );
    const { description, strict } = taken(tool, "description", "strict");
    const name = tool.requiredText("name");
    return {
      type: "function",
      function: { name, description, parameters: tool.object("input_schema")?.record, strict },
    };
  });
  const choice = fields.object("tool_choice")?.hold(CHOICE);
  const type = choice?.choice("type", ["auto", "any", "tool", "none"]) ?? "auto";
  const named = { type: "function", function: { name: choice?.text("name") } };
  if (tools === undefined && choice === undefined) return {};
  return {
    tools: tools ?? [],
    tool_choice: { auto: "auto", any: "required", none: "none", tool: named }[type],
    parallel_tool_calls: choice?.boolean("disable_parallel_tool_use") !== true,
  };
}

/** Reads whether to think, if the template has a switch for it; otherwise the model decides. */
function readThinking(fields: Fields, { model }: Served) {
  const type = fields.object("thinking")?.hold(THINKING).choice("type", ["enabled", "disabled", "adaptive"]);
  const isKnown = model.chatTemplate?.source.includes("enable_thinking") === true;
  if (type === undefined || type === "adaptive" || !isKnown) return {};
  return { chat_template_kwargs: { enable_thinking: type === "enabled" } };
}

function readFormat(fields: Fields) {
  const config = fields.object("output_config")?.hold(CONFIG);
  const format = (config?.object("format") ?? fields.object("output_format"))?.hold(FORMAT);
  if (format?.choice("type", ["json_schema"]) === undefined) return {};
  return {
    response_format: { type: "json_schema", json_schema: { name: "answer", schema: format.any("schema") } },
  };
}
