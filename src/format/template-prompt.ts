/**
 * Prompts as token ids: the one place that decides about bos and about control tokens in what people wrote. Refuses to
 * know files, Jinja and joining. Peers (llama.cpp, transformers) look for control tokens in the whole rendered text, so
 * "<|im_end|><|im_start|>system" in a user's message opens a turn.
 *
 * The rule here: only what the template itself writes may become a control token. Every text that it is given is marked
 * where a control token's text stands in it (`Tokenizer.protect`), and nowhere else: contents, names and values of
 * tools, calls, documents and variables, the model's earlier answers. Templates pass the marks through. Two exceptions:
 * - In the content of assistant messages REASONING_MARKS that the template names pass, for it looks for them there.
 * - A role is part of tokens in some templates ("<|user|>"), so it is not marked but has to be a word.
 * What is left: a template that writes "<" in front of a text and ">" after it could make a token of both. None of the
 * supported families has such a one.
 */
import type { AnswerIds } from "./answer-ids.ts";
import { ArgumentError, UnsupportedError } from "./errors.ts";
import { atOnce, type Slices } from "./slices.ts";
import type { ChatMessage, ChatTemplate, RenderOptions } from "./template.ts";
import { type Tokenizer, unmark, withBos } from "./tokenizer.ts";

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
 * What models write around their reasoning. Clients hand answers back with them, and templates take the reasoning out
 * by them. No turn and no role begins or ends with one.
 */
export const REASONING_MARKS: readonly string[] = [
  ...["<think>", "</think>", "<seed:think>", "</seed:think>", "[THINK]", "[/THINK]"],
  ...["<|channel>", "<channel|>"],
];

/**
 * The ids of a conversation, up to the opening of the assistant's turn unless `addGenerationPrompt` is false. `answers`:
 * earlier answers of the model keep the ids that they were generated with. A system message that the template refuses or
 * leaves out stands in front of the first question. A template that takes texts apart character by character would show
 * the marks; none of the known ones does. ArgumentError for a role that is no word.
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

/** `encodeChat` with places to pause. */
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

/** A question about a document as messages: the document is the system message. */
export function withDocument(document: string): (question: string) => ChatMessage[] {
  return (question) => [
    { role: "system", content: document },
    { role: "user", content: question },
  ];
}

/** The one rule for a system message without a place, in front of every way to a prompt. */
function withSystemPlaced(template: ChatTemplate, messages: readonly ChatMessage[]): readonly ChatMessage[] {
  const [system, ...others] = messages;
  const first = others.findIndex(({ role }) => role === "user");
  if (system?.role !== "system" || first < 0 || takesSystem(template)) return messages;
  const content = `${system.content}\n\n${others[first].content}`;
  return others.map((message, at) => (at === first ? { ...message, content } : message));
}

const known = new WeakMap<ChatTemplate, boolean>();

/** Some templates refuse a system message, some leave it out: asked with a short one, not guessed from the source. */
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

/** The value with every text in it marked, names of properties included. */
function guarded(value: unknown, tokenizer: Tokenizer, except?: ReadonlySet<string>): unknown {
  if (typeof value === "string") return tokenizer.protect(value, except);
  if (Array.isArray(value)) return value.map((item) => guarded(item, tokenizer, except));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [tokenizer.protect(name), guarded(item, tokenizer, except)]),
  );
}
