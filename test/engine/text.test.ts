/** A text: what pages keep of it, what is processed again, and what it refuses. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Page } from "../../src/cache/node.ts";
import type { PagePool } from "../../src/cache/pages.ts";
import type { Allocation, Device } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { sampler } from "../../src/engine/sample.ts";
import { Scheduler } from "../../src/engine/scheduler.ts";
import { Text } from "../../src/engine/text.ts";
import { AbortedError, ArgumentError, ContextError } from "../../src/format/errors.ts";
import type { Model } from "../../src/model/model.ts";
import { goldenModel, relativeError } from "../model/golden.ts";
import { type ScriptOptions, scripted } from "./scripted.ts";

const CONTEXT = 160;
/** Enough to run a ring of 96 around. */
const TOKENS = 105;
const VOCAB = 200;
/** Nothing is known any more. */
function forgetAll({ beginnings }: Scheduler): void {
  const { root } = beginnings;
  for (const block of [...root.children.values(), ...root.open]) beginnings.forget(block);
}

function takeAll(pool: PagePool): Page[] {
  const taken: Page[] = [];
  for (let page = pool.take(); page; page = pool.take()) taken.push(page);
  return taken;
}

const ids = (count: number, seed = 0) =>
  Array.from({ length: count }, (_, i) => ((i + 1) * (37 + seed)) % VOCAB);

async function open(
  model: Model,
  device: Device,
  codec: string,
  chunk: number,
  maxOutputs = 1,
): Promise<Text> {
  const graph = model.record({ context: CONTEXT, maxTokens: chunk, maxOutputs, codec: kvCodec(codec) });
  const allocation = await device.allocate(graph);
  for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
  const options = { context: CONTEXT, vocab: model.config.vocab };
  return new Text(new Scheduler(graph, allocation, device, options));
}

/** Golden gemma3 slides over 32 positions in five of six layers: with chunks of 7 a ring holds 96. */
describe.each([
  { family: "gemma3", within: 98, beyond: 30, reusedBeyond: 0 },
  { family: "llama", within: 98, beyond: 30, reusedBeyond: 30 },
])("$family: reuse gives what a fresh text gives", ({ family, within, beyond, reusedBeyond }) => {
  let model: Model;
  beforeAll(async () => {
    model = await goldenModel(family);
  });
  afterAll(() => model.checkpoint.close());

  // The reference computes each token alone: chunks make no difference, not even in the last bit.
  it("bit for bit on the reference device", async () => {
    const fresh = async (prompt: number[]) => {
      const text = await open(model, referenceDevice(), "int4", 7);
      return { text, logits: (await text.sync(prompt)).logits };
    };
    const text = await open(model, referenceDevice(), "int4", 7);
    expect((await text.sync(ids(TOKENS))).reused).toBe(0);

    const turned = [...ids(TOKENS).slice(0, within), ...ids(9, 5)];
    const second = await text.sync(turned);
    expect(second.reused).toBe(within);
    const other = await fresh(turned);
    expect(second.logits).toEqual(other.logits);

    const again = await text.sync(turned);
    expect(again.reused).toBe(turned.length - 1);
    expect(again.logits).toEqual(second.logits);

    expect(await text.append(77)).toEqual(await other.text.append(77));

    const early = [...turned.slice(0, beyond), ...ids(10, 9)];
    const third = await text.sync(early);
    expect(third.reused).toBe(reusedBeyond);
    expect(third.logits).toEqual((await fresh(early)).logits);
  });

  it("closely on the CPU device", async () => {
    const device = await wasmDevice({ threads: 2 });
    const text = await open(model, device, "f16", 7);
    const other = await open(model, device, "f16", 7);
    try {
      await text.sync(ids(TOKENS));
      for (const keep of [within, beyond, 104, 1]) {
        const turned = [...ids(TOKENS).slice(0, keep), ...ids(12, keep)];
        const { logits } = await text.sync(turned);
        forgetAll(other.scheduler);
        const { logits: wanted, reused } = await other.sync(turned);
        expect(reused).toBe(0);
        // Chunks are cut elsewhere, so sums are ordered otherwise, and activations round to 8 bits otherwise.
        expect(relativeError(logits, wanted)).toBeLessThan(0.02);
      }
    } finally {
      await text.scheduler.allocation.close();
      await other.scheduler.allocation.close();
    }
  });

  it("after an abort in the middle of the prompt", async () => {
    const text = await open(model, referenceDevice(), "f16", 7);
    const aborted = new AbortController();
    const progress: number[] = [];
    const stopped = text.sync(ids(60), {
      signal: aborted.signal,
      onProgress: (tokens) => {
        progress.push(tokens);
        if (tokens >= 20) aborted.abort();
      },
    });
    await expect(stopped).rejects.toThrow(AbortedError);
    expect(progress).toEqual([7, 14, 21]);
    expect(text.ids).toEqual(ids(60).slice(0, 21));

    const { logits, reused } = await text.sync(ids(60));
    expect(reused).toBe(21);
    const { logits: wanted } = await (await open(model, referenceDevice(), "f16", 7)).sync(ids(60));
    expect(logits).toEqual(wanted);
  });
});

describe("each", () => {
  it("gives the logits after each of many tokens, bit for bit what append gives", async () => {
    const model = await goldenModel("gemma3");
    const text = await open(model, referenceDevice(), "int4", 7, 3);
    const single = await open(model, referenceDevice(), "int4", 7);
    await text.read(ids(9));
    await single.read(ids(9));
    const progress: number[] = [];
    const found: Float32Array[] = [];
    for await (const logits of text.each([5, 6, 7, 8], { onProgress: (tokens) => progress.push(tokens) }))
      found.push(logits);
    for (const id of [5, 6, 7, 8]) expect(found.shift()).toEqual(await single.append(id));
    expect(progress).toEqual([3, 4]);
    expect(text.ids).toEqual(single.ids);

    const each = (more: number[], signal?: AbortSignal) => text.each(more, { signal }).next();
    await expect(each(ids(CONTEXT - 12))).rejects.toThrow(ContextError);
    await expect(each([1, 1_000_000])).rejects.toThrow(ArgumentError);
    await expect(each([1], AbortSignal.abort())).rejects.toThrow(AbortedError);
    expect(text.ids.length).toBe(13);
    await model.checkpoint.close();
  });
});

describe("limits", () => {
  const open = (context = 20) => scripted(() => 1, { vocab: 10, context, chunk: 8 });
  const prompt = (count: number) => new Array<number>(count).fill(3);

  it("takes a prompt that fills the context, and nothing after it", async () => {
    const { text, steps } = open();
    await text.sync(prompt(20));
    const runs = steps.flatMap((step) => step.runs);
    expect(runs.map(({ position, ids, outputs }) => [position, ids.length, outputs])).toEqual([
      [0, 8, 0],
      [8, 8, 0],
      [16, 4, 1],
    ]);
    await expect(text.append(3)).rejects.toMatchObject({ code: "context", tokens: 21, context: 20 });
    expect(text.ids.length).toBe(20);
  });

  it("refuses one token more, with both numbers, and keeps its timeline", async () => {
    const { text, steps } = open();
    await text.sync(prompt(5));
    const error = await text.sync(prompt(21)).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(ContextError);
    expect((error as ContextError).message).toContain("21");
    expect((error as ContextError).message).toContain("20");
    expect(steps.length).toBe(1);
    expect(text.ids).toEqual(prompt(5));
  });

  it("refuses an empty prompt and ids out of range, before anything runs", async () => {
    const { text, steps } = open();
    const bad = [
      [],
      [10],
      [-1],
      [1.5],
      [Number.NaN],
      [1, undefined as unknown as number],
      new Array<number>(2),
    ];
    for (const ids of bad) await expect(text.sync(ids)).rejects.toThrow(ArgumentError);
    await text.sync([1]);
    for (const id of [10, -1, 0.5]) await expect(text.append(id)).rejects.toThrow(ArgumentError);
    expect(steps.length).toBe(1);
    expect(text.ids).toEqual([1]);
  });

  it("asks for logits once, with the last chunk, and counts only what is new", async () => {
    const { text, steps } = open();
    await text.sync(prompt(10));
    const seen: [number, number][] = [];
    await text.sync([...prompt(10), 4, 5], { onProgress: (tokens, total) => seen.push([tokens, total]) });
    expect(seen).toEqual([[2, 2]]);
    expect(steps.map(({ runs }) => runs[0].outputs)).toEqual([0, 1, 1]);
  });

  it("goes back as far as the pages of a window are there", async () => {
    // Of 120 tokens the window of a next one sees the last 31; older pages are given to whoever needs them.
    const { text, scheduler } = scripted(() => 1, { vocab: 200, windows: [null, 32], cacheTokens: 256 });
    const back = async (keep: number, id: number) =>
      (await text.sync([...ids(120).slice(0, keep), id])).reused;
    await text.sync(ids(120));
    expect(await back(60, 199)).toBe(60);
    const sliding = scheduler.beginnings.pools[1];
    for (const page of takeAll(sliding)) sliding.release(page);
    expect(await back(60, 198)).toBe(0);
    expect(await back(20, 197)).toBe(20);
  });

  it("forks and goes back without reading anything again", async () => {
    const { text, steps } = open(100);
    await text.sync(prompt(40));
    const other = text.fork();
    await other.append(5);
    expect([text.ids, other.ids]).toEqual([prompt(40), [...prompt(40), 5]]);
    text.rewind(38);
    await text.append(7);
    expect(text.ids).toEqual([...prompt(38), 7]);
    expect(() => text.rewind(40)).toThrow("tokens to keep is 40; allowed: integers 0 to 39");
    const read = steps.flatMap(({ runs }) => runs.map((run) => run.ids.length));
    expect(read.reduce((a, b) => a + b)).toBe(42);
  });

  it("an abort before the first chunk processes nothing", async () => {
    const { text, steps } = open();
    await expect(text.sync([1, 2], { signal: AbortSignal.abort() })).rejects.toThrow(AbortedError);
    expect(steps.length).toBe(0);
  });
});

describe("a device that chooses where the host reads rows of a table by ids", () => {
  const generated = async (table: boolean, options: Partial<ScriptOptions> = {}) => {
    const script = scripted((position) => 3 + (position % 5), {
      ...{ vocab: 16, context: 96, chooses: true, table },
      ...options,
    });
    const tokens = script.text.generate(
      ids(40).map((id) => id % 16),
      sampler({ temperature: 0 }),
      { most: 12 },
    );
    const found: number[] = [];
    for (let token = await tokens.next(); token; token = await tokens.next()) found.push(token.id);
    await tokens.end();
    return { ids: found, ...script };
  };

  it("is given steps whose ids are known, and gives back ids alone", async () => {
    const { ids, asked, steps } = await generated(true);
    expect(ids).toEqual((await generated(false)).ids);
    // 12 of which the last is not part of the text, after a prompt of 40 in chunks of 8.
    expect([ids.length, steps.length, asked]).toEqual([12, 5 + 11, []]);
  });

  it("leaves to the host what it cannot prove", async () => {
    const { ids, asked } = await generated(true, { unprovenAt: 45 });
    expect(ids).toEqual((await generated(false)).ids);
    expect(asked.length).toBeGreaterThan(0);
  });

  it("guesses, too", async () => {
    const { ids } = await generated(true, { guess: 4 });
    expect(ids).toEqual((await generated(false)).ids);
  });

  it("is what Gemma 4's inputs of each layer need", async () => {
    const options = { context: 32, maxTokens: 4, maxOutputs: 1, codec: kvCodec("f16") };
    const needs = (model: Model) =>
      new Scheduler(
        model.record(options),
        {} as Allocation,
        { name: "any", chooses: true },
        {
          context: 32,
          vocab: 160,
        },
      ).needsIds;
    for (const [family, wanted] of Object.entries({ "gemma4-e2b": true, "gemma4-dense": false })) {
      const model = await goldenModel(family);
      expect(needs(model), family).toBe(wanted);
      await model.checkpoint.close();
    }
  });
});
