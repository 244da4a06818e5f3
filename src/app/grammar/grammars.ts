/**
 * Grammars as constraints of a generation. Owns what a grammar is, and the way from one to a text that keeps it; the
 * threads that do the work stand in `threads.ts`. Refuses to know requests.
 */
import { createHash } from "node:crypto";
import type { Constraint, Tokenizer } from "../../index.ts";
import { FollowedText } from "./followed-text.ts";
import { type ThreadLimits, Threads } from "./threads.ts";
import { type Blanks, findBlanks, vocabularyOf } from "./vocabulary.ts";
import type { Weight } from "./weight.ts";

/** Rules in XGrammar's notation from "root" on, or a structural tag of it. weight: of the rules; default: little. */
export type Grammar = { readonly weight?: Weight } & (
  | { readonly text: string; readonly tags?: undefined }
  | { readonly tags: Readonly<Record<string, unknown>>; readonly text?: undefined }
);

/** A constraint that holds memory until `close`. */
export interface OpenGrammar extends Constraint {
  close(): void;
}

export class Grammars {
  readonly #tokenizer: Tokenizer;
  readonly #vocab: number;
  readonly #limits: Partial<ThreadLimits>;
  #made: { readonly threads: Threads; readonly blanks: Blanks } | null = null;
  #opening = 0;

  /** vocab: of the logits, which may be more than the tokenizer's. */
  constructor(tokenizer: Tokenizer, vocab: number, limits: Partial<ThreadLimits> = {}) {
    this.#tokenizer = tokenizer;
    this.#vocab = vocab;
    this.#limits = limits;
  }

  /** Texts whose grammar is in the making. */
  get opening(): number {
    return this.#opening;
  }

  /**
   * Rejects with NibbleError "argument" for a grammar that cannot be compiled, or that no text matches; with ApiError 503
   * when too many wait for a thread; with AbortedError when the signal fires.
   */
  async open(grammar: Grammar, signal?: AbortSignal): Promise<OpenGrammar> {
    this.#made ??= this.#make();
    const { threads, blanks } = this.#made;
    this.#opening++;
    try {
      return await FollowedText.open({ threads, blanks, grammar, key: keyOf(grammar) }, signal);
    } finally {
      this.#opening--;
    }
  }

  close(): void {
    this.#made?.threads.close();
  }

  #make() {
    const vocabulary = vocabularyOf(this.#tokenizer, this.#vocab);
    return { threads: new Threads(vocabulary, this.#limits), blanks: findBlanks(vocabulary) };
  }
}

function keyOf({ text, tags }: Grammar): string {
  return createHash("sha256")
    .update(JSON.stringify([text, tags]))
    .digest("base64");
}
