/**
 * A constraint that lets a model think first: it begins after reasoning that the prompt has opened, or that the model
 * opens itself with its first token.
 */
import type { ChatTemplate } from "../../format/template.ts";
import type { Tokenizer } from "../../format/tokenizer.ts";
import { openedSection } from "../part-streams.ts";
import { SECTIONS, type Section } from "../reasoning.ts";
import type { OpenGrammar } from "./grammar.ts";

/** opened: by the prompt. openable: sections that the model may open itself, by the id of their mark. */
export interface AnswerStart {
  readonly opened: Section | null;
  readonly openable: ReadonlyMap<number, Section>;
}

/** Where the answer to a prompt starts: what the template's last words have opened, and what the model may open. */
export function answerStart(
  prompt: readonly number[],
  tokenizer: Tokenizer,
  template: ChatTemplate | null,
): AnswerStart {
  const promptEnd = tokenizer.decode(prompt.slice(-PROMPT_END), { special: true });
  const opened = openedSection(promptEnd);
  return { opened, openable: openableSections(tokenizer, template?.source ?? "", promptEnd) };
}

/** Tokens that hold a template's last words. */
const PROMPT_END = 16;

/**
 * Sections whose mark is one token of this vocabulary and stands in the template: the model knows them. None where the
 * prompt ends with a section that is closed again: the template asks the model not to think.
 */
export function openableSections(
  tokenizer: Tokenizer,
  template: string,
  promptEnd: string,
): ReadonlyMap<number, Section> {
  const found = new Map<number, Section>();
  for (const section of SECTIONS) {
    if (promptEnd.trimEnd().endsWith(section.close)) return new Map();
    if (!template.includes(section.open)) continue;
    const ids = tokenizer.encode(section.open, { special: true });
    if (ids.length === 1) found.set(ids[0], section);
  }
  return found;
}

export function afterReasoning(
  grammar: OpenGrammar,
  { opened, openable }: AnswerStart,
  tokenizer: Tokenizer,
): OpenGrammar {
  const stream = tokenizer.stream({ special: true });
  let section = opened;
  let tail = "";
  let isFirst = true;
  const thoughts = new Int32Array(Math.ceil(tokenizer.vocab / 32)).fill(-1);
  for (const id of tokenizer.endIds) thoughts[id >> 5] &= ~(1 << (id & 31));
  return {
    async allowed() {
      // It may not end before there is an answer.
      if (section) return thoughts;
      const mask = await grammar.allowed();
      if (!isFirst || mask === null || openable.size === 0) return mask;
      const wider = mask.slice();
      for (const id of openable.keys()) wider[id >> 5] |= 1 << (id & 31);
      return wider;
    },
    accept(id) {
      const opens = isFirst && !section ? openable.get(id) : undefined;
      isFirst = false;
      if (opens) section = opens;
      else if (!section) return grammar.accept(id);
      tail += stream.push(id);
      if (tail.includes(section.close)) section = null;
      else tail = tail.slice(-section.close.length);
    },
    close: () => grammar.close(),
  };
}
