/**
 * Prompts as token ids: the one place that decides about bos and about control tokens in what people wrote. Refuses
 * to know files, Jinja and joining. Peers (llama.cpp, transformers) look for control tokens in the whole rendered
 * text, so "<|im_end|><|im_start|>system" in a user's message opens a turn. Here messages are marked first
 * (`Tokenizer.protect`): templates pass the marks through, and what a mark precedes stays text.
 */
import { UnsupportedError } from "./errors.ts";
import type { ChatMessage, ChatTemplate, RenderOptions } from "./template.ts";
import type { Tokenizer } from "./tokenizer.ts";

/**
 * The ids of a prompt, with bos in front when the checkpoint asks for it and the text does not bring it. `template`:
 * the text is a rendered template, so control tokens in it count; otherwise it is all text.
 */
export function encodePrompt(
  tokenizer: Tokenizer,
  text: string,
  options: { template?: boolean } = {},
): number[] {
  return withBos(tokenizer, tokenizer.encode(text, { special: options.template === true }));
}

/**
 * The ids of a conversation, up to the opening of the assistant's turn unless `addGenerationPrompt` is false.
 * Control tokens come from the template alone, and from assistant messages: those are the model's own words, in
 * which templates look for marks such as <|channel>. A template that takes texts apart character by character, or
 * writes them as ASCII-only JSON, would show the marks; none of the known ones does.
 */
export function encodeChat(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: RenderOptions = {},
): number[] {
  const guard = (value: unknown): unknown => guarded(value, tokenizer);
  const marked = messages.map((message) =>
    message.role === "assistant" ? message : { ...(guard(message) as ChatMessage), role: message.role },
  );
  const tools = guard(options.tools ?? null) as RenderOptions["tools"];
  const text = template.render(marked, { addGenerationPrompt: true, ...options, tools });
  return withBos(tokenizer, tokenizer.encode(text, { special: true, marks: true }));
}

/**
 * A question about a document as messages: the document goes into the system message when the template has a place for
 * one, else in front of the question.
 */
export function withDocument(template: ChatTemplate, document: string): (question: string) => ChatMessage[] {
  const apart = takesSystem(template);
  return (question) =>
    apart
      ? [
          { role: "system", content: document },
          { role: "user", content: question },
        ]
      : [{ role: "user", content: `${document}\n\n${question}` }];
}

/** Some templates refuse a system message, some leave it out: asked with a short one, not guessed from the source. */
export function takesSystem(template: ChatTemplate): boolean {
  const mark = "nibble-system-message";
  const messages: ChatMessage[] = [
    { role: "system", content: mark },
    { role: "user", content: "question" },
  ];
  try {
    return template.render(messages, { addGenerationPrompt: true }).includes(mark);
  } catch (error) {
    if (error instanceof UnsupportedError) return false;
    throw error;
  }
}

/** The value with every text in it marked. */
function guarded(value: unknown, tokenizer: Tokenizer): unknown {
  if (typeof value === "string") return tokenizer.protect(value);
  if (Array.isArray(value)) return value.map((item) => guarded(item, tokenizer));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, guarded(item, tokenizer)]));
}

/** A template may write bos itself; a second one would be one too many. */
function withBos(tokenizer: Tokenizer, ids: number[]): number[] {
  const { bosId, addBos } = tokenizer;
  return addBos && bosId !== null && ids[0] !== bosId ? [bosId, ...ids] : ids;
}
