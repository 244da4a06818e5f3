/** Several sessions on one device: the order of their steps, what they borrow from each other, and who gets which. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type GenerateOptions, Generation, generateTokens } from "../../src/engine/generate.ts";
import { SessionPool } from "../../src/engine/session-pool.ts";
import { AbortedError } from "../../src/format/errors.ts";
import { piecesTokenizer, type ScriptOptions, scriptedSession } from "./scripted.ts";

const VOCAB = 100;
const tokenizer = piecesTokenizer(Array.from({ length: VOCAB - 1 }, (_, i) => `${i} `));
/** What timeline `t` says at a position. */
const said = (position: number, timeline: number) => 1 + ((position * 7 + timeline * 13) % (VOCAB - 1));
const ids = (count: number, seed: number) =>
  Array.from({ length: count }, (_, i) => 1 + ((i * (seed + 3) + seed) % (VOCAB - 1)));

function open(options: Partial<ScriptOptions> = {}) {
  const made = scriptedSession(said, { vocab: VOCAB, timelines: 2, ...options });
  const pool = new SessionPool(made.sessions);
  /** As LanguageModel.generate. */
  const generate = (prompt: number[], generation: GenerateOptions = {}) =>
    new Generation(
      (async function* () {
        const session = await pool.take(prompt, generation.signal);
        try {
          return yield* generateTokens(session, tokenizer, prompt, generation);
        } finally {
          pool.giveBack(session);
        }
      })(),
    );
  return { ...made, pool, generate };
}

/** The ids that timeline `t` gives after a prompt. */
const wanted = (prompt: number, count: number, timeline: number) =>
  Array.from({ length: count }, (_, i) => said(prompt + i, timeline));

describe("steps of several sessions", () => {
  it("take turns token by token", async () => {
    const { generate, steps } = open({ timelines: 3 });
    const all = [0, 1, 2].map((t) => generate(ids(5 + t, t), { maxTokens: 20 }).result());
    const results = await Promise.all(all);
    results.forEach(({ ids }, t) => {
      expect(ids).toEqual(wanted(5 + t, 20, t));
    });
    // Each prompt, then each token, of the three in turn.
    expect(steps.map(({ timeline }) => timeline)).toEqual(Array.from({ length: 60 }, (_, i) => i % 3));
  });

  it("a constraint that takes long does not hold the device, and costs no step", async () => {
    const { generate, steps } = open();
    const ALL = new Int32Array(Math.ceil(VOCAB / 32)).fill(-1);
    let release = () => {};
    const constraint = {
      allowed: () => new Promise<Int32Array>((resolve) => (release = () => resolve(ALL))),
      accept() {},
    };
    const slow = generate(ids(4, 0), { maxTokens: 3, constraint }).result();
    // Each time that it waits, another reads a prompt and says 20 tokens.
    for (let i = 0; i < 3; i++) {
      const plain = await generate(ids(5, 1), { maxTokens: 20 }).result();
      expect(plain.ids).toEqual(wanted(5, 20, 1));
      release();
    }
    expect((await slow).ids).toEqual(wanted(4, 3, 0));
    const own = steps.filter(({ timeline }) => timeline === 0);
    // The prompt, again before its first token, as the other had the device then, and two tokens.
    expect(own.map(({ ids }) => ids.length)).toEqual([4, 1, 1, 1]);
  });

  it("a constraint alone is asked while the device works", async () => {
    const { generate, steps } = open({ timelines: 1 });
    const ALL = new Int32Array(Math.ceil(VOCAB / 32)).fill(-1);
    const asked: number[] = [];
    const constraint = {
      async allowed() {
        asked.push(steps.length);
        await new Promise(setImmediate);
        await new Promise(setImmediate);
        return ALL;
      },
      accept() {},
    };
    const { ids: said } = await generate(ids(4, 0), { maxTokens: 3, constraint }).result();
    expect(said).toEqual(wanted(4, 3, 0));
    // Before the step of the token that came, and no step comes twice.
    expect(asked).toEqual([0, 1, 2, 3]);
    expect(steps.map(({ ids }) => ids.length)).toEqual([4, 1, 1]);
  });

  it("a long prompt holds another's tokens up by no more than a chunk", async () => {
    const { generate, steps } = open({ chunk: 8 });
    const first = generate(ids(4, 1), { maxTokens: 30 })[Symbol.asyncIterator]();
    await first.next();
    const long = generate(ids(80, 2), { maxTokens: 2 }).result();
    for (let i = 0; i < 12; i++) await first.next();
    expect((await long).ids).toEqual(wanted(80, 2, 1));
    const chunks = steps.flatMap(({ timeline, ids }, i) => (timeline === 1 && ids.length > 1 ? [i] : []));
    expect(chunks).toHaveLength(10);
    for (let i = 1; i < chunks.length; i++) expect(chunks[i] - chunks[i - 1]).toBe(2);
  });

  it.each([
    { temperature: 0 },
    { temperature: 1.2, seed: 5 },
    { temperature: 1, seed: 3, repeatPenalty: 1.2 },
  ])("run ahead only while they are alone, and say the same: %j", async (sampling) => {
    const flat = (position: number, timeline: number) =>
      Float32Array.from(
        { length: VOCAB },
        (_, i) => Math.sin(i * (position + 1) + timeline) - (i === 0 ? 99 : 0),
      );
    const made = (ahead: boolean, timelines: number) =>
      scriptedSession(flat, { vocab: VOCAB, ahead, timelines });
    const run = async (ahead: boolean) => {
      const { sessions, asked } = made(ahead, 2);
      const pool = new SessionPool(sessions);
      const generation = async function* (prompt: number[], maxTokens: number) {
        const session = await pool.take(prompt);
        try {
          return yield* generateTokens(session, tokenizer, prompt, { ...sampling, maxTokens });
        } finally {
          pool.giveBack(session);
        }
      };
      const first = new Generation(generation(ids(3, 1), 40));
      const pieces = first[Symbol.asyncIterator]();
      for (let i = 0; i < 5; i++) await pieces.next();
      const alone = asked.filter((what) => what === "continue").length;
      const second = await new Generation(generation(ids(9, 2), 10)).result();
      const between = asked.filter((what) => what === "continue").length;
      const { ids: rest } = await first.result();
      return {
        first: rest,
        second: second.ids,
        continued: [alone, between, asked.filter((w) => w === "continue").length],
      };
    };
    const byHost = await run(false);
    const byDevice = await run(true);
    expect([byDevice.first, byDevice.second]).toEqual([byHost.first, byHost.second]);
    if (sampling.repeatPenalty !== undefined) return expect(byDevice.continued).toEqual([0, 0, 0]);
    // Alone one continuation serves all; beside another each token has its own; alone again one does.
    expect(byDevice.continued[0]).toBe(1);
    expect(byDevice.continued[1]).toBe(11);
    expect(byDevice.continued[2]).toBe(12);
  });

  it("go on when one fails or is left, and a step never meets another", async () => {
    const { generate } = open({ timelines: 3 });
    const left = generate(ids(4, 1));
    const aborted = new AbortController();
    const stopped = generate(ids(40, 2), {
      signal: aborted.signal,
      onPrompt: (n) => n >= 16 && aborted.abort(),
    });
    const whole = generate(ids(6, 3), { maxTokens: 25 }).result();
    const failed = stopped.result().catch((error: unknown) => error);
    let count = 0;
    for await (const _ of left) if (++count === 5) break;
    expect(await failed).toBeInstanceOf(AbortedError);
    expect((await whole).ids).toEqual(wanted(6, 25, 0));
    expect((await generate(ids(4, 1), { maxTokens: 2 }).result()).reusedTokens).toBe(3);
  });
});

type Client = typeof client extends fc.Arbitrary<infer T> ? T : never;

/** What a client does: how long its prompt is and what it begins with, how much it wants, when and how it goes away. */
const client = fc.record({
  tokens: fc.integer({ min: 1, max: 150 }),
  text: fc.integer({ min: 1, max: 3 }),
  wanted: fc.integer({ min: 1, max: 12 }),
  leaves: fc.option(fc.record({ after: fc.nat(8), how: fc.constantFrom("abort", "break") }), { freq: 2 }),
  pauses: fc.nat(3),
  arrives: fc.nat(20),
});

describe("clients that come and go as they like", () => {
  it.each([false, true])("each get their own text, and leave nothing behind; ahead: %s", async (ahead) => {
    const turns = async (count: number) => {
      for (let i = 0; i < count; i++) await new Promise(setImmediate);
    };
    const property = fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.array(client, { minLength: 1, maxLength: 8 }),
      async (timelines, clients) => {
        // Of whichever session: what comes next depends on the position alone.
        const next = (position: number) => said(position, 0);
        const { sessions } = scriptedSession(next, { vocab: VOCAB, timelines, ahead, chunk: 32 });
        const pool = new SessionPool(sessions);
        const run = async ({ tokens, text, wanted: maxTokens, leaves, pauses, arrives }: Client) => {
          await turns(arrives);
          const prompt = ids(tokens, text);
          const controller = new AbortController();
          const { signal } = controller;
          const session = await pool.take(prompt, signal);
          const found: number[] = [];
          try {
            const pieces = generateTokens(session, tokenizer, prompt, { maxTokens, signal, seed: 1 });
            for await (const piece of pieces) {
              found.push(...piece.ids);
              expect(session.ids.slice(0, tokens)).toEqual(prompt);
              if (found.length > (leaves?.after ?? maxTokens)) {
                if (leaves?.how === "break") break;
                controller.abort();
              }
              await turns(pauses);
            }
          } catch (error) {
            expect(error).toBeInstanceOf(AbortedError);
            expect(leaves?.how).toBe("abort");
          } finally {
            pool.giveBack(session);
          }
          expect(found).toEqual(wanted(tokens, maxTokens, 0).slice(0, found.length));
          if (!leaves) expect(found).toHaveLength(maxTokens);
        };
        await Promise.all(clients.map(run));
        expect(pool.activity).toEqual({ running: 0, waiting: 0 });
        expect(sessions[0].share.turns.users).toBe(0);
        // Nobody kept the device.
        for (const session of sessions) await session.sync([1, 2, 3]);
      },
    );
    await fc.assert(property, { numRuns: 60 });
  });
});

describe("a prefix that another session holds", () => {
  it("is copied, not read, if it is long enough", async () => {
    const { generate, steps, copies } = open();
    const common = ids(70, 1);
    await generate([...common, 5], { maxTokens: 1 }).result();
    const before = steps.length;
    const busy = generate([...common, 5])[Symbol.asyncIterator]();
    await busy.next();
    const second = await generate([...common, 6, 7, 8], { maxTokens: 3 }).result();
    expect(second.reusedTokens).toBe(70);
    expect(copies).toEqual([{ from: 0, to: 1, tokens: 70 }]);
    expect(steps[before + 1]).toMatchObject({ position: 70, timeline: 1 });
    expect(second.ids).toEqual(wanted(73, 3, 1));
    await busy.return();

    const short = open();
    await short.generate([...ids(60, 1), 5], { maxTokens: 9 }).result();
    const result = await short.generate([...ids(60, 1), 6, 7, 8], { maxTokens: 1 }).result();
    expect([result.reusedTokens, short.copies.length]).toEqual([60, 0]);
  });

  it("is read once by those who come together", async () => {
    const { generate, steps, copies } = open({ timelines: 4, chunk: 64 });
    const common = ids(640, 1);
    const prompts = [11, 12, 13, 14].map((last) => [...common, last]);
    const results = await Promise.all(prompts.map((prompt) => generate(prompt, { maxTokens: 4 }).result()));
    results.forEach(({ ids }, t) => {
      expect(ids).toEqual(wanted(641, 4, t));
    });
    const read = steps.reduce((sum, { ids }) => sum + (ids.length > 1 ? ids.length : 0), 0);
    expect(read).toBeLessThan(1.5 * 640);
    expect(copies.length).toBeGreaterThan(3);
    const reused = results.reduce((sum, { reusedTokens }) => sum + reusedTokens, 0);
    expect(reused).toBe(4 * 641 - steps.reduce((sum, { ids }) => sum + ids.length, 0) + 4 * 3);
  });

  it("is not taken of a ring that has lost it", async () => {
    const { sessions, copies } = open({ caches: [{ window: 32, capacity: 96 }] });
    await sessions[0].process(ids(300, 1));
    sessions[0].rest();
    expect(await sessions[1].process([...ids(100, 1), 5])).toBe(0);
    sessions[1].rest();
    expect(copies).toEqual([]);
    // Of what it still holds it is, and the copy knows what the ring has lost.
    expect(await sessions[1].process([...ids(280, 1), 5])).toBe(280);
    sessions[1].rest();
    expect(copies).toEqual([{ from: 0, to: 1, tokens: 280 }]);
    expect(await sessions[1].process([...ids(150, 1), 5])).toBe(0);
  });
});

describe("a generation gets", () => {
  const open4 = async (held: number[][]) => {
    const { sessions } = scriptedSession(said, { vocab: VOCAB, timelines: 4 });
    const pool = new SessionPool(sessions);
    // Used in their order.
    for (const ids of held) {
      const session = await pool.take(ids);
      await session.process(ids);
      session.rest();
      pool.giveBack(session);
    }
    expect(sessions.map(({ ids }) => ids.length)).toEqual(
      Array.from({ length: 4 }, (_, i) => held[i]?.length ?? 0),
    );
    return pool;
  };
  const timeline = async (held: number[][], prompt: number[]) =>
    (await (await open4(held)).take(prompt)).timeline;

  const [a, b, c, d] = [1, 2, 3, 4].map((seed) => ids(400, seed));

  it("the session whose text it continues", async () => {
    expect(await timeline([a, b, c, d], [...b, 1, 2])).toBe(1);
    expect(await timeline([a, b], [...a, 1])).toBe(0);
  });

  it("an empty one, rather than one that would lose what it holds", async () => {
    expect(await timeline([a, b], [...b.slice(0, 300), 1, 1])).toBe(2);
    expect(await timeline([a, b], ids(10, 9))).toBe(2);
    expect(await timeline([ids(20, 1), b], [...ids(3, 1), 9, 9])).toBe(2);
  });

  it("one that keeps most of its text, or else the one that nobody used for longest", async () => {
    expect(await timeline([a, b, c, d], [...c.slice(0, 300), 1, 1])).toBe(2);
    expect(await timeline([a, b, c, d], [...c.slice(0, 150), 1, 1])).toBe(0);
    expect(await timeline([a, b, c, d], ids(10, 9))).toBe(0);
  });

  it("of those that are idle; a queue is left in its order", async () => {
    const pool = await open4([a, b, c, d]);
    const taken = [await pool.take([...b, 1]), await pool.take([...b, 2])];
    expect(taken.map((session) => session.timeline)).toEqual([1, 0]);
    const others = [await pool.take(ids(3, 8)), await pool.take(ids(3, 9))];
    expect(others.map((session) => session.timeline)).toEqual([2, 3]);
    const order: string[] = [];
    const waiting = ["x", "y"].map((name) =>
      pool.take([...a, 1]).then((session) => {
        order.push(name);
        return session;
      }),
    );
    expect(pool.activity).toEqual({ running: 4, waiting: 2 });
    pool.giveBack(others[0]);
    expect((await waiting[0]).timeline).toBe(2);
    pool.giveBack(taken[1]);
    expect((await waiting[1]).timeline).toBe(0);
    expect(order).toEqual(["x", "y"]);
  });

  it("an error when the model is closed", async () => {
    const { sessions } = scriptedSession(said, { vocab: VOCAB });
    const pool = new SessionPool(sessions);
    await pool.take([1]);
    const waiting = expect(pool.take([2])).rejects.toThrow("closed");
    pool.close(new Error("closed"));
    await waiting;
    await expect(pool.take([3])).rejects.toThrow("closed");
  });
});
