/**
 * Checks messages as programs write them (content as one text or as parts, like OpenAI's API) and converts them for
 * chat templates. These checks do not depend on the template.
 */
import { ArgumentError, UnsupportedError } from "./errors.ts";
import type { ChatMessage } from "./template.ts";

/** A part of a message's content. */
export interface TextPart {
  readonly type: "text";
  readonly text: string;
}

/** A message of a conversation. */
export interface PromptMessage {
  /** The template's roles; most have these. */
  role: "system" | "user" | "assistant" | "tool" | (string & {});
  /** Parts are joined. null: an answer that only called tools. */
  content: string | readonly TextPart[] | null;
  [key: string]: unknown;
}

/** Throws ArgumentError for no messages and for invalid contents, UnsupportedError for parts that are not text. */
export function plainMessages(messages: readonly PromptMessage[]): ChatMessage[] {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new ArgumentError(
      "prompt",
      Array.isArray(messages) ? "no messages" : messages,
      "text, messages or ids",
    );
  return messages.map((message, at) => ({ ...message, content: contentOf(message, `messages[${at}]`) }));
}

function contentOf(message: PromptMessage, place: string): string {
  if (typeof message !== "object" || message === null) throw new ArgumentError(place, message, "a message");
  const { content } = message;
  if (typeof content === "string") return content;
  if (Array.isArray(content))
    return content.map((part, at) => textOf(part, `${place}.content[${at}]`)).join("");
  if ((content === null || content === undefined) && message.tool_calls) return "";
  throw new ArgumentError(`${place}.content`, content, "a text or a list of text parts");
}

function textOf(part: { type?: unknown; text?: unknown }, place: string): string {
  if (part?.type === "text" && typeof part.text === "string") return part.text;
  const type = typeof part?.type === "string" ? part.type : typeof part;
  if (type !== "text")
    throw new UnsupportedError(`${place} of type ${JSON.stringify(type)}`, "Only text is supported.");
  throw new ArgumentError(`${place}.text`, part.text, "a text");
}
