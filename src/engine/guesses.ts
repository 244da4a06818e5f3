/**
 * The guesses of one generation: what may come next, found in the text itself (lookup.ts) or by a draft model (draft.ts),
 * and how many of those that were checked were right. pick.ts decides how many a step checks.
 */
import type { Draft } from "./draft.ts";
import { type Guess, Lookup } from "./lookup.ts";
import type { Tokens } from "./tokens.ts";

export interface GuessesOptions {
  /** Maximum tokens that are guessed and checked at once. */
  readonly most: number;
  /** Guesses if the text itself offers none. */
  readonly draft: Draft | null;
}

export class Guesses {
  readonly draft: Draft | null;
  /** Guesses that were checked, and those of them that were right. */
  checked = 0;
  right = 0;
  readonly #ids: readonly number[];
  readonly #tokens: Tokens;
  readonly #most: number;
  #lookup: Lookup | null = null;
  /** A step with guesses is running. */
  #isChecking = false;

  /** ids: the text, which grows. */
  constructor(ids: readonly number[], tokens: Tokens, { most, draft }: GuessesOptions) {
    this.#ids = ids;
    this.#tokens = tokens;
    this.#most = most;
    this.draft = draft;
  }

  get isChecking(): boolean {
    return this.#isChecking;
  }

  /** No next row may be sent before this has ended. */
  get isBusy(): boolean {
    return this.#isChecking || this.draft?.isBusy === true;
  }

  /** How many the next row may have. */
  get most(): number {
    return Math.min(this.#most, this.#tokens.wanted - 1);
  }

  /** For what follows the known tokens: at most `most`, which may extend past the awaited ones. */
  find(most: number): Guess {
    this.#lookup ??= new Lookup(this.#ids);
    return this.#lookup.next(most);
  }

  /** Asks the draft model for `count` tokens after the known ones. */
  startDraft(count: number): void {
    const tokens = this.#tokens;
    this.draft!.start(this.#ids, count, tokens.draw, (error) => {
      if (error) tokens.fail(error.error);
      else tokens.onChange();
    });
  }

  /** A row was sent with this many guesses. */
  sent(guesses: number): void {
    this.#isChecking = guesses > 0;
  }

  /** The row's tokens were chosen: the text's ids from `first` on. */
  learn(guess: readonly number[], first: number): void {
    if (guess.length === 0) return this.draft?.passed();
    const chosen = this.#ids.length - first;
    let right = 0;
    while (right < chosen && guess[right] === this.#ids[first + right]) right++;
    this.checked += guess.length;
    this.right += right;
    if (this.draft?.after(first)?.[0] === guess[0]) this.draft?.learn(guess.length, right);
    this.#isChecking = false;
  }

  end(): void {
    this.draft?.end();
  }
}
