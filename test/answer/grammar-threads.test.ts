/** One client's grammar never ends the texts of others, nor makes them wait for long, nor takes much memory. */
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Grammar, OpenGrammar } from "../../src/answer/grammar/grammar.ts";
import { Grammars } from "../../src/answer/grammar/grammars.ts";
import { Keeper } from "../../src/answer/grammar/keeper.ts";
import type { ThreadLimits } from "../../src/answer/grammar/threads.ts";
import { allowedIds, bytesOf, END, schemaGrammar, tokenizer, VOCAB } from "./grammars.ts";

const made: Grammars[] = [];
afterEach(() => {
  for (const grammars of made.splice(0)) grammars.close();
});

function open(limits: Partial<ThreadLimits>) {
  const grammars = new Grammars(tokenizer, VOCAB, limits);
  made.push(grammars);
  return grammars;
}

const LARGE = { bytes: 1e6, states: 1e6, wide: 1e6 };
/** Compiles for a second or two for each 10,000 classes. */
const slow = (classes: number, name = ""): Grammar => ({
  text: `root ::= "${name}" ${"[^a] ".repeat(classes)}`,
});
const large = (name: string): Grammar => ({ text: `root ::= "${name}"`, weight: LARGE });
const text = '{"name":"Ann","age":37}';
const ordinary = (more: object): Grammar => ({
  text: schemaGrammar(
    {
      type: "object",
      properties: { name: { type: "string" }, age: { type: "integer" }, ...more },
      required: ["name", "age"],
    },
    "s",
    true,
  ),
});

/** Writes the text byte by byte; between two of them others get a turn. */
async function write(grammar: OpenGrammar, from = 0, to = text.length): Promise<void> {
  for (const byte of bytesOf(text).slice(from, to)) {
    expect(await allowedIds(grammar)).toContain(byte + 2);
    await grammar.accept(byte + 2);
    await new Promise(setImmediate);
  }
  if (to === text.length) expect(await allowedIds(grammar)).toContain(END);
}

describe("two clients with ordinary schemas, and a third", () => {
  it("whose large grammar takes too long: only the third hears of it", async () => {
    const grammars = open({ ownMs: 1000, bytes: 2 ** 30 });
    const [a, b] = await Promise.all([{}, { more: {} }].map((more) => grammars.open(ordinary(more))));
    const third = grammars.open({ ...slow(100_000), weight: LARGE });
    const refused = expect(third).rejects.toThrow("the schema cannot be kept: it took longer than 1 seconds");
    await Promise.all([write(a), write(b)]);
    await refused;
    a.close();
    b.close();
  });

  it("whose grammar was taken for small: they go on in another thread, and wait for its time limit at most", async () => {
    const grammars = open({ sharedMs: 1000, ownMs: 1200, bytes: 2 ** 30 });
    const [a, b] = await Promise.all([{}, { more: {} }].map((more) => grammars.open(ordinary(more))));
    await Promise.all([write(a, 0, 8), write(b, 0, 3)]);
    const third = grammars.open(slow(100_000));
    const refused = expect(third).rejects.toThrow("it took longer than 1.2 seconds");
    const fourth = grammars.open(ordinary({ other: {} }));
    await Promise.all([write(a, 8), write(b, 3), fourth.then((grammar) => write(grammar))]);
    await refused;
    // It is known by now.
    const asked = vi.spyOn(Keeper.prototype, "ask");
    await expect(grammars.open(slow(100_000))).rejects.toThrow("it took longer than 1.2 seconds");
    expect(asked).not.toHaveBeenCalled();
    asked.mockRestore();
    a.close();
    b.close();
  });

  it("whose grammar the library aborts on: they go on", async () => {
    const grammars = open({});
    const a = await grammars.open(ordinary({}));
    await write(a, 0, 5);
    const [third, fourth] = await Promise.allSettled([
      grammars.open({ text: "root ::= (" }),
      grammars.open(ordinary({ more: {} })),
    ]);
    expect(third).toMatchObject({ reason: { code: "argument", message: /cannot be kept: EBNF/ } });
    await write(a, 5);
    await write((fourth as PromiseFulfilledResult<OpenGrammar>).value);
  });

  it("whose grammar needs much memory: it is told so", async () => {
    const grammars = open({ bytes: 4 * 2 ** 20 });
    const a = await grammars.open(ordinary({}));
    const third = grammars.open({ ...slow(20_000), weight: LARGE });
    await expect(third).rejects.toThrow("the schema cannot be kept: it needs more than 4 MiB");
    await write(a);
  });
});

describe("a thread of its own", () => {
  it("is waited for by a few, in order; who leaves makes room", async () => {
    const grammars = open({ mostOwn: 1, mostWaiting: 2 });
    const first = await grammars.open(large("a"));
    const again = await grammars.open(large("a"));
    const leaving = new AbortController();
    const second = grammars.open(large("b"), leaving.signal);
    const third = grammars.open(large("c"));
    expect(grammars.opening).toBe(2);
    await expect(grammars.open(large("d"))).rejects.toMatchObject({
      code: "busy",
      message: "2 large grammars are waiting already; try again later",
      retrySeconds: 5,
    });
    // Ordinary ones are not concerned.
    await write(await grammars.open(ordinary({})));
    leaving.abort();
    await expect(second).rejects.toMatchObject({ code: "aborted" });
    first.close();
    expect(grammars.opening).toBe(1);
    again.close();
    expect(await allowedIds(await third)).toEqual([bytesOf("c")[0] + 2]);
    expect(grammars.opening).toBe(0);
  });

  it("is waited for no longer than a bound, which names what it waited for", async () => {
    const grammars = open({ mostOwn: 1, waitMs: 30 });
    const first = await grammars.open(large("a"));
    await expect(grammars.open(large("b"))).rejects.toMatchObject({
      code: "busy",
      message: "the answers that hold the 1 places for large grammars took 0.03 s; try again later",
      retrySeconds: 5,
    });
    expect(grammars.opening).toBe(0);
    // Its place in the queue is gone, too.
    first.close();
    expect(await allowedIds(await grammars.open(large("c")))).toEqual([bytesOf("c")[0] + 2]);
  });

  it("is what a text moves to whose grammar is found slow, with all that it has said", async () => {
    const grammars = open({ slowMs: 0, mostOwn: 1 });
    const [a, b] = await Promise.all([{}, { more: {} }].map((more) => grammars.open(ordinary(more))));
    await write(a, 0, 9);
    // There is no place for this one; it stays where it is.
    await write(b);
    await write(a, 9);
    a.close();
    b.close();
  });

  it("is given up when its client leaves while it compiles", async () => {
    const grammars = open({ mostOwn: 1, bytes: 2 ** 30 });
    const leaving = new AbortController();
    const first = grammars.open({ ...slow(100_000), weight: LARGE }, leaving.signal);
    setTimeout(() => leaving.abort(), 300);
    await expect(first).rejects.toMatchObject({ code: "aborted" });
    await grammars.open(large("b"));
  });

  it("ends when nothing uses it, as the shared one does, and begins again", async () => {
    const grammars = open({ sharedIdleMs: 0, ownIdleMs: 0 });
    for (let i = 0; i < 2; i++) {
      const [a, b] = [await grammars.open(ordinary({})), await grammars.open(large("b"))];
      await write(a);
      a.close();
      b.close();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });
});

it("a text that is closed while it waits hears of it at once", async () => {
  const grammars = open({});
  const a = await grammars.open(ordinary({}));
  await write(a, 0, 4);
  await a.accept(bytesOf("m")[0] + 2);
  const next = a.allowed();
  a.close();
  await expect(next).rejects.toMatchObject({ code: "aborted" });
});

it("a text that is closed just after a token does not end its thread", async () => {
  // A grammar that was under way when its thread ended would need one of its own.
  const grammars = open({ mostOwn: 0, mostWaiting: 0 });
  for (let turns = 0; turns < 8; turns++) {
    const a = await grammars.open(ordinary({}));
    await a.accept(bytesOf("{")[0] + 2);
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    a.close();
  }
  (await grammars.open(ordinary({}))).close();
});

it("a server that closes ends all threads", async () => {
  const grammars = open({});
  const a = await grammars.open(ordinary({}));
  grammars.close();
  await a.accept(bytesOf("{")[0] + 2);
  await expect(a.allowed()).rejects.toMatchObject({ code: "aborted" });
  await expect(grammars.open(ordinary({}))).rejects.toMatchObject({ code: "aborted" });
});

it("grammars that come and go leave nothing in their thread's memory", async () => {
  // The long token leaves little of the library's first 16 MiB: with what each used to leave, the 120th needed more.
  const bytes = new Uint8Array(2_500_001).fill("x".charCodeAt(0), 0, 1);
  const starts = Uint32Array.of(0, 0, 1, bytes.length);
  const keeper = new Keeper({ bytes, starts, endIds: [0], vocab: 3 }, { ms: 10_000, bytes: 2 ** 18 });
  try {
    for (let i = 0; i < 150; i++) {
      const words = Array.from({ length: 100 }, (_, k) => `"${"x".repeat(20)}${i}-${k}"`);
      const matcher = keeper.open();
      const grammar = { text: `root ::= ${words.join(" ")}` };
      const { mask } = await keeper.ask({ kind: "start", matcher, grammar, ids: [] });
      expect(mask).toEqual(Int32Array.of(2));
      keeper.close(matcher);
    }
  } finally {
    keeper.end("done");
  }
}, 30_000);
