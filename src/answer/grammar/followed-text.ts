/**
 * One text that follows a grammar. It keeps its tokens, so that it can go on in another thread when its own ends, and
 * bounds blanks.
 */
import { AbortedError, NibbleError } from "../../format/errors.ts";
import type { Grammar, OpenGrammar } from "./grammar.ts";
import { Closed, Failed, Lost } from "./keeper.ts";
import type { Seat, Threads } from "./threads.ts";
import { type Blanks, withoutBlanks } from "./vocabulary.ts";

/** Consecutive blanks outside of words, and blanks for each other byte: small models can go on with blanks forever. */
const MOST_BLANKS = 24;
const BLANKS_PER_BYTE = 2;
/** Threads that ended because of other grammars. */
const MOST_LOST = 5;

export interface TextOptions {
  readonly threads: Threads;
  readonly blanks: Blanks;
  readonly grammar: Grammar;
  /** The same for equal grammars. */
  readonly key: string;
}

export class FollowedText implements OpenGrammar {
  readonly #options: TextOptions;
  readonly #ids: number[] = [];
  #seat: Seat | null = null;
  #next: Promise<Int32Array> = Promise.resolve(NOTHING);
  #isClosed = false;
  #row = 0;
  #all = 0;

  private constructor(options: TextOptions) {
    this.#options = options;
  }

  static async open(options: TextOptions, signal?: AbortSignal): Promise<FollowedText> {
    const text = new FollowedText(options);
    const close = () => text.close();
    signal?.addEventListener("abort", close);
    try {
      const mask = await text.#mask(null, signal);
      if (!mask.some((word) => word !== 0)) throw refused("no text matches it");
      text.#next = Promise.resolve(mask);
      return text;
    } catch (error) {
      text.close();
      throw error;
    } finally {
      signal?.removeEventListener("abort", close);
    }
  }

  async allowed(): Promise<Int32Array> {
    const isLost = this.#row >= MOST_BLANKS || this.#all >= MOST_BLANKS;
    const mask = await this.#next;
    return isLost ? withoutBlanks(mask, this.#options.blanks) : mask;
  }

  accept(token: number): void {
    const { blanks } = this.#options;
    const length = blanks.lengths.get(token);
    this.#row = length === undefined ? 0 : this.#row + length;
    this.#all =
      length === undefined
        ? Math.max(0, this.#all - BLANKS_PER_BYTE * blanks.bytes(token))
        : this.#all + length;
    this.#next = this.#next.then(() => this.#mask(token));
    // The generation may end before it asks for tokens.
    this.#next.catch(() => {});
  }

  close(): void {
    this.#isClosed = true;
    if (this.#seat) this.#options.threads.leave(this.#seat);
    this.#seat = null;
  }

  /** What may come after this token, or first of all. */
  async #mask(token: number | null, signal?: AbortSignal): Promise<Int32Array> {
    const { threads, grammar, key } = this.#options;
    if (token !== null) this.#ids.push(token);
    for (let lost = 0; ; ) {
      if (this.#isClosed) throw new AbortedError("following a grammar");
      const reason = threads.failureOf(key);
      if (reason !== undefined) throw refused(reason);
      const { seat, isNew } = await this.#sit(signal);
      // A request for a matcher that has been closed would end the thread.
      if (this.#isClosed) throw new AbortedError("following a grammar");
      const { keeper, matcher } = seat;
      try {
        const { mask, ms } = await keeper.ask(
          isNew || token === null
            ? { kind: "start", matcher, grammar, ids: [...this.#ids] }
            : { kind: "step", matcher, token },
        );
        threads.took(key, ms);
        return mask ?? NOTHING;
      } catch (error) {
        if (error instanceof Closed) throw new AbortedError("following a grammar");
        if (error instanceof Failed) {
          if (!threads.failed(key, seat, error.message)) throw refused(error.message);
        } else if (!(error instanceof Lost) || ++lost > MOST_LOST) throw error;
        this.#stand();
      }
    }
  }

  async #sit(signal?: AbortSignal): Promise<{ seat: Seat; isNew: boolean }> {
    const { threads, grammar, key } = this.#options;
    const better = this.#seat && threads.takeBetter(key, this.#seat);
    if (better) {
      this.#stand();
      this.#seat = better;
    }
    if (this.#seat) return { seat: this.#seat, isNew: better !== null };
    const seat = await threads.take(key, grammar.weight, signal);
    this.#seat = seat;
    if (this.#isClosed) {
      this.#stand();
      throw new AbortedError("following a grammar");
    }
    return { seat, isNew: true };
  }

  #stand(): void {
    if (this.#seat) this.#options.threads.leave(this.#seat);
    this.#seat = null;
  }
}

const NOTHING = new Int32Array(0);

function refused(reason: string): NibbleError {
  return new NibbleError("argument", `the schema cannot be kept: ${reason}`);
}
