/**
 * Prompt lookup: finds where the end of a text occurred in it before, and so what may come next (the idea of
 * github.com/apoorvumang/prompt-lookup-decoding), and tracks how often such guesses were right by the length of the
 * match. Each new token shows whether the guess for it was right, even if it was not checked, so these statistics cost
 * nothing.
 */

/** Minimum tokens of a match. */
const LEAST = 3;
/** The longest match that is searched; longer ones count as this long. */
const LONG = 24;
/** Places that are compared, the latest first. */
const MOST_COMPARED = 16;

/** Size of the index: by the text's initial length, so that a short one costs little. */
const LEAST_PLACES = 1 << 10;
const MOST_PLACES = 1 << 16;

/** Lengths at which a class of matches begins, and the assumed success rate before anything is known. */
const CLASSES = [
  { from: LEAST, chance: 0.3 },
  { from: 4, chance: 0.45 },
  { from: 5, chance: 0.6 },
  { from: 7, chance: 0.75 },
  { from: 11, chance: 0.85 },
  { from: LONG, chance: 0.95 },
] as const;
/** The prior above has the weight of this many guesses. */
const PRIOR = 4;
/** The weight of earlier results decreases with each later guess of the class. */
const KEPT = 0.98;

/** The guessed tokens, in order. */
export interface Guess {
  readonly ids: readonly number[];
  /** For each id: the chance to be right if those before it are. */
  readonly chances: readonly number[];
}

const NOTHING: Guess = { ids: [], chances: [] };

export class Lookup {
  readonly #ids: readonly number[];
  /** Tokens of `#ids` that are in the index. */
  #known = 0;
  /** By hash of three tokens: the last place of the last one; -1: none. */
  readonly #last: Int32Array;
  /** By place: the previous place with the same hash. */
  #before: Int32Array;
  /** For the text's end: the place after its match, and the match's length. */
  #match: { at: number; length: number } | null = null;
  readonly #classes = CLASSES.map(({ chance }) => ({ right: PRIOR * chance, all: PRIOR }));

  /** ids: the text; it may grow. */
  constructor(ids: readonly number[]) {
    this.#ids = ids;
    let places = LEAST_PLACES;
    while (places < 2 * ids.length && places < MOST_PLACES) places *= 2;
    this.#last = new Int32Array(places).fill(-1);
    this.#before = new Int32Array(Math.max(64, 2 * ids.length));
    while (this.#known < ids.length) this.#add();
    this.#search();
  }

  /** At most `most` guesses for what follows the current end of the text. */
  next(most: number): Guess {
    this.#follow();
    if (!this.#match) return NOTHING;
    const { at, length } = this.#match;
    const ids: number[] = [];
    const chances: number[] = [];
    for (let i = 0; i < most; i++) {
      // A match may extend into itself: the text repeats.
      ids.push(this.#ids[at + i] ?? ids[at + i - this.#known]);
      chances.push(this.#chance(length + i));
    }
    return { ids, chances };
  }

  /** Adds new tokens to the index, and learns from them. */
  #follow(): void {
    while (this.#known < this.#ids.length) {
      const id = this.#ids[this.#known];
      if (this.#match) {
        const { at, length } = this.#match;
        const isRight = this.#ids[at] === id;
        this.#learn(length, isRight);
        this.#match = isRight ? { at: at + 1, length: length + 1 } : null;
      }
      this.#add();
      if (!this.#match || this.#match.length < LONG) this.#search();
    }
  }

  #add(): void {
    const at = this.#known++;
    if (at >= this.#before.length) {
      const longer = new Int32Array(2 * at);
      longer.set(this.#before);
      this.#before = longer;
    }
    if (at < LEAST - 1) return;
    const hash = this.#hash(at);
    this.#before[at] = this.#last[hash];
    this.#last[hash] = at;
  }

  /** Looks for a longer match of the text's end than the known one. */
  #search(): void {
    const end = this.#known - 1;
    if (end < LEAST - 1) return;
    let best = this.#match?.length ?? LEAST - 1;
    let place = this.#before[end];
    for (let i = 0; i < MOST_COMPARED && place >= 0; i++) {
      let length = 0;
      while (length < LONG && length <= place && this.#ids[place - length] === this.#ids[end - length])
        length++;
      if (length > best) {
        best = length;
        this.#match = { at: place + 1, length };
      }
      place = this.#before[place];
    }
  }

  /** The hash of the three tokens up to a place. */
  #hash(at: number): number {
    const [a, b, c] = [this.#ids[at], this.#ids[at - 1], this.#ids[at - 2]];
    const mixed = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b) ^ Math.imul(c, 0xc2b2ae35);
    return (mixed ^ (mixed >>> 15)) & (this.#last.length - 1);
  }

  #chance(length: number): number {
    const { right, all } = this.#classes[classOf(length)];
    return right / all;
  }

  #learn(length: number, isRight: boolean): void {
    const found = this.#classes[classOf(length)];
    found.right = found.right * KEPT + (isRight ? 1 : 0);
    found.all = found.all * KEPT + 1;
  }
}

function classOf(length: number): number {
  let index = CLASSES.length - 1;
  while (CLASSES[index].from > length) index--;
  return index;
}
