/**
 * Messages of the API as chat templates expect them: content as one text, tool calls with their arguments as objects,
 * "developer" as "system". Owns what a message may look like; refuses to know templates.
 */
import type { ChatMessage } from "../../index.ts";
import { unsupported } from "./errors.ts";
import { Fields, shown } from "./fields.ts";

const ROLES = ["system", "developer", "user", "assistant", "tool"] as const;

export function readMessages(fields: Fields): ChatMessage[] {
  const messages = fields.list("messages");
  if (messages === undefined || messages.length === 0)
    throw fields.wrong("messages", "a list of at least one message");
  return messages.map((message, at) => readMessage(new Fields(message, `messages[${at}]`)));
}

function readMessage(fields: Fields): ChatMessage {
  const role = fields.choice("role", ROLES);
  if (role === undefined) throw fields.wrong("role", ROLES.join(", "));
  const name = fields.text("name");
  const named = name === undefined ? {} : { name };
  if (role === "assistant") return { role, ...named, ...readAnswer(fields) };
  const content = readContent(fields);
  if (content === undefined) throw fields.wrong("content", "a text, or a list of text parts");
  if (role === "tool") {
    const id = fields.text("tool_call_id");
    return { role, ...named, content, ...(id === undefined ? {} : { tool_call_id: id }) };
  }
  return { role: role === "developer" ? "system" : role, ...named, content };
}

/** An earlier answer: words, reasoning, calls. */
function readAnswer(fields: Fields): { content: string; [key: string]: unknown } {
  const calls = fields.list("tool_calls") ?? [];
  const content = readContent(fields);
  if (content === undefined && calls.length === 0)
    throw fields.wrong("content", "a text, unless there are tool_calls");
  // The name under which templates look for it.
  const thinking = fields.text("reasoning_content");
  return {
    content: content ?? "",
    ...(thinking === undefined ? {} : { reasoning_content: thinking }),
    // Templates ask whether the key is there.
    ...(calls.length === 0 ? {} : { tool_calls: calls.map((call, at) => readCall(call, fields, at)) }),
  };
}

function readCall(call: unknown, message: Fields, at: number) {
  const fields = new Fields(call, message.place(`tool_calls[${at}]`));
  const called = fields.object("function");
  if (called === undefined) throw fields.wrong("function", "an object with name and arguments");
  const id = fields.text("id");
  return {
    ...(id === undefined ? {} : { id }),
    type: "function",
    function: { name: called.requiredText("name"), arguments: readArguments(called) },
  };
}

/** The API has arguments as JSON text, templates want what it means. */
function readArguments(fields: Fields): unknown {
  const text = fields.text("arguments") ?? "{}";
  try {
    const value: unknown = JSON.parse(text === "" ? "{}" : text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch {
    // Told below.
  }
  throw fields.wrong("arguments", "the text of a JSON object");
}

/** A text, or text parts joined; undefined: there is none. */
function readContent(fields: Fields): string | undefined {
  const found = fields.any("content");
  if (!Array.isArray(found)) return fields.text("content");
  const parts = found.map((part, at) => {
    const place = fields.place(`content[${at}]`);
    const read = new Fields(part, place);
    const type = read.requiredText("type");
    if (type === "text") return read.requiredText("text");
    throw unsupported(place, `${place} is ${shown(type)}; this server reads text only`);
  });
  return parts.join("");
}
