/**
 * Joins the characters of one word into vocabulary pieces: byte-pair encoding, by a list of merges (`MergeList`) or
 * by the score of the joined piece (`ScoreList`, SentencePiece). Refuses to know how text is cut into words and what
 * a piece spells. The one idea: among all neighbours that may join, the lowest (rank, position) joins first; both
 * fit into one double, so the heap is a plain array of numbers and a word of n characters costs n log n.
 */
/** Which neighbours may join. A join is a number from 0; `rank` orders joins, `piece` is the id that comes out. */
export interface Joins {
  /** The join of two neighbouring pieces (ids; -1: not in the vocabulary) that spell word[start, end), or -1. */
  find(left: number, right: number, word: string, start: number, end: number): number;
  rank(join: number): number;
  piece(join: number): number;
}

/** Ranks and word lengths share the 53 exact bits of a double. */
const POSITIONS = 2 ** 29;
/** Merges, or tokens, that a vocabulary may have. */
export const MAX_RANKS = 2 ** 24;

/**
 * Random numbers by the value of each of the six bytes of a pair of ids: simple tabulation hashing. With a fixed hash a
 * file can choose its merges so that they all collide; with this one linear probing takes constant time whatever the
 * pairs (Patrascu and Thorup, "The Power of Simple Tabulation Hashing", 2011). New in each process.
 */
const TABLES = Array.from({ length: 6 }, () => crypto.getRandomValues(new Int32Array(256)));

/** Merges as pairs of ids in an open-addressed table; the first of equal pairs counts. */
export class MergeList implements Joins {
  readonly #mask: number;
  /** Slot by slot: left id + 1 (0: free), right id, rank, joined id. */
  readonly #slots: Int32Array;

  /** Room for `count` merges at a load of at most one half. */
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
   * Adds a merge by its texts. One that involves a text of `others`, tokens that joining must not reach, is left
   * out. Returns the text that is in neither, or null when all is well.
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

/** Any two neighbours may join when what they spell is a piece; the highest score joins first. */
export class ScoreList implements Joins {
  readonly #pieces: ReadonlyMap<string, number>;
  readonly #ranks: Int32Array;

  /** `scores` by id. Equal scores get equal ranks, so that position decides between them. */
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

/** Symbols of the longest word whose work space is kept for the next one. */
const KEPT = 65536;

/** The work space: by symbol, where it starts in the word, its neighbours, its id, its join with the next one. */
interface Space {
  readonly start: Int32Array;
  readonly previous: Int32Array;
  readonly next: Int32Array;
  readonly piece: Int32Array;
  readonly join: Int32Array;
  /** rank * POSITIONS + symbol, smallest first. An entry is stale when its rank is not that of the symbol's join. */
  readonly heap: Float64Array;
}

function space(symbols: number): Space {
  const column = () => new Int32Array(symbols);
  // Each symbol enters once at the start, and each of the fewer than `symbols` joins adds at most two entries.
  const heap = new Float64Array(symbols * 3);
  return { start: column(), previous: column(), next: column(), piece: column(), join: column(), heap };
}

/** Where `merge` puts what it finds: a piece, or a character [start, end) of the word that is none. */
export interface Sink {
  piece(id: number): void;
  unknown(word: string, start: number, end: number): void;
}

export class Merger {
  readonly #joins: Joins;
  readonly #idOf: (character: string) => number | undefined;
  #space = space(1024);
  #entries = 0;

  /** `idOf` gives the id of a single character (code point), or undefined. */
  constructor(joins: Joins, idOf: (character: string) => number | undefined) {
    this.#joins = joins;
    this.#idOf = idOf;
  }

  /** Joins the characters of `word` until no neighbours may join, and hands the pieces to `sink` in order. */
  merge(word: string, sink: Sink): void {
    const work = word.length > this.#space.start.length ? space(word.length) : this.#space;
    if (word.length <= KEPT) this.#space = work;
    const symbols = this.#open(work, word);
    if (symbols >= POSITIONS) throw new RangeError(`a word of ${symbols} characters`);
    this.#entries = 0;
    for (let at = 0; at + 1 < symbols; at++) this.#consider(work, word, at);
    while (this.#entries > 0) this.#joinBest(work, word);
    for (let at = 0; at >= 0 && at < symbols; at = work.next[at]) {
      if (work.piece[at] >= 0) sink.piece(work.piece[at]);
      else sink.unknown(word, work.start[at], endOf(work, word, at));
    }
  }

  /** One symbol a character. Returns how many. */
  #open(work: Space, word: string): number {
    let count = 0;
    for (let at = 0; at < word.length; count++) {
      const wide = word.codePointAt(at)! > 0xffff;
      const character = wide ? word.slice(at, at + 2) : word[at];
      work.start[count] = at;
      work.previous[count] = count - 1;
      work.next[count] = count + 1;
      work.piece[count] = this.#idOf(character) ?? -1;
      work.join[count] = -1;
      at += wide ? 2 : 1;
    }
    if (count > 0) work.next[count - 1] = -1;
    return count;
  }

  #joinBest(work: Space, word: string): void {
    const entry = this.#pop(work.heap);
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

  /** Looks up the join of a symbol with its neighbour to the right. */
  #consider(work: Space, word: string, at: number): void {
    const right = work.next[at];
    if (right < 0) {
      work.join[at] = -1;
      return;
    }
    const end = endOf(work, word, right);
    const join = this.#joins.find(work.piece[at], work.piece[right], word, work.start[at], end);
    work.join[at] = join;
    if (join >= 0) this.#push(work.heap, this.#joins.rank(join) * POSITIONS + at);
  }

  #push(heap: Float64Array, entry: number): void {
    let at = this.#entries++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent] <= entry) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(heap: Float64Array): number {
    const best = heap[0];
    const count = --this.#entries;
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
}

function endOf(work: Space, word: string, at: number): number {
  return work.next[at] < 0 ? word.length : work.start[work.next[at]];
}
