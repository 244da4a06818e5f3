/** Converts a prompt of the AI SDK into messages of a chat template; files are refused. */
import type { ChatMessage } from "../../format/template.ts";
import { unsupported } from "../errors.ts";
import type { PromptMessage, PromptPart } from "./types.ts";

export function messagesOf(prompt: readonly PromptMessage[]): ChatMessage[] {
  return prompt.flatMap(({ role, content }, at): ChatMessage[] => {
    if (typeof content === "string") return [{ role, content }];
    const place = `prompt[${at}]`;
    if (role === "tool") return content.flatMap((part) => resultOf(part, place));
    const text = (type: string) =>
      content.map((part) => (part.type === type ? (part.text ?? "") : "")).join("");
    const other = content.find(({ type }) => !["text", "reasoning", "tool-call"].includes(type));
    if (other)
      throw unsupported(place, `${place} has a part of type ${other.type}; this model reads text only`);
    const calls = content.flatMap(({ type, toolCallId: id, toolName: name, input }) =>
      type === "tool-call" ? [{ id, type: "function", function: { name, arguments: input } }] : [],
    );
    const [words, thoughts] = [text("text"), text("reasoning")];
    return [
      {
        role,
        content: words,
        ...(thoughts === "" ? {} : { reasoning_content: thoughts }),
        // gpt-oss's name for it, which it reads before a call only.
        ...(thoughts !== "" && words === "" && calls.length > 0 ? { thinking: thoughts } : {}),
        ...(calls.length === 0 ? {} : { tool_calls: calls }),
      },
    ];
  });
}

function resultOf(
  { type, toolCallId: id, toolName: name, output }: PromptPart,
  place: string,
): ChatMessage[] {
  if (type !== "tool-result" || !output) return [];
  const message = (content: string) => [{ role: "tool", tool_call_id: id, name, content }];
  const { value } = output;
  if (output.type === "execution-denied")
    return message(`error: ${output.reason ?? "the user did not allow it"}`);
  if (output.type === "content") {
    const parts = value as readonly { type: string; text?: string }[];
    const other = parts.find((part) => part.type !== "text");
    if (other)
      throw unsupported(place, `${place} has a result of type ${other.type}; this model reads text only`);
    return message(parts.map((part) => part.text).join(""));
  }
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return message(output.type.startsWith("error") ? `error: ${text}` : text);
}
