/**
 * What experiments read, as entries: pieces of prose from all over a book, and questions about documents with the answers that
 * the model gives over f16. Findings are never confirmed on texts that the search has seen.
 */

import { ArgumentError } from "../format/errors.ts";
import { ANSWER_TOKENS, haystack } from "../study/verify/needles.ts";
import type { LabModel } from "./lab-model.ts";
import type { TextEntry } from "./types.ts";

export interface Book {
  readonly name: string;
  readonly body: string;
}

/** Tokens read before the first measured position. */
export const LEAD_TOKENS = 64;
/** Tokens of a document with questions: short, so that an experiment is short. */
const DOCUMENT_TOKENS = 256;
const QUESTIONS = 5;

/**
 * `count` pieces of `positions` measured tokens, evenly over the book, each from a paragraph's beginning. The first two thirds of
 * a book are for the search, the last is held out, unless `only` says so of all of it.
 */
export function proseTexts(
  model: LabModel,
  book: Book,
  split: TextEntry["split"],
  count: number,
  positions: number,
  only = false,
): TextEntry[] {
  const third = only ? book.body.length : Math.floor(book.body.length / 3);
  const [begin, end] = only
    ? [0, book.body.length]
    : split === "search"
      ? [0, 2 * third]
      : [2 * third, book.body.length];
  const tokens = LEAD_TOKENS + positions;
  return Array.from({ length: count }, (_, i) => {
    const from = paragraph(book.body, begin + Math.floor(((end - begin) * i) / count));
    // Ends at the split: a held-out text shares no line with the search.
    const ids = model.encode(book.name, book.body.slice(from, end), tokens);
    return model.text(`${book.name} ${split} ${i + 1}`, split, ids, LEAD_TOKENS);
  });
}

/** Where the next paragraph begins. */
function paragraph(body: string, at: number): number {
  if (at === 0) return 0;
  const next = body.indexOf("\n\n", at);
  return next < 0 ? at : next + 2;
}

/**
 * `count` questions, five a document. What is measured are the tokens of the answer that the model gives over f16; one
 * that is empty is left out. Even documents are for the search, odd ones held out.
 */
export async function answerTexts(
  model: LabModel,
  book: Book,
  split: TextEntry["split"],
  count: number,
  signal?: AbortSignal,
): Promise<TextEntry[]> {
  if (book.body.trim() === "") throw new ArgumentError(`text ${book.name}`, "empty", "prose");
  const texts: TextEntry[] = [];
  for (let i = 0; texts.length < count && i < 2 * Math.ceil(count / QUESTIONS); i++) {
    const number = 2 * i + (split === "search" ? 0 : 1);
    const { needles } = haystack(model.tokenizer, model.template, book.body, DOCUMENT_TOKENS, number);
    for (const [question, { ids }] of needles.entries()) {
      const answer = await model.answer(ids, ANSWER_TOKENS, signal);
      if (answer.length === 0) continue;
      const name = `document ${number + 1}, question ${question + 1}`;
      // The answer's last token is predicted but not used to predict.
      texts.push(model.text(name, split, [...ids, ...answer], ids.length - 1));
    }
  }
  if (texts.length === 0)
    throw new ArgumentError(`answers of ${model.name}`, "all empty", "a model that answers; take prose");
  return texts.slice(0, count);
}
