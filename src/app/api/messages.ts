/**
 * Messages of the API as chat templates expect them: content as one text, tool calls with their arguments as objects,
 * "developer" as "system". Checks the form of messages.
 */

import { shown } from "../../answer/object-fields.ts";
import type { ChatMessage, Slices } from "../../index.ts";
import { ApiError, unsupported } from "./errors.ts";
import type { Fields } from "./fields.ts";
import { BODY_BOUNDS, readJson } from "./json-reader.ts";
import { CALL, CALL_FUNCTION, MESSAGES, PART } from "./known-fields.ts";

const ROLES = ["system", "developer", "user", "assistant", "tool"] as const;

export interface RequestMessages {
  /** Without the answer that is continued. */
  readonly messages: readonly ChatMessage[];
  /** The beginning of the answer from the request; "": none. */
  readonly begun: string;
}

export function* readMessages(fields: Fields): Slices<RequestMessages> {
  const found = fields.objects("messages") ?? [];
  if (found.length === 0) throw fields.wrong("messages", "a list of at least one message");
  const messages: ChatMessage[] = [];
  for (const message of found) {
    yield;
    messages.push(yield* readMessage(message));
  }
  const last = messages[messages.length - 1];
  const isContinued = fields.boolean("continue_final_message");
  const opensTurn = fields.boolean("add_generation_prompt");
  if (last.role === "assistant" && isContinued !== false)
    return { messages: messages.slice(0, -1), begun: readBeginning(fields, found) };
  if (isContinued)
    throw fields.wrong("continue_final_message", "true only where the last message is the assistant's");
  if (opensTurn === false)
    throw fields.wrong("add_generation_prompt", "false only where the last message is continued");
  return { messages, begun: "" };
}

/** As in llama.cpp: an answer at the end is continued; the response is the text that follows it. */
function readBeginning(fields: Fields, messages: readonly Fields[]): string {
  const last = messages[messages.length - 1];
  if (messages.length === 1) throw fields.wrong("messages", "a message before the answer that is continued");
  const whole = ["tool_calls", "reasoning_content", "reasoning"].find((name) => {
    const found = last.any(name);
    return found !== undefined && (found as { length?: number }).length !== 0;
  });
  if (whole === undefined) return readContent(last) ?? "";
  throw unsupported(
    last.place(whole),
    `${last.place(whole)} is not supported in the last message, which is continued; ${whole === "tool_calls" ? "a message of role tool answers calls" : "content can be continued"}`,
  );
}

function* readMessage(fields: Fields): Slices<ChatMessage> {
  const role = fields.choice("role", ROLES);
  if (role === undefined) throw fields.wrong("role", ROLES.join(", "));
  fields.hold(role === "assistant" || role === "tool" ? MESSAGES[role] : MESSAGES.other);
  const name = fields.text("name");
  const named = name === undefined ? {} : { name };
  if (role === "assistant") return { role, ...named, ...(yield* readAnswer(fields)) };
  const content = readContent(fields);
  if (content === undefined) throw fields.wrong("content", "a text, or a list of text parts");
  if (role === "tool") {
    const id = fields.text("tool_call_id");
    return { role, ...named, content, ...(id === undefined ? {} : { tool_call_id: id }) };
  }
  return { role: role === "developer" ? "system" : role, ...named, content };
}

/** An earlier answer: words, reasoning, calls. */
function* readAnswer(fields: Fields): Slices<{ content: string; [key: string]: unknown }> {
  const calls = fields.objects("tool_calls") ?? [];
  const content = readContent(fields);
  if (content === undefined && calls.length === 0)
    throw fields.wrong("content", "a text, unless there are tool_calls");
  // The name under which templates look for it; vLLM calls it "reasoning".
  const thinking = fields.text("reasoning_content") ?? fields.text("reasoning");
  const read: unknown[] = [];
  for (const call of calls) read.push(yield* readCall(call));
  return {
    content: content ?? "",
    ...(thinking === undefined ? {} : { reasoning_content: thinking }),
    // gpt-oss's name for it. It reads the reasoning before a call only, and refuses it with text.
    ...(thinking && !content && calls.length > 0 ? { thinking } : {}),
    // Templates test whether the key exists.
    ...(read.length === 0 ? {} : { tool_calls: read }),
  };
}

function* readCall(fields: Fields): Slices<unknown> {
  fields.hold(CALL).choice("type", ["function"]);
  const called = fields.object("function")?.hold(CALL_FUNCTION);
  if (called === undefined) throw fields.wrong("function", "an object with name and arguments");
  const id = fields.text("id");
  return {
    ...(id === undefined ? {} : { id }),
    type: "function",
    function: { name: called.requiredText("name"), arguments: yield* readArguments(called) },
  };
}

/**
 * The API has arguments as JSON text, templates need the object. Text that is not an object is an error, as with
 * llama.cpp and vLLM: templates write the parts of an object, and this server never returns such a call.
 */
function* readArguments(fields: Fields): Slices<unknown> {
  const found = fields.any("arguments") ?? "";
  // Ollama's clients have the object itself.
  let value: unknown = found;
  if (typeof found === "string") {
    const bounds = { ...BODY_BOUNDS, what: fields.place("arguments") };
    try {
      value = found.trim() === "" ? {} : yield* readJson(found, bounds);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // Reported below.
    }
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw fields.wrong("arguments", 'the text of a JSON object; "{}" keeps such a call in the history');
}

/** A text, or text parts joined; undefined: there is none. */
function readContent(fields: Fields): string | undefined {
  if (!Array.isArray(fields.any("content"))) return fields.text("content");
  const parts = fields.objects("content")?.map((part) => {
    const type = part.requiredText("type");
    if (type === "text") return part.hold(PART).requiredText("text");
    const place = part.place("type");
    throw unsupported(place, `${place} is ${shown(type)}; this server reads text only`);
  });
  return parts?.join("");
}
