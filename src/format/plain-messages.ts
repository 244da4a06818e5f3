/**
 * Messages as programs write them: content as one text or as parts, as OpenAI's API has them -> as chat templates take them.
 * Owns what a conversation has to have whatever the template.
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
  /** Of the template; most know these. */
  role: "system" | "user" | "assistant" | "tool" | (string & {});
  /** Parts are joined. null: of an answer that only called tools. */
  content: string | readonly TextPart[] | null;
  [key: string]: unknown;
}

/** ArgumentError for no messages and for contents that are none, UnsupportedError for parts that are no text. */
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
    throw new UnsupportedError(`${place} of type ${JSON.stringify(type)}`, "Models read text here.");
  throw new ArgumentError(`${place}.text`, part.text, "a text");
}
