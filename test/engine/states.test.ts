/**
 * Texts over recurrent states: which tokens are read again, counted by the rows that ran; and that no run goes on from other
 * states than its text's, also where the device runs ahead.
 */
import { describe, expect, it } from "vitest";
import { cutsOf } from "../../src/engine/cuts.ts";
import { sampler } from "../../src/engine/sample.ts";
import type { Scheduler } from "../../src/engine/scheduler.ts";
import { Text } from "../../src/engine/text.ts";
import { restoreText, saveText } from "../../src/engine/text-save.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { scripted } from "./scripted.ts";
import { pagesOf, Truth, tinyScheduler, VOCAB } from "./tiny-graph.ts";

const CONTEXT = 640;
const GREEDY = sampler({ temperature: 0 });
const OWNER = { name: "tiny", fingerprint: "1", rope: "2" };

const words = (count: number, seed: number) =>
  Array.from({ length: count }, (_, i) => (i * (seed + 3) + seed + (i >> 2)) % VOCAB);

/** A scheduler that counts the rows that ran. */
async function counted(options: Parameters<typeof tinyScheduler>[0] = {}) {
  const scheduler = await tinyScheduler({
    ...{ context: CONTEXT, cacheTokens: 4 * CONTEXT, chunk: 64, stateSlots: 12, windows: [null] },
    ...options,
  });
  let rows = 0;
  const { run } = scheduler.allocation;
  scheduler.allocation.run = (step) => {
    for (const { ids } of step.runs) rows += ids.length;
    return run(step);
  };
  return {
    scheduler,
    /** Since it was asked last. */
    rows() {
      const found = rows;
      rows = 0;
      return found;
    },
  };
}

async function generated(scheduler: Scheduler, prompt: readonly number[], most: number, leavesAfter = most) {
  const generation = new Text(scheduler).generate(prompt, GREEDY, { most });
  const ids: number[] = [];
  while (ids.length < leavesAfter) {
    const token = await generation.next();
    if (!token) break;
    ids.push(token.id);
  }
  // As whoever reads all of an answer does.
  if (leavesAfter === most) expect(await generation.next()).toBeNull();
  generation.end();
  return ids;
}

describe("a conversation", () => {
  it("reads in each turn what is new, and nothing twice", async () => {
    const { scheduler, rows } = await counted();
    let ids = words(200, 1);
    for (const turn of [1, 2, 3, 4]) {
      const answer = await generated(scheduler, ids, 20);
      const more = words(15, turn);
      // The last token of an answer is not read while it is generated.
      expect(rows()).toBe((turn === 1 ? 200 : 16) + 19);
      ids = [...ids, ...answer, ...more];
    }
    expect(pagesOf(scheduler).used).toBe(0);
  });

  it("goes on from where its reader left an answer", async () => {
    const { scheduler, rows } = await counted();
    const ids = words(100, 1);
    const answer = await generated(scheduler, ids, 40, 10);
    rows();
    await new Text(scheduler).read([...ids, ...answer, ...words(30, 2)]);
    expect(rows()).toBeLessThanOrEqual(32);
  });

  it("whose last answer is written otherwise reads at most a page and an answer's opening again", async () => {
    const { scheduler, rows } = await counted();
    for (const length of [96, 200, 333]) {
      const ids = words(length, length);
      await generated(scheduler, ids, 20);
      rows();
      // As a template does that leaves thinking out of earlier turns.
      await new Text(scheduler).read([...ids.slice(0, -7), ...words(30, 2)]);
      expect(rows()).toBeLessThanOrEqual(30 + 32 + 8);
      await generated(scheduler, ids, 20);
      expect(rows()).toBeLessThanOrEqual(32 + 8 + 19);
    }
  });

  it("goes back far without reading all of it: positions that are kept lie closer together toward the end", async () => {
    const { scheduler, rows } = await counted({ stateSlots: 3 + 16 });
    const ids = words(600, 1);
    await new Text(scheduler).read(ids);
    expect(rows()).toBe(600);
    for (const back of [40, 100, 200, 300]) {
      const other = [...ids.slice(0, 600 - back), ...words(3, 5)];
      await new Text(scheduler).read(other);
      // From the text's positions, or those of texts before that parted from it.
      expect(rows()).toBeLessThanOrEqual(3 + Math.max(64, back));
    }
  });

  it("is saved with its states, and goes on from them elsewhere", async () => {
    const { scheduler } = await counted();
    const truth = new Truth({ context: CONTEXT, windows: [null], stateSlots: 2 });
    const ids = words(150, 1);
    await new Text(scheduler).read(ids);
    const pieces: Uint8Array[] = [];
    for await (const piece of saveText(scheduler, OWNER, ids)) pieces.push(piece);
    const file = Buffer.concat(pieces);
    expect(file.readUInt32LE(8)).toBe(3);
    const other = await counted({ chunk: 7 });
    await restoreText(other.scheduler, OWNER, bufferSource("saved", file));
    const more = [...ids, ...words(5, 2)];
    const { logits } = await new Text(other.scheduler).sync(more);
    expect(other.rows()).toBe(5);
    expect(logits).toEqual(await truth.after(more));
  });

  it("in a graph with other states, or none, is refused by its file", async () => {
    const { scheduler } = await counted();
    const ids = words(50, 1);
    await new Text(scheduler).read(ids);
    const pieces: Uint8Array[] = [];
    for await (const piece of saveText(scheduler, OWNER, ids)) pieces.push(piece);
    const file = bufferSource("saved", Buffer.concat(pieces));
    const plain = await tinyScheduler({ context: CONTEXT, windows: [null] });
    await expect(restoreText(plain, OWNER, file)).rejects.toThrow("version: 3; allowed: 2");
  });
});

describe("texts with a common beginning", () => {
  it("that come at once read it once", async () => {
    const { scheduler, rows } = await counted({ texts: 4, stateSlots: 12 });
    const document = words(320, 1);
    const questions = [1, 2, 3, 4].map((seed) => [...document, ...words(20, seed + 6)]);
    await Promise.all(questions.map((ids) => new Text(scheduler).read(ids)));
    expect(rows()).toBe(320 + 4 * 20);
  });

  it("that come one after another read it twice, to learn where they part", async () => {
    const { scheduler, rows } = await counted();
    const document = words(320, 1);
    const read = async (seed: number) => {
      await new Text(scheduler).read([...document, ...words(100, seed + 6)]);
      return rows();
    };
    expect(await read(1)).toBe(420);
    await read(2);
    expect(await read(3)).toBe(100);
    expect(await read(4)).toBe(100);
  });

  it("as forks of one text go on from its states", async () => {
    const { scheduler, rows } = await counted();
    const text = new Text(scheduler);
    await text.read(words(100, 1));
    rows();
    await Promise.all([text, text.fork(), text.fork()].map((one, i) => one.sync([...one.ids, i, i + 1])));
    expect(rows()).toBe(6);
  });
});

describe("slots", () => {
  it("of which each text has two are enough for all to end", async () => {
    const { scheduler } = await counted({ texts: 3, stateSlots: 6 });
    const truth = new Truth({ context: CONTEXT, windows: [null], stateSlots: 2 });
    const prompts = [1, 2, 3, 4, 5].map((seed) => words(40 + 30 * seed, seed));
    const found = await Promise.all(prompts.map((ids) => generated(scheduler, ids, 12)));
    for (const [i, ids] of prompts.entries())
      expect(found[i]).toEqual(
        await truth.generated(ids, 12, (logits) => logits.indexOf(Math.max(...logits))),
      );
    pagesOf(scheduler);
  });

  it("are kept by texts whose readers are slow, and no other text waits for them", async () => {
    const { scheduler } = await counted({ texts: 2, stateSlots: 4 });
    const slow = new Text(scheduler).generate(words(40, 1), GREEDY, { most: 30 });
    await slow.next();
    expect(await generated(scheduler, words(50, 2), 20)).toHaveLength(20);
    let count = 1;
    while (await slow.next()) count++;
    expect(slow.ending).toBeNull();
    expect(count).toBe(30);
    slow.end();
  });
});

describe("a device that chooses", () => {
  const next = (position: number) => (position * 5) % 30;
  const options = { vocab: 30, chooses: true, context: 512, chunk: 64, cacheTokens: 2048 };

  it.each([4, 6, 12])("runs ahead over the states of its text, with %i slots for two", async (stateSlots) => {
    const { scheduler, steps } = scripted(next, { ...options, texts: 2, stateSlots });
    const prompts = [words(100, 1), words(70, 2)].map((ids) => ids.map((id) => id % 30));
    const found = await Promise.all(prompts.map((ids) => generated(scheduler, ids, 40)));
    for (const [i, ids] of prompts.entries())
      expect(found[i]).toEqual(Array.from({ length: 40 }, (_, at) => next(ids.length + at)));
    steps.length = 0;
    await new Text(scheduler).read([...prompts[0], ...found[0], 1, 2, 3]);
    const rows = steps.flatMap(({ runs }) => runs).reduce((sum, { ids }) => sum + ids.length, 0);
    // The answer's last token, and what is new; with few slots the answer's states may be gone.
    if (stateSlots > 6) expect(rows).toBe(4);
  });

  it.each([100, 101, 120])(
    "goes back to states from before when it could not choose at %i",
    async (unprovenAt) => {
      const { scheduler } = scripted(next, { ...options, stateSlots: 5, unprovenAt });
      const ids = words(100, 1).map((id) => id % 30);
      expect(await generated(scheduler, ids, 40)).toEqual(
        Array.from({ length: 40 }, (_, at) => next(100 + at)),
      );
    },
  );
});

describe("where a prompt's reading stops", () => {
  it("is the last page's border before an answer's opening, and where it left what was known", () => {
    expect(cutsOf({ from: 0, known: 0, prompt: 200 })).toEqual([192]);
    expect(cutsOf({ from: 0, known: 0, prompt: 199 })).toEqual([160]);
    expect(cutsOf({ from: 0, known: 0, prompt: 39 })).toEqual([]);
    expect(cutsOf({ from: 170, known: 170, prompt: 200 })).toEqual([]);
    expect(cutsOf({ from: 0, known: 100, prompt: 200 })).toEqual([96, 192]);
    expect(cutsOf({ from: 64, known: 100, prompt: 200 })).toEqual([96, 192]);
    expect(cutsOf({ from: 90, known: 100, prompt: 200 })).toEqual([192]);
    expect(cutsOf({ from: 0, known: 400, prompt: 200 })).toEqual([192]);
  });
});
