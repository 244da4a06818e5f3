/** Many texts in one step: which rows it has, what they share, who waits, and who goes away. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Step } from "../../src/device/contract.ts";
import { type GenerateOptions, Generation, generateTokens } from "../../src/engine/generate.ts";
import { sampler } from "../../src/engine/sample.ts";
import { Text } from "../../src/engine/text.ts";
import { AbortedError, DeviceError } from "../../src/format/errors.ts";
import { END, piecesTokenizer, type ScriptOptions, scripted } from "./scripted.ts";
import { pagesOf } from "./tiny-graph.ts";

const VOCAB = 100;
const tokenizer = piecesTokenizer(Array.from({ length: VOCAB - 1 }, (_, i) => `${i} `));
/** What comes after a text: by all of it, so that a wrong page shows. */
const said = (_: number, ids: readonly number[]) =>
  1 + (ids.reduce((sum, id, i) => sum + id * (i + 3), 0) % (VOCAB - 1));
const idsOf = (count: number, seed: number) =>
  Array.from({ length: count }, (_, i) => 1 + ((i * (seed + 3) + seed) % (VOCAB - 1)));

function wanted(prompt: readonly number[], count: number): number[] {
  const all = [...prompt];
  for (let i = 0; i < count; i++) all.push(said(all.length, all));
  return all.slice(prompt.length);
}

function open(options: Partial<ScriptOptions> = {}) {
  const made = scripted(said, { vocab: VOCAB, texts: 2, ...options });
  const generate = (prompt: readonly number[], generation: GenerateOptions = {}) =>
    new Generation(generateTokens(new Text(made.scheduler), tokenizer, prompt, generation));
  return { ...made, generate };
}

const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
};

/** Rows of each run of each step. */
const rows = (steps: readonly Step[]) => steps.map(({ runs }) => runs.map(({ ids }) => ids.length));
const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);

describe("a step", () => {
  it.each([false, true])("has a row of each text that generates; the device chooses: %s", async (chooses) => {
    const { generate, steps } = open({ texts: 3, chunk: 64, chooses });
    const prompts = [5, 6, 7].map((count) => idsOf(count, count));
    const results = await Promise.all(prompts.map((prompt) => generate(prompt, { maxTokens: 20 }).result()));
    results.forEach(({ ids }, i) => {
      expect(ids).toEqual(wanted(prompts[i], 20));
    });
    // One for the three prompts, and one for each token of all after the first.
    expect(rows(steps)[0]).toEqual([5, 6, 7]);
    expect(steps.length).toBe(20);
    for (const list of rows(steps).slice(1)) expect(list).toEqual([1, 1, 1]);
  });

  it("has rows of a prompt with those of generations, as few as the time allows", async () => {
    // Each row takes a millisecond.
    let now = 0;
    const wait = async (step: Step) => {
      now += sum(step.runs.map(({ ids }) => ids.length));
      await new Promise(setImmediate);
    };
    const clock = () => now;
    const { generate, steps } = open({ chunk: 256, context: 2048, wait, stretchMs: 100, clock });
    const first = generate(idsOf(600, 1), { maxTokens: 60 });
    const pieces = first[Symbol.asyncIterator]();
    await pieces.next();
    const before = steps.length;
    const second = generate(idsOf(700, 2), { maxTokens: 5 });
    const [one, two] = await Promise.all([first.result(), second.result()]);
    expect(one.ids).toEqual(wanted(idsOf(600, 1), 60));
    expect(two.ids).toEqual(wanted(idsOf(700, 2), 5));
    const shared = rows(steps.slice(before)).filter((list) => sum(list) > 2);
    // Alone it read 256 at a time.
    expect(rows(steps.slice(0, before))[0]).toEqual([256]);
    for (const list of shared) expect(sum(list)).toBeLessThanOrEqual(101);
    expect(shared.length).toBeLessThanOrEqual(Math.ceil(700 / 64));
  });

  it("is shared by prompts: a short one does not wait for a long one", async () => {
    const { generate, steps } = open({ texts: 3, chunk: 96, context: 4096 });
    const long = generate(idsOf(3000, 1), { maxTokens: 1 }).result();
    await turns(2);
    const before = steps.length;
    expect((await generate(idsOf(40, 2), { maxTokens: 1 }).result()).ids).toEqual(wanted(idsOf(40, 2), 1));
    expect(steps.length - before).toBeLessThan(4);
    expect((await long).ids).toEqual(wanted(idsOf(3000, 1), 1));
    // None has room to spare while there is a prompt to read.
    for (const list of rows(steps).slice(0, -1)) expect(sum(list)).toBe(96);
  });

  it("serves all in turn where it has not a row for each", async () => {
    const { generate, steps } = open({ texts: 4, outputs: 2, chunk: 8 });
    const prompts = [1, 2, 3, 4].map((seed) => idsOf(3, seed));
    const results = await Promise.all(prompts.map((prompt) => generate(prompt, { maxTokens: 10 }).result()));
    results.forEach(({ ids }, i) => {
      expect(ids).toEqual(wanted(prompts[i], 10));
    });
    for (const { runs } of steps) expect(sum(runs.map(({ outputs }) => outputs))).toBeLessThanOrEqual(2);
    expect(steps.length).toBeLessThanOrEqual(24);
  });
});

describe("a constraint", () => {
  const ALL = new Int32Array(Math.ceil(VOCAB / 32)).fill(-1);

  it("that takes long does not hold the device, and costs no step", async () => {
    const { generate, steps } = open();
    let release = () => {};
    const constraint = {
      allowed: () => new Promise<Int32Array>((resolve) => (release = () => resolve(ALL))),
      accept() {},
    };
    const prompt = idsOf(4, 5);
    const slow = generate(prompt, { maxTokens: 3, constraint }).result();
    // Each time that it thinks, another text is read and says 20 tokens.
    for (let i = 0; i < 3; i++) {
      const plain = await generate(idsOf(5, 1), { maxTokens: 20 }).result();
      expect(plain.ids).toEqual(wanted(idsOf(5, 1), 20));
      release();
    }
    expect((await slow).ids).toEqual(wanted(prompt, 3));
    const own = steps.flatMap(({ runs }) => runs).filter(({ text }) => text === steps[0].runs[0].text);
    expect(own.map(({ ids }) => ids.length)).toEqual([4, 1, 1]);
  });

  it("is asked while the device works", async () => {
    const { generate, steps } = open({ texts: 1 });
    const asked: number[] = [];
    const constraint = {
      async allowed() {
        asked.push(steps.length);
        await turns(2);
        return ALL;
      },
      accept() {},
    };
    const { ids } = await generate(idsOf(4, 0), { maxTokens: 3, constraint }).result();
    expect(ids).toEqual(wanted(idsOf(4, 0), 3));
    // Before the step of the token that came, and no step comes twice.
    expect(asked).toEqual([0, 1, 2]);
    expect(rows(steps)).toEqual([[4], [1], [1]]);
  });

  it("that fails ends its text with its error", async () => {
    const { generate, scheduler } = open();
    const constraint = {
      allowed: async () => null,
      accept: async () => {
        throw new Error("no such word");
      },
    };
    await expect(generate(idsOf(4, 1), { constraint }).result()).rejects.toThrow("no such word");
    await turns(3);
    expect(pagesOf(scheduler).used).toBe(0);
  });
});

describe("what texts have in common", () => {
  it("is read once by those who come together", async () => {
    const { generate, steps, scheduler } = open({ texts: 16, chunk: 128, context: 2048 });
    const document = idsOf(1000, 1);
    const prompts = Array.from({ length: 16 }, (_, i) => [...document, ...idsOf(10 + i, i + 2)]);
    const results = await Promise.all(prompts.map((prompt) => generate(prompt, { maxTokens: 4 }).result()));
    results.forEach(({ ids }, i) => {
      expect(ids).toEqual(wanted(prompts[i], 4));
    });
    const read = sum(rows(steps).flatMap((list) => list.filter((count) => count > 1)));
    // The document, and of each what comes after its last full block.
    expect(read).toBeLessThan(1000 + 16 * (8 + 25));
    expect(sum(results.map(({ reusedTokens }) => reusedTokens))).toBeGreaterThan(15 * 992 - 1);
    expect(pagesOf(scheduler).used).toBe(0);
  });

  it("is known also of a text that ended, to the token", async () => {
    const { generate, copies } = open({ texts: 1 });
    const prompt = idsOf(70, 1);
    await generate([...prompt, 5], { maxTokens: 1 }).result();
    const other = await generate([...prompt, 6, 7, 8], { maxTokens: 3 }).result();
    expect([other.reusedTokens, other.ids]).toEqual([70, wanted([...prompt, 6, 7, 8], 3)]);
    // A block in which they part is copied; one that goes on is taken as it is.
    expect(copies.length).toBe(1);
    const longer = [...prompt, 6, 7, 8, ...other.ids, 9];
    expect((await generate(longer, { maxTokens: 1 }).result()).reusedTokens).toBe(longer.length - 2);
    expect(copies.length).toBe(1);
  });

  it("that is all of a text needs no step, and the text does not wait for one", async () => {
    const { scheduler, steps } = open({ texts: 1, chunk: 64 });
    const ids = idsOf(64, 1);
    await new Text(scheduler).read(ids);
    expect(rows(steps)).toEqual([[64]]);
    const again = new Text(scheduler).read(ids);
    const first = await Promise.race([again, turns(20).then(() => "still waiting")]);
    expect([first, rows(steps), scheduler.activity]).toEqual([64, [[64]], { running: 0, waiting: 0 }]);
  });

  it("is known of a text that runs", async () => {
    const { generate } = open();
    const busy = generate(idsOf(100, 1))[Symbol.asyncIterator]();
    await busy.next();
    const result = await generate([...idsOf(100, 1), 3, 4], { maxTokens: 5 }).result();
    expect([result.reusedTokens, result.ids]).toEqual([100, wanted([...idsOf(100, 1), 3, 4], 5)]);
    await busy.return();
  });

  it("is forgotten when its pages are needed, of what was used least recently", async () => {
    const { generate } = open({ texts: 1, context: 256, cacheTokens: 256 });
    const reused = async (seed: number) =>
      (await generate(idsOf(96, seed), { maxTokens: 1 }).result()).reusedTokens;
    expect(await reused(1)).toBe(0);
    expect(await reused(2)).toBe(0);
    expect(await reused(1)).toBe(95);
    expect(await reused(3)).toBe(0);
    expect(await reused(1)).toBe(95);
    expect(await reused(2)).toBeLessThan(64);
  });
});

describe("the cache", () => {
  it("lets in what fits with what is set aside, in the order of coming", async () => {
    const { generate, scheduler } = open({ texts: 4, context: 512, cacheTokens: 512 });
    const order: string[] = [];
    const start = (name: string, tokens: number, maxTokens: number) =>
      generate(idsOf(tokens, name.charCodeAt(0)), { maxTokens })
        .result()
        .then(() => order.push(name));
    const all = [start("a", 200, 40), start("b", 200, 100), start("c", 100, 20), start("d", 20, 2)];
    await turns(2);
    // 240 and 300 are more than 512, and c and d do not go before b.
    expect(scheduler.activity).toEqual({ running: 1, waiting: 3 });
    await Promise.all(all);
    expect(order[0]).toBe("a");
    expect(scheduler.activity).toEqual({ running: 0, waiting: 0 });
    expect(pagesOf(scheduler).used).toBe(0);
  });

  it("that is full lets a text wait until another ends, and ends the last when all wait", async () => {
    const { generate, scheduler } = open({ texts: 2, context: 640, cacheTokens: 640 });
    // Each is sure of 30 and 256 tokens, and wants more: together more than there are.
    const prompts = [idsOf(30, 1), idsOf(30, 2)];
    const [first, second] = await Promise.all(
      prompts.map((prompt) => generate(prompt, { maxTokens: 500 }).result()),
    );
    expect(first).toMatchObject({ stopReason: "length", generatedTokens: 500 });
    expect(second.stopReason).toBe("cache");
    expect(second.generatedTokens).toBeGreaterThan(256);
    expect(second.ids).toEqual(wanted(prompts[1], second.generatedTokens));
    expect(first.ids).toEqual(wanted(prompts[0], 500));
    expect(pagesOf(scheduler).used).toBe(0);
  });
});

describe("a text without a page", () => {
  it("waits for what steps under way may give back before any text is ended for it", async () => {
    // Both come to the end of a page at once, and there is none left; the one whose end is on its way gives its pages back.
    const ends = 32 + 256;
    const script = (position: number, ids: readonly number[]) =>
      ids[0] === 1 && position === ends ? END : said(position, ids);
    const { scheduler } = scripted(script, {
      ...{ vocab: VOCAB, texts: 2, chunk: 64, chooses: true, context: 576, cacheTokens: 576 },
    });
    const first = idsOf(32, 1);
    first[0] = 1;
    const generate = (prompt: readonly number[]) =>
      new Generation(generateTokens(new Text(scheduler), tokenizer, prompt, { maxTokens: 400 })).result();
    const [ended, other] = await Promise.all([first, idsOf(32, 2)].map(generate));
    expect(ended.stopReason).toBe("end");
    expect([other.stopReason, other.generatedTokens]).toEqual(["length", 400]);
    expect(other.ids).toEqual(wanted(idsOf(32, 2), 400));
    expect(pagesOf(scheduler).used).toBe(0);
  });
});

describe("two texts that go on alike", () => {
  it("hold one page for a block that both have written, and see no other's", async () => {
    const { generate, scheduler } = open({ texts: 3, context: 256, cacheTokens: 320, chunk: 32 });
    const prompt = idsOf(30, 1);
    const alike = [0, 1].map(() => generate(prompt, { maxTokens: 90 }).result());
    await turns(60);
    // Takes what the two gave back.
    const other = generate(idsOf(60, 5), { maxTokens: 40 }).result();
    for (const one of alike) expect((await one).ids).toEqual(wanted(prompt, 90));
    expect((await other).ids).toEqual(wanted(idsOf(60, 5), 40));
    expect(pagesOf(scheduler).used).toBe(0);
  });

  it("do not take what a prompt is sure of", async () => {
    const { generate } = open({ texts: 2, context: 640, cacheTokens: 640, chunk: 40 });
    const order: string[] = [];
    const long = generate(idsOf(30, 1), { maxTokens: 500 });
    const pieces = long[Symbol.asyncIterator]();
    for (let count = 0; count < 285; count++) await pieces.next();
    // The first is past what it was sure of, and meets the end of a page while the other is read.
    const other = generate(idsOf(300, 2), { maxTokens: 3 }).result();
    await Promise.all([other.then(() => order.push("other")), long.result().then(() => order.push("long"))]);
    expect(order).toEqual(["other", "long"]);
    expect((await other).ids).toEqual(wanted(idsOf(300, 2), 3));
    expect((await long.result()).ids).toEqual(wanted(idsOf(30, 1), 500));
  });
});

describe("a text", () => {
  it("that fails, aborts or is left leaves the others alone", async () => {
    const { generate, scheduler } = open({ texts: 3 });
    const left = generate(idsOf(4, 1));
    const aborted = new AbortController();
    const stopped = generate(idsOf(40, 2), {
      signal: aborted.signal,
      onPrompt: (n) => n >= 16 && aborted.abort(),
    });
    const thrown = generate(idsOf(40, 4), {
      onPrompt: () => {
        throw new Error("mine");
      },
    });
    const whole = generate(idsOf(6, 3), { maxTokens: 25 }).result();
    const failures = [stopped, thrown].map((one) => one.result().catch((error: unknown) => error));
    let count = 0;
    for await (const _ of left) if (++count === 5) break;
    expect(await failures[0]).toBeInstanceOf(AbortedError);
    expect(await failures[1]).toMatchObject({ message: "mine" });
    expect((await whole).ids).toEqual(wanted(idsOf(6, 3), 25));
    expect((await generate(idsOf(4, 1), { maxTokens: 2 }).result()).reusedTokens).toBe(3);
    expect(pagesOf(scheduler).used).toBe(0);
  });

  it("waits for a row no longer than its signal lets it, and a queue stays in its order", async () => {
    const { generate, scheduler } = open({ texts: 1 });
    const busy = generate(idsOf(4, 1))[Symbol.asyncIterator]();
    await busy.next();
    const order: string[] = [];
    const controller = new AbortController();
    const later = (name: string, signal?: AbortSignal) =>
      generate(idsOf(4, 2), { maxTokens: 2, signal })
        .result()
        .then(
          () => order.push(name),
          (error: Error) => order.push(`${name}: ${error.message}`),
        );
    const all = [later("x"), later("y", controller.signal), later("z")];
    await turns(3);
    expect(scheduler.activity).toEqual({ running: 1, waiting: 3 });
    controller.abort();
    await all[1];
    await busy.return();
    await Promise.all(all);
    expect(order).toEqual(["y: waiting for its turn was stopped", "x", "z"]);
  });

  it("does one thing at a time", async () => {
    const { text } = open();
    const reading = text.read([1, 2, 3]);
    await expect(text.read([1, 2])).rejects.toThrow("the text is busy; allowed: one thing at a time");
    await reading;
    const generation = text.generate([1, 2, 3], sampler(), { most: 4 });
    expect(() => text.rewind(0)).toThrow("busy");
    generation.end();
    generation.end();
    expect(text.ids.length).toBeLessThan(4);
  });

  it("whose device fails says so, and so do all in its step and after it", async () => {
    const { generate, scheduler } = open({ failsAt: 12 });
    const both = [idsOf(10, 1), idsOf(4, 2)].map((prompt) => generate(prompt, { maxTokens: 50 }).result());
    for (const one of await Promise.allSettled(both))
      expect(one).toMatchObject({ status: "rejected", reason: { code: "device" } });
    await expect(generate([1]).result()).rejects.toThrow(DeviceError);
    expect(scheduler.activity).toEqual({ running: 0, waiting: 0 });
    expect(pagesOf(scheduler).used).toBe(0);
  });

  it("that waits when all is closed is refused, and one that runs ends with an error", async () => {
    const { generate, scheduler } = open({ texts: 1 });
    const pieces = generate(idsOf(4, 1))[Symbol.asyncIterator]();
    await pieces.next();
    const waiting = expect(generate([1]).result()).rejects.toThrow("closed");
    scheduler.close(new Error("closed"));
    await waiting;
    await expect(pieces.next().then(() => pieces.next().then(() => pieces.next()))).rejects.toThrow(
      DeviceError,
    );
    await expect(generate([1]).result()).rejects.toThrow("closed");
  });
});

/** What a client does: how long its prompt is and what it begins with, how much it wants, when and how it goes away. */
const client = fc.record({
  tokens: fc.integer({ min: 1, max: 150 }),
  text: fc.integer({ min: 1, max: 3 }),
  wanted: fc.integer({ min: 1, max: 40 }),
  leaves: fc.option(fc.record({ after: fc.nat(8), how: fc.constantFrom("abort", "break") }), { freq: 2 }),
  pauses: fc.nat(3),
  arrives: fc.nat(20),
  penalty: fc.constantFrom(1, 1, 1.1),
});
type Client = typeof client extends fc.Arbitrary<infer T> ? T : never;

describe("clients that come and go as they like", () => {
  it.each([false, true])(
    "each get their own text, and leave nothing; the device chooses: %s",
    async (chooses) => {
      const property = fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom<(number | null)[]>([null], [null, 40]),
        fc.array(client, { minLength: 1, maxLength: 8 }),
        fc.option(fc.integer({ min: 20, max: 160 })),
        async (texts, windows, clients, unproven) => {
          const { generate, scheduler } = open({
            ...{ texts, windows, chooses, chunk: 32, context: 192, cacheTokens: 448 },
            unprovenAt: unproven ?? undefined,
          });
          const run = async ({ tokens, text, leaves, pauses, arrives, ...more }: Client) => {
            await turns(arrives);
            const prompt = idsOf(tokens, text);
            const controller = new AbortController();
            const { signal } = controller;
            const found: number[] = [];
            const options = { maxTokens: more.wanted, signal, seed: 1, repeatPenalty: more.penalty };
            try {
              for await (const piece of generate(prompt, options)) {
                found.push(...piece.ids);
                if (found.length > (leaves?.after ?? more.wanted)) {
                  if (leaves?.how === "break") break;
                  controller.abort();
                }
                await turns(pauses);
              }
            } catch (error) {
              expect(error).toBeInstanceOf(AbortedError);
              expect(leaves?.how).toBe("abort");
            }
            // A penalty changes nothing where one logit is above all others.
            expect(found).toEqual(wanted(prompt, more.wanted).slice(0, found.length));
            if (!leaves) expect(found).toHaveLength(more.wanted);
          };
          await Promise.all(clients.map(run));
          await turns(5);
          expect(scheduler.activity).toEqual({ running: 0, waiting: 0 });
          expect(pagesOf(scheduler).used).toBe(0);
        },
      );
      await fc.assert(property, { numRuns: 60 });
    },
  );
});
