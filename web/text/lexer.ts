/**
 * marked's lexer within a budget. Emphasis is what it reads in quadratic time: each `*` or `_` that opens nothing looks
 * through the rest of its paragraph. A paragraph beyond the budget stays plain text; the others are not affected.
 */
import { Lexer, type Token, Tokenizer, type Tokens } from "marked";

/** Limits of characters scanned for emphasis, about 10 and 50 ms: in a paragraph, in all. Prose of 100 kB takes some 10,000. */
const MOST_OF_PARAGRAPH = 1_000_000;
const MOST_OF_TEXT = 4_000_000;

class BeyondBudget extends Error {}

class CountingTokenizer extends Tokenizer {
  /** Characters that may still be looked through. */
  leftOfParagraph = 0;
  leftOfText = MOST_OF_TEXT;

  override emStrong(src: string, masked: string, before?: string): Tokens.Em | Tokens.Strong | undefined {
    if (!/^[*_]/.test(src)) return undefined;
    if (this.leftOfParagraph < 0 || this.leftOfText < 0) throw new BeyondBudget();
    const found = super.emStrong(src, masked, before);
    // One that closes has looked no further, but copies and masks the rest.
    const looked = found ? found.raw.length + src.length / 8 : src.length;
    this.leftOfParagraph -= looked;
    this.leftOfText -= looked;
    return found;
  }
}

class BoundedLexer extends Lexer {
  readonly #tokenizer: CountingTokenizer;
  #depth = 0;

  constructor() {
    const tokenizer = new CountingTokenizer();
    super({ gfm: true, tokenizer });
    this.#tokenizer = tokenizer;
  }

  /** marked calls it for each paragraph, cell and title, and within it for what is nested. */
  override inlineTokens(src: string, tokens: Token[] = []): Token[] {
    if (this.#depth === 0) this.#tokenizer.leftOfParagraph = MOST_OF_PARAGRAPH;
    this.#depth++;
    try {
      return super.inlineTokens(src, tokens);
    } catch (error) {
      if (!(error instanceof BeyondBudget) || this.#depth > 1) throw error;
      tokens.splice(0, tokens.length, { type: "text", raw: src, text: src, escaped: false });
      return tokens;
    } finally {
      this.#depth--;
    }
  }
}

/** Throws for what nests too deeply. */
export function lex(text: string): Token[] {
  return new BoundedLexer().lex(text);
}
