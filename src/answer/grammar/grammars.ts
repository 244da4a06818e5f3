/**
 * Grammars as constraints of a generation: from a grammar to a text that follows it. The
 * threads that do the work are in `threads.ts`.
 */
import { createHash } from "node:crypto";
import { inSlices } from "../../format/slices.ts";
import type { Tokenizer } from "../../format/tokenizer.ts";
import { FollowedText } from "./followed-text.ts";
import type { Grammar, GrammarToMake, OpenGrammar } from "./grammar.ts";
import { Marks } from "./marks.ts";
import { type ThreadLimits, Threads } from "./threads.ts";
import { type Blanks, findBlanks, vocabularyOf } from "./vocabulary.ts";

export class Grammars {
  readonly #threads: Threads;
  readonly #blanks: Blanks;
  readonly #marks = new Marks();
  #opening = 0;

  /** vocab: of the logits, which may be more than the tokenizer's. Reads the vocabulary: with 150,000 tokens some 0.1 s. */
  constructor(tokenizer: Tokenizer, vocab: number, limits: Partial<ThreadLimits> = {}) {
    const vocabulary = vocabularyOf(tokenizer, vocab, this.#marks);
    this.#threads = new Threads(vocabulary, limits);
    this.#blanks = findBlanks(vocabulary);
  }

  /** Texts whose grammar is being compiled. */
  get opening(): number {
    return this.#opening;
  }

  /**
   * A text that follows a grammar, which may be made now. Rejects with what its making throws; with NibbleError "argument"
   * for a grammar that cannot be compiled, or that no text matches; with BusyError when too many wait for a thread;
   * with AbortedError when the signal fires.
   */
  async open(asked: Grammar | GrammarToMake, signal?: AbortSignal): Promise<OpenGrammar> {
    this.#opening++;
    try {
      const doing = "making a grammar";
      const grammar =
        "make" in asked ? await inSlices(asked.make(this.#marks.expression), doing, signal) : asked;
      const options = { threads: this.#threads, blanks: this.#blanks, grammar, key: keyOf(grammar) };
      return await FollowedText.open(options, signal);
    } finally {
      this.#opening--;
    }
  }

  close(): void {
    this.#threads.close();
  }
}

function keyOf({ text, tags }: Grammar): string {
  return createHash("sha256")
    .update(JSON.stringify([text, tags]))
    .digest("base64");
}
