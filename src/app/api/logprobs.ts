/**
 * Likelihoods of tokens in the forms of the API: a list of entries for chat, four parallel lists for completions. Owns
 * how a token is written: as text, and as bytes where it is only a part of a character.
 */
import type { Likelihood, Piece, Tokenizer, TokenLogprob } from "../../index.ts";
import type { Fields } from "./fields.ts";

const MOST_TOP = 20;
/** JSON knows no -Infinity; OpenAI's own stand-in for "very unlikely". */
const LEAST = -9999;

/** Chat's `logprobs` and `top_logprobs` as the library's option. */
export function readChatLogprobs(fields: Fields): number | undefined {
  const wanted = fields.boolean("logprobs") ?? false;
  const top = fields.number("top_logprobs", { low: 0, high: MOST_TOP, integer: true });
  if (top !== undefined && !wanted) throw fields.wrong("top_logprobs", "a number only beside logprobs: true");
  return wanted ? (top ?? 0) : undefined;
}

/** The `logprobs` of completions, a number there. */
export function readCompletionLogprobs(fields: Fields): number | undefined {
  return fields.number("logprobs", { low: 0, high: MOST_TOP, integer: true });
}

/** What a piece tells, without the end token, which is no part of the answer. */
export function toldTokens(piece: Piece, tokenizer: Tokenizer): Likelihood[] {
  return (piece.likelihoods ?? []).filter(({ id }) => !tokenizer.endIds.has(id));
}

export function chatLogprobs(tokens: readonly Likelihood[], tokenizer: Tokenizer) {
  const entry = ({ id, logprob }: TokenLogprob) => ({
    token: tokenText(id, tokenizer),
    logprob: Math.max(logprob, LEAST),
    bytes: [...tokenizer.bytes(id, { special: true })],
  });
  return {
    content: tokens.map((token) => ({ ...entry(token), top_logprobs: token.top.map(entry) })),
    refusal: null,
  };
}

/** from: characters of the text in front of these tokens. */
export function completionLogprobs(tokens: readonly Likelihood[], tokenizer: Tokenizer, from: number) {
  const texts = tokens.map(({ id }) => tokenText(id, tokenizer));
  let at = from;
  return {
    tokens: texts,
    token_logprobs: tokens.map(({ logprob }) => Math.max(logprob, LEAST)),
    top_logprobs: tokens.map(({ top }) =>
      Object.fromEntries(top.map(({ id, logprob }) => [tokenText(id, tokenizer), Math.max(logprob, LEAST)])),
    ),
    text_offset: texts.map((text) => {
      const offset = at;
      at += text.length;
      return offset;
    }),
  };
}

function tokenText(id: number, tokenizer: Tokenizer): string {
  return tokenizer.decode([id], { special: true, continues: true });
}
