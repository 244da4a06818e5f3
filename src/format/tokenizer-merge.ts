/**
 * Merges the characters of one word into vocabulary pieces: byte-pair encoding, by a list of merges (`MergeList`) or by
 * the score of the merged piece (`ScoreList`, SentencePiece). Among all neighbours that may merge, the lowest (rank,
 * position) goes first; both fit into one double, so the heap is a plain array of numbers and a word of n characters
 * takes n log n.
 */
import { atOnce, type Slices } from "./slices.ts";

/** Which neighbours may merge. A merge is a number from 0; `rank` orders merges, `piece` is the resulting id. */
export interface Joins {
  /** The merge of two neighbouring pieces (ids; -1: not in the vocabulary) that spell word[start, end), or -1. */
  find(left: number, right: number, word: string, start: number, end: number): number;
  rank(join: number): number;
  piece(join: number): number;
}

/** Ranks and word lengths share the 53 exact bits of a double. */
const POSITIONS = 2 ** 29;
/** Maximum merges, or tokens, of a vocabulary. */
export const MAX_RANKS = 2 ** 24;

/**
 * Random numbers by the value of each of the six bytes of a pair of ids: simple tabulation hashing. With a fixed hash a
 * file could choose merges that all collide; with this one linear probing takes constant time whatever the pairs
 * (Patrascu and Thorup, "The Power of Simple Tabulation Hashing", 2011). New in each process.
 */
const TABLES = Array.from({ length: 6 }, () => crypto.getRandomValues(new Int32Array(256)));

/** Merges as pairs of ids in an open-addressed table; the first of equal pairs counts. */
export class MergeList implements Joins {
  readonly #mask: number;
  /** Slot by slot: left id + 1 (0: free), right id, rank, joined id. */
  readonly #slots: Int32Array;

  /** Allocates slots for `count` merges at a load of at most one half. */
  constructor(count: number) {
    const slots = 2 ** Math.ceil(Math.log2(Math.max(count, 1) * 2));
    this.#mask = slots - 1;
    this.#slots = new Int32Array(slots * 4);
  }

  add(left: number, right: number, rank: number, joined: number): void {
    const slot = this.#slot(left, right);
    if (this.#slots[slot] !== 0) return;
    this.#slots[slot] = left + 1;
    this.#slots[slot + 1] = right;
    this.#slots[slot + 2] = rank;
    this.#slots[slot + 3] = joined;
  }

  /**
   * Adds a merge by its texts. One that involves a text of `others`, tokens that merging must not reach, is left out.
   * Returns the text that is in neither, or null if all are known.
   */
  addTexts(
    left: string,
    right: string,
    rank: number,
    pieces: ReadonlyMap<string, number>,
    others: { has(text: string): boolean },
  ): string | null {
    const leftId = pieces.get(left);
    const rightId = pieces.get(right);
    const joinedId = pieces.get(left + right);
    if (leftId !== undefined && rightId !== undefined && joinedId !== undefined) {
      this.add(leftId, rightId, rank, joinedId);
      return null;
    }
    return [left, right, left + right].find((text) => !pieces.has(text) && !others.has(text)) ?? null;
  }

  find(left: number, right: number): number {
    if (left < 0 || right < 0) return -1;
    const slot = this.#slot(left, right);
    return this.#slots[slot] === 0 ? -1 : slot;
  }

  rank(join: number): number {
    return this.#slots[join + 2];
  }

  piece(join: number): number {
    return this.#slots[join + 3];
  }

  #slot(left: number, right: number): number {
    const [a, b, c, d, e, f] = TABLES;
    let at = a[left & 255] ^ b[(left >> 8) & 255] ^ c[(left >> 16) & 255];
    at ^= d[right & 255] ^ e[(right >> 8) & 255] ^ f[(right >> 16) & 255];
    for (;;) {
      const slot = (at & this.#mask) * 4;
      const found = this.#slots[slot];
      if (found === 0 || (found === left + 1 && this.#slots[slot + 1] === right)) return slot;
      at++;
    }
  }
}

/** Any two neighbours may merge if they spell a piece; the highest score goes first. */
export class ScoreList implements Joins {
  readonly #pieces: ReadonlyMap<string, number>;
  readonly #ranks: Int32Array;

  /** `scores` by id. Equal scores get equal ranks, so that the position decides. */
  constructor(pieces: ReadonlyMap<string, number>, scores: ArrayLike<number>) {
    this.#pieces = pieces;
    this.#ranks = new Int32Array(scores.length);
    const ids = Int32Array.from(pieces.values()).sort((a, b) => scores[b] - scores[a]);
    let rank = -1;
    let last = Number.NaN;
    for (const id of ids) {
      if (scores[id] !== last) rank++;
      last = scores[id];
      this.#ranks[id] = rank;
    }
  }

  find(_left: number, _right: number, word: string, start: number, end: number): number {
    return this.#pieces.get(word.slice(start, end)) ?? -1;
  }

  rank(join: number): number {
    return this.#ranks[join];
  }

  piece(join: number): number {
    return join;
  }
}

/** Symbols of the longest word that is merged without a pause, in a work space that all such words share. */
const SHORT = 8192;
/** Merges of a longer word between two pauses. */
const SLICE = 2048;

/** The work space: for each symbol its start in the word, its neighbours, its id, its merge with the next one. */
interface Space {
  readonly start: Int32Array;
  readonly previous: Int32Array;
  readonly next: Int32Array;
  readonly piece: Int32Array;
  readonly join: Int32Array;
  /**
   * rank * POSITIONS + symbol, smallest first. An entry is stale if its rank is not that of the symbol's merge. Each
   * symbol enters once at the start, and each merge adds at most two entries.
   */
  heap: Float64Array;
  entries: number;
}

/** There is a pause between two columns: for a long word each takes milliseconds. */
function* space(symbols: number): Slices<Space> {
  const columns: Int32Array[] = [];
  for (let column = 0; column < 5; column++) {
    columns.push(new Int32Array(symbols));
    yield;
  }
  const [start, previous, next, piece, join] = columns;
  return { start, previous, next, piece, join, heap: new Float64Array(symbols), entries: 0 };
}

/** Receives the results of `merge`: a piece, or a character [start, end) of the word that is not one. */
export interface IdSink {
  piece(id: number): void;
  unknown(word: string, start: number, end: number): void;
}

export class Merger {
  readonly #joins: Joins;
  readonly #idOf: (character: string) => number | undefined;
  readonly #shared = atOnce(space(SHORT));

  /** `idOf` gives the id of a single character (code point), or undefined. */
  constructor(joins: Joins, idOf: (character: string) => number | undefined) {
    this.#joins = joins;
    this.#idOf = idOf;
  }

  /** `slices` without a pause. */
  merge(word: string, sink: IdSink): void {
    atOnce(this.slices(word, sink));
  }

  /** Merges the characters of `word` until no neighbours may merge, and passes the pieces to `sink` in order. */
  *slices(word: string, sink: IdSink): Slices<void> {
    const isLong = word.length > SHORT;
    const work = isLong ? yield* space(word.length) : this.#shared;
    let symbols = 0;
    for (let at = 0; at < word.length; symbols++) {
      at = this.#open(work, word, at, symbols);
      if (isLong && symbols % SLICE === 0) yield;
    }
    if (symbols > 0) work.next[symbols - 1] = -1;
    if (symbols >= POSITIONS) throw new RangeError(`a word of ${symbols} characters`);
    work.entries = 0;
    for (let at = 0; at + 1 < symbols; at++) {
      this.#consider(work, word, at);
      if (isLong && at % SLICE === 0) yield;
    }
    for (let joins = 0; work.entries > 0; joins++) {
      this.#joinBest(work, word);
      if (isLong && joins % SLICE === 0) yield;
    }
    let pieces = 0;
    for (let at = 0; at >= 0 && at < symbols; at = work.next[at]) {
      if (isLong && pieces++ % SLICE === 0) yield;
      if (work.piece[at] >= 0) sink.piece(work.piece[at]);
      else sink.unknown(word, work.start[at], endOf(work, word, at));
    }
  }

  /** Adds a symbol for the character at `at`. Returns the start of the next one. */
  #open(work: Space, word: string, at: number, symbol: number): number {
    const wide = word.codePointAt(at)! > 0xffff;
    const character = wide ? word.slice(at, at + 2) : word[at];
    work.start[symbol] = at;
    work.previous[symbol] = symbol - 1;
    work.next[symbol] = symbol + 1;
    work.piece[symbol] = this.#idOf(character) ?? -1;
    work.join[symbol] = -1;
    return at + (wide ? 2 : 1);
  }

  #joinBest(work: Space, word: string): void {
    const entry = pop(work);
    const at = entry % POSITIONS;
    const join = work.join[at];
    if (join < 0 || this.#joins.rank(join) !== (entry - at) / POSITIONS) return;
    const gone = work.next[at];
    const after = work.next[gone];
    work.piece[at] = this.#joins.piece(join);
    work.next[at] = after;
    work.join[gone] = -1;
    if (after >= 0) work.previous[after] = at;
    this.#consider(work, word, at);
    if (work.previous[at] >= 0) this.#consider(work, word, work.previous[at]);
  }

  /** Looks up the merge of a symbol with its neighbour to the right. */
  #consider(work: Space, word: string, at: number): void {
    const right = work.next[at];
    if (right < 0) {
      work.join[at] = -1;
      return;
    }
    const end = endOf(work, word, right);
    const join = this.#joins.find(work.piece[at], work.piece[right], word, work.start[at], end);
    work.join[at] = join;
    if (join >= 0) push(work, this.#joins.rank(join) * POSITIONS + at);
  }
}

function push(work: Space, entry: number): void {
  if (work.entries === work.heap.length) {
    const larger = new Float64Array(work.heap.length * 2);
    larger.set(work.heap);
    work.heap = larger;
  }
  const { heap } = work;
  let at = work.entries++;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (heap[parent] <= entry) break;
    heap[at] = heap[parent];
    at = parent;
  }
  heap[at] = entry;
}

function pop(work: Space): number {
  const { heap } = work;
  const best = heap[0];
  const count = --work.entries;
  const entry = heap[count];
  let at = 0;
  for (;;) {
    let child = at * 2 + 1;
    if (child >= count) break;
    if (child + 1 < count && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= entry) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = entry;
  return best;
}

function endOf(work: Space, word: string, at: number): number {
  return work.next[at] < 0 ? word.length : work.start[work.next[at]];
}
