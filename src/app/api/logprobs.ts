/**
 * Likelihoods of tokens in the forms of the API: a list of entries for chat, four parallel lists for completions. A token is
 * written as text, and as bytes where it is only a part of a character.
 */
import type { Likelihood, Piece, Tokenizer, TokenLogprob } from "../../index.ts";
import type { Fields } from "./fields.ts";

const MOST_TOP = 20;
/** JSON has no -Infinity; this is OpenAI's value for "very unlikely". */
const LEAST = -9999;

/** Chat's `logprobs` and `top_logprobs` as the library's option. */
export function readChatLogprobs(fields: Fields): number | undefined {
  const wanted = fields.boolean("logprobs") ?? false;
  const top = fields.number("top_logprobs", { low: 0, high: MOST_TOP, integer: true });
  if (top && !wanted) throw fields.wrong("top_logprobs", "a number only with logprobs: true");
  return wanted ? (top ?? 0) : undefined;
}

/** The `logprobs` of completions, a number there. */
export function readCompletionLogprobs(fields: Fields): number | undefined {
  return fields.number("logprobs", { low: 0, high: MOST_TOP, integer: true });
}

/** The likelihoods of a piece, without the end token, which is no part of the answer. */
export function likelihoodsOf(piece: Piece, tokenizer: Tokenizer): Likelihood[] {
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

/** Converts the tokens of one answer, in order, some of them with each call. */
export function completionLogprobs(tokenizer: Tokenizer) {
  const stream = tokenizer.stream({ continues: true });
  let offset = 0;
  return (tokens: readonly Likelihood[]) => ({
    tokens: tokens.map(({ id }) => tokenText(id, tokenizer)),
    token_logprobs: tokens.map(({ logprob }) => Math.max(logprob, LEAST)),
    top_logprobs: tokens.map(({ top }) => byText(top, tokenizer)),
    text_offset: tokens.map(({ id }) => {
      const from = offset;
      offset += stream.push(id).length;
      return from;
    }),
  });
}

/**
 * Most likely first, also where texts are numbers: a Map keeps its order. Of tokens with the same text the most likely counts.
 */
function byText(top: readonly TokenLogprob[], tokenizer: Tokenizer): Map<string, number> {
  const found = new Map<string, number>();
  for (const { id, logprob } of top) {
    const text = tokenText(id, tokenizer);
    if (!found.has(text)) found.set(text, Math.max(logprob, LEAST));
  }
  return found;
}

/** A token's text, or its bytes as OpenAI writes those of a part of a character: "bytes:\\xf0\\x9f". */
function tokenText(id: number, tokenizer: Tokenizer): string {
  const bytes = tokenizer.bytes(id, { special: true });
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return `bytes:${[...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`;
  }
}
