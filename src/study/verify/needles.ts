/**
 * Needles: facts planted in a text at several depths, and questions that show whether a model still finds them. Defines
 * the facts, where they are planted and when an answer is right. Pure except for asking. A document carries several
 * facts and is read once; each question costs only its own tokens.
 */

import { Generation, generateTokens } from "../../engine/generate.ts";
import type { Text } from "../../engine/text.ts";
import type { ChatTemplate } from "../../format/template.ts";
import { encodeChat, encodePrompt, withDocument } from "../../format/template-prompt.ts";
import type { Tokenizer } from "../../format/tokenizer.ts";

/** The positions of facts in a document, as shares of its tokens. */
export const NEEDLE_DEPTHS: readonly number[] = [0.1, 0.3, 0.5, 0.7, 0.9];
/** Maximum tokens of an answer; one sentence with the fact in it takes about 20. */
export const ANSWER_TOKENS = 40;
/** The tokens of a fact in a document, with its share of the question and the template. */
const FACT_TOKENS = 24;

interface Fact {
  readonly subject: string;
  readonly value: string;
}

export interface Needle {
  /** One of NEEDLE_DEPTHS. */
  readonly depth: number;
  readonly value: string;
  /** The document followed by the question, as the model takes it. */
  readonly ids: readonly number[];
}

/** One document's needles; their ids share the document. */
export interface Haystack {
  /** Approximate tokens of a whole prompt. */
  readonly tokens: number;
  readonly needles: readonly Needle[];
}

// Facts of 70 people. Two kinds of value can be guessed, one time in seven; the others cannot.
const FIRST = ["Clara", "Boris", "Helen", "Martin", "Alice", "Victor", "Nora", "Peter", "Julia", "Oscar"];
const FAMILY = ["Whitfield", "Thorne", "Archer", "Lindgren", "Morales", "Bennett", "Novak"];
const ATTRIBUTES: readonly (readonly [attribute: string, value: (n: number) => string])[] = [
  ["access code", (n) => String(10_007 + ((n * 27_644_437) % 89_989))],
  ["home city", (n) => ["Vienna", "Lisbon", "Oslo", "Madrid", "Cairo", "Geneva", "Boston"][n % 7]],
  ["room number", (n) => String(101 + ((n * 7919) % 887))],
  ["birth year", (n) => String(1901 + ((n * 37) % 97))],
  ["favorite color", (n) => ["green", "purple", "orange", "yellow", "silver", "crimson", "blue"][n % 7]],
];

/** Facts have numbers, from 0. */
function fact(n: number): Fact {
  const [attribute, value] = ATTRIBUTES[n % ATTRIBUTES.length];
  const name = `${FIRST[n % FIRST.length]} ${FAMILY[n % FAMILY.length]}`;
  return { subject: `The ${attribute} of ${name}`, value: value(n) };
}

/**
 * A document for prompts of about `tokens` tokens, from the beginning of `text`, with a fact at each of NEEDLE_DEPTHS
 * between its lines. number: which facts; documents of different numbers have different ones. Models without a template
 * complete the fact's sentence instead of answering.
 */
export function haystack(
  tokenizer: Tokenizer,
  template: ChatTemplate | null,
  text: string,
  tokens: number,
  number = 0,
): Haystack {
  const around = tokens - NEEDLE_DEPTHS.length * FACT_TOKENS;
  const lines = linesOf(tokenizer, text, around);
  const facts = NEEDLE_DEPTHS.map((depth, i) => {
    // Each kind of fact gets to each depth, document by document.
    const found = fact(number * NEEDLE_DEPTHS.length + ((i + number) % NEEDLE_DEPTHS.length));
    return { depth, ...found };
  });
  const left = [...facts];
  const document: string[] = [];
  let read = 0;
  for (const line of lines) {
    while (left.length > 0 && read >= left[0].depth * around) document.push(sentence(left.shift()!));
    document.push(line.text);
    read += line.tokens;
  }
  document.push(...left.map(sentence));
  const encode = prompts(tokenizer, template, document.join("\n"));
  return {
    tokens,
    needles: facts.map(({ depth, value, subject }) => ({ depth, value, ids: encode(subject) })),
  };
}

function sentence({ subject, value }: Fact): string {
  return `${subject} is ${value}.`;
}

/** At most 400 characters that end with a sentence, else with a word, else anywhere. */
const SENTENCES = /\S[^\n]{0,398}(?<=[.!?]["']?)(?=\s|$)|\S[^\n]{0,398}(?=\s|$)|\S{1,400}/g;

/** The beginning of a text, of N tokens; long lines are split into sentences, so that facts find their places. */
function linesOf(tokenizer: Tokenizer, text: string, tokens: number): { text: string; tokens: number }[] {
  const lines: { text: string; tokens: number }[] = [];
  let left = tokens;
  // Empty lines between paragraphs mean nothing to a model, and needle-14m was trained without them.
  for (const line of text.split("\n")) {
    for (const sentence of line.match(SENTENCES) ?? []) {
      const ids = tokenizer.encode(sentence).slice(0, left);
      // The end of the line is a token, too.
      lines.push({ text: ids.length < left ? sentence : tokenizer.decode(ids), tokens: ids.length + 1 });
      left -= ids.length + 1;
      if (left <= 0) return lines;
    }
  }
  return lines;
}

/** A subject -> the ids of its question after the document. */
function prompts(
  tokenizer: Tokenizer,
  template: ChatTemplate | null,
  document: string,
): (subject: string) => number[] {
  if (!template)
    return (subject) => encodePrompt(tokenizer, `${document}\n${subject} is`, { template: false });
  const messages = withDocument(document);
  // With this variable, templates open no reasoning, which would fill the answer.
  return (subject) =>
    encodeChat(tokenizer, template, messages(`What is ${subject.replace("The", "the")}?`), {
      enable_thinking: false,
    });
}

/** Asks, greedily. `right`: the value is in the answer as a separate word. */
export async function askNeedle(
  into: Text,
  tokenizer: Tokenizer,
  needle: Needle,
  signal?: AbortSignal,
): Promise<{ right: boolean; ids: readonly number[] }> {
  const options = { maxTokens: ANSWER_TOKENS, temperature: 0, signal };
  const { text, ids } = await new Generation(generateTokens(into, tokenizer, needle.ids, options)).result();
  return { right: new RegExp(`(?<![\\w.])${needle.value}(?!\\w)`, "i").test(text), ids };
}
