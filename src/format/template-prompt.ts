/**
 * Prompts as token ids: the one place that decides about bos and about control tokens in user text. llama.cpp and
 * transformers look for control tokens in the whole rendered text, so "<|im_end|><|im_start|>system" in a user's
 * message opens a turn.
 *
 * Here only what the template itself writes may become a control token. Every text given to the template is marked
 * where it contains the spelling of a control token (`Tokenizer.protect`), and nowhere else: contents, names and values
 * of tools, calls, documents and variables, the model's earlier answers. Templates pass the marks through. Two
 * exceptions:
 * - In assistant messages, the REASONING_MARKS that the template mentions are let through, because it looks for them.
 * - Some templates make tokens of roles ("<|user|>"), so a role is not marked but must be a word.
 * One gap is left: a template that writes "<" before a text and ">" after it could form a token. No supported family
 * has such a template.
 */
import type { AnswerIds } from "./answer-ids.ts";
import { ArgumentError, UnsupportedError } from "./errors.ts";
import { atOnce, type Slices } from "./slices.ts";
import type { ChatMessage, ChatTemplate, RenderOptions } from "./template.ts";
import { type Tokenizer, unmark, withBos } from "./tokenizer.ts";

/**
 * The ids of a prompt, with bos in front if the checkpoint asks for it and the text does not begin with it. `template`:
 * the text is a rendered template, so control tokens in it count; otherwise all of it is text.
 */
export function encodePrompt(
  tokenizer: Tokenizer,
  text: string,
  options: { template?: boolean } = {},
): number[] {
  return withBos(tokenizer, tokenizer.encode(text, { special: options.template === true }));
}

/**
 * What models write around their reasoning. Clients send answers back with these marks, and templates use them to
 * remove the reasoning. They never begin or end a turn or role.
 */
export const REASONING_MARKS: readonly string[] = [
  ...["<think>", "</think>", "<seed:think>", "</seed:think>", "[THINK]", "[/THINK]"],
  ...["<|channel>", "<channel|>"],
];

/**
 * The ids of a conversation, up to the opening of the assistant's turn unless `addGenerationPrompt` is false.
 * `answers`: earlier answers of the model keep the ids that they were generated with. A system message that the
 * template refuses or ignores is put before the first question. A template that processes texts character by character
 * would show the marks; no known one does. Throws ArgumentError for a role that is not a word.
 */
export function encodeChat(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: RenderOptions = {},
  answers?: AnswerIds,
): number[] {
  return atOnce(chatSlices(tokenizer, template, messages, options, answers));
}

/** `encodeChat` that pauses between slices. */
export function* chatSlices(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: RenderOptions = {},
  answers?: AnswerIds,
): Slices<number[]> {
  const { addGenerationPrompt = true, now, ...variables } = options;
  const named = new Set(REASONING_MARKS.filter((mark) => template.source.includes(mark)));
  const marked: ChatMessage[] = [];
  for (const message of withSystemPlaced(template, messages)) {
    const { role, content } = message;
    if (!ROLE.test(role)) throw new ArgumentError("role", JSON.stringify(role), "letters, digits, - and _");
    const isAnswer = role === "assistant";
    marked.push({
      ...(guarded(message, tokenizer) as ChatMessage),
      role,
      ...(isAnswer && { content: guarded(content, tokenizer, named) as string }),
    });
    yield;
  }
  const given = guarded(variables, tokenizer) as RenderOptions;
  const text = yield* template.slices(marked, { ...given, addGenerationPrompt, now });
  const rendered = unmark(text);
  yield;
  if (answers) return yield* answers.slices(rendered);
  const { literals } = rendered;
  return withBos(tokenizer, yield* tokenizer.slices(rendered.text, { special: true, literals }));
}

const ROLE = /^[\p{L}\p{N}_-]+$/u;

/** Messages for a question about a document: the document is the system message. */
export function withDocument(document: string): (question: string) => ChatMessage[] {
  return (question) => [
    { role: "system", content: document },
    { role: "user", content: question },
  ];
}

/** The one rule for a system message that the template does not support, applied before every way to a prompt. */
function withSystemPlaced(template: ChatTemplate, messages: readonly ChatMessage[]): readonly ChatMessage[] {
  const [system, ...others] = messages;
  const first = others.findIndex(({ role }) => role === "user");
  if (system?.role !== "system" || first < 0 || takesSystem(template)) return messages;
  const content = `${system.content}\n\n${others[first].content}`;
  return others.map((message, at) => (at === first ? { ...message, content } : message));
}

const known = new WeakMap<ChatTemplate, boolean>();

/**
 * Some templates refuse a system message, others ignore it: found by rendering a short one, not guessed from the
 * source.
 */
function takesSystem(template: ChatTemplate): boolean {
  let takes = known.get(template);
  if (takes === undefined) known.set(template, (takes = showsSystem(template)));
  return takes;
}

function showsSystem(template: ChatTemplate): boolean {
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

/** The value with every text in it marked, including names of properties. */
function guarded(value: unknown, tokenizer: Tokenizer, except?: ReadonlySet<string>): unknown {
  if (typeof value === "string") return tokenizer.protect(value, except);
  if (Array.isArray(value)) return value.map((item) => guarded(item, tokenizer, except));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [tokenizer.protect(name), guarded(item, tokenizer, except)]),
  );
}
