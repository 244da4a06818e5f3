/** Pages and what they are known for: which beginning is found, which page goes first, what is shared and what copied. */
import { describe, expect, it } from "vitest";
import { Beginnings } from "../../src/cache/beginnings.ts";
import { keyOf } from "../../src/cache/node.ts";
import { type PageCopy, TextPages } from "../../src/cache/text-pages.ts";

const ids = (count: number, seed = 1) =>
  Array.from({ length: count }, (_, i) => (i * seed * 7 + seed) % 1000);

function open(pages: readonly number[], windows: readonly (number | null)[] = [null]) {
  const all = new Beginnings(windows.map((window, id) => ({ id, window, pages: pages[id] })));
  const found = (of: readonly number[], most = of.length) =>
    all.longest(of, (block) => keyOf(of, block), most).tokens;
  /** A text that reads what is not known, in steps of 20, and is left running. */
  const read = (
    of: readonly number[],
    most = of.length,
  ): { text: TextPages; copies: PageCopy[]; known: number } => {
    const text = new TextPages(all);
    const copies = text.start(of, (block) => keyOf(of, block), most);
    text.copied();
    const known = text.tokens;
    for (let at = known; at < of.length; at = Math.min(of.length, at + 20)) {
      const end = Math.min(of.length, at + 20);
      text.grow(end, () => true);
      if (text.room < end) throw new Error("no page");
      text.wrote(of.slice(at, end));
      text.trim(end - 1);
    }
    return { text, copies, known };
  };
  const pool = (id = 0) => {
    const { free, idle, pool } = all.pools[id];
    return { free, idle, used: pool.pages - free - idle };
  };
  return { all, found, read, pool };
}

describe("a search after another one for the same ids", () => {
  it("finds what is there now: less after pages are gone, other blocks after a cut, and the same after all of it", () => {
    const { all, found, read } = open([4]);
    const a = ids(128);
    read(a).text.release();
    expect(found(a)).toBe(128);
    read(a).text.release();
    expect(found(a)).toBe(128);
    // Two pages of the end go to another text, then those of the beginning.
    const other = read(ids(64, 3));
    expect(found(a)).toBe(64);
    other.text.release();
    read(a).text.release();
    expect(found(a)).toBe(128);
    const b = [...a.slice(0, 104), ...ids(24, 5)];
    const { text, copies } = read(b);
    expect(copies).toEqual([]);
    text.release();
    expect([found(b), found(a)]).toEqual([128, 104]);
    read(a, 96).text.release();
    expect(found(a)).toBe(128);
    all.forget(all.root.children.get(keyOf(a, 0))!);
    expect(found(a)).toBe(0);
    read(a).text.release();
    expect(found(a)).toBe(128);
  });
});

describe("a beginning", () => {
  it("is found to the token, of texts that run and that ended", () => {
    const { found, read, pool } = open([20]);
    const { text } = read(ids(100));
    expect(found(ids(100))).toBe(100);
    expect(found([...ids(70), 5])).toBe(70);
    expect(found([...ids(64), 5])).toBe(64);
    expect(found(ids(100), 99)).toBe(99);
    expect(found([5, ...ids(99)])).toBe(0);
    expect(found(ids(100, 2))).toBe(0);
    text.release();
    expect(found([...ids(100), 7])).toBe(100);
    expect(pool()).toEqual({ free: 16, idle: 4, used: 0 });
  });

  it("tells ids apart that only look alike as text", () => {
    const { found, read } = open([20]);
    const pairs = (high: number) => Array.from({ length: 64 }, (_, i) => (i % 2 === 0 ? 65_536 * high : i));
    read(pairs(1)).text.release();
    expect(found(pairs(1))).toBe(64);
    expect(found(pairs(2))).toBe(0);
  });

  it("under a window needs only what a next token sees", () => {
    const { all, found, read, pool } = open([20, 5], [null, 40]);
    const { text } = read(ids(200));
    text.release();
    // Of the window the last pages are there: two whole ones, and the one of the text's last tokens.
    expect(found(ids(200))).toBe(200);
    expect(pool(1).idle).toBe(5);
    // Older ones go first, and what they would be needed for with them.
    const taken = [all.pools[1].take(), all.pools[1].take()];
    expect(found(ids(200))).toBe(200);
    expect(found(ids(140))).toBe(0);
    for (const page of taken) all.pools[1].release(page!);
    expect(all.pools[1].take()).not.toBeNull();
  });
});

describe("a page", () => {
  it("is shared where blocks are full, and copied where texts part", () => {
    const { read, pool } = open([20]);
    const first = read(ids(100));
    const second = read([...ids(70), 900, 901]);
    expect([second.known, second.copies.length]).toEqual([70, 1]);
    // Four of the first; of the second one of its own.
    expect(pool().used).toBe(5);
    first.text.release();
    expect(pool()).toEqual({ free: 15, idle: 2, used: 3 });
    second.text.release();
    expect(pool().used).toBe(0);
  });

  it("of a text that ended is taken as it is by one that goes on with it", () => {
    const { read, pool } = open([20]);
    read(ids(70)).text.release();
    const { copies, known } = read(ids(90));
    expect([known, copies]).toEqual([70, []]);
    expect(pool()).toEqual({ free: 17, idle: 0, used: 3 });
  });

  it("for a copy is taken from the source itself, if none is left and nobody uses it", () => {
    const { read, found } = open([3]);
    read(ids(90)).text.release();
    const { copies, known, text } = read([...ids(70), 900]);
    expect([known, copies]).toEqual([70, []]);
    text.release();
    expect(found([...ids(70), 900])).toBe(71);
    // What it held beyond is gone.
    expect(found(ids(90))).toBe(70);
  });

  it("that another uses is not taken: the text has less of its beginning then", () => {
    const { all, read } = open([4]);
    const busy = read(ids(96));
    const other = all.pools[0].take()!;
    const text = new TextPages(all);
    const prompt = [...ids(70), 900];
    expect(text.start(prompt, (block) => keyOf(prompt, block), 70)).toEqual([]);
    expect(text.tokens).toBe(64);
    all.pools[0].release(other);
    busy.text.release();
    text.release();
  });

  it("that holds what another holds already is given back for it", () => {
    const { read, pool } = open([20]);
    const [second, third] = [read(ids(20)), read([...ids(20), 5])];
    // Both go on alike, each with a page of its own until they are full.
    for (const { text } of [second, third]) text.grow(64, () => true);
    expect(pool().used).toBe(4);
    second.text.wrote([5, ...ids(11, 3)]);
    third.text.wrote(ids(11, 3));
    expect(pool().used).toBe(3);
    expect(second.text.last).toBe(third.text.last);
  });

  it("goes to another text when it is the one that nobody has used for longest; of one text the last ones first", () => {
    const { found, read } = open([8]);
    const [a, b] = [ids(96, 1), ids(96, 2)];
    read(a).text.release();
    read(b).text.release();
    expect([found(a), found(b)]).toEqual([96, 96]);
    read(a, 0).text.release();
    const { text } = read(ids(96, 3));
    expect([found(a), found(b)]).toEqual([96, 64]);
    read(ids(64, 4));
    expect([found(a), found(b)]).toEqual([96, 0]);
    text.release();
  });

  it("that two ended texts hold alike is kept once", () => {
    const { read, pool } = open([20]);
    const [first, second] = [read(ids(40)), read(ids(50))];
    expect(second.known).toBe(40);
    first.text.release();
    second.text.release();
    expect(pool()).toEqual({ free: 18, idle: 2, used: 0 });
  });
});
