/** The loaded model, needle-14m on the CPU: one generation at a time, aborts, threads, closing. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LanguageModel } from "../../src/engine/language-model.ts";
import { type LoadOptions, load } from "../../src/engine/load.ts";
import { AbortedError, ArgumentError } from "../../src/format/errors.ts";

const QUESTION = "What is a whale?";
const needle = (options: LoadOptions = {}) => load("needle", { context: 256, threads: 2, ...options });

describe("one model", () => {
  let model: LanguageModel;
  /** What it says, undisturbed. */
  let wanted: readonly number[];
  beforeAll(async () => {
    model = await needle();
    wanted = (await model.generate(QUESTION, { maxTokens: 12, ignoreEnd: true }).result()).ids;
  });
  afterAll(() => model.close());
  const again = async () => (await model.generate(QUESTION, { maxTokens: 12, ignoreEnd: true }).result()).ids;

  it("pieces' ids and texts join to the result's, and the text to what the tokenizer makes of the ids", async () => {
    const generation = model.generate(QUESTION, { maxTokens: 40 });
    const ids: number[] = [];
    let text = "";
    for await (const piece of generation) {
      ids.push(...piece.ids);
      text += piece.text;
    }
    const result = await generation.result();
    expect(ids).toEqual(result.ids);
    expect(text).toBe(result.text);
    expect(model.tokenizer.decode(ids)).toBe(text);
    expect(result.promptTokens).toBe(model.encode(QUESTION).length);
  });

  it("frees itself when a loop is left", async () => {
    for await (const _ of model.generate(QUESTION)) break;
    expect(await again()).toEqual(wanted);
  });

  it("with one session runs one generation at a time, the others in the order in which they began", async () => {
    const first = model.generate(QUESTION, { maxTokens: 12, ignoreEnd: true });
    const pieces = first[Symbol.asyncIterator]();
    await pieces.next();
    const done: string[] = [];
    const controller = new AbortController();
    const later = (name: string, signal?: AbortSignal) =>
      model
        .generate(`Another? ${name}`, { maxTokens: 3, signal })
        .result()
        .then(
          () => done.push(name),
          (error: unknown) => done.push(`${name}: ${(error as Error).message}`),
        );
    const all = [later("second"), later("third", controller.signal), later("fourth")];
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(model.activity).toEqual({ running: 1, waiting: 3 });
    controller.abort();
    await all[1];
    expect(done).toEqual(["third: waiting for a session was stopped"]);
    expect((await first.result()).ids).toEqual(wanted);
    await Promise.all(all);
    expect(done.slice(1)).toEqual(["second", "fourth"]);
    expect(model.activity).toEqual({ running: 0, waiting: 0 });
    expect(await again()).toEqual(wanted);
  });

  it("goes on after aborts before, in and after the prompt", async () => {
    const long = { ids: Array.from({ length: 200 }, (_, i) => 300 + i) };
    for (const when of ["before", "prompt", "tokens"]) {
      const controller = new AbortController();
      if (when === "before") controller.abort();
      const run = async () => {
        const onPrompt = () => when === "prompt" && controller.abort();
        for await (const _ of model.generate(long, { signal: controller.signal, onPrompt, ignoreEnd: true }))
          controller.abort();
      };
      await expect(run()).rejects.toThrow(AbortedError);
      expect(await again()).toEqual(wanted);
    }
  });

  it("goes on after a prompt that it refuses", async () => {
    const prompt = (count: number) => ({ ids: new Array<number>(count).fill(7) });
    await expect(model.generate(prompt(257)).result()).rejects.toMatchObject({
      code: "context",
      tokens: 257,
    });
    await expect(model.generate(prompt(0)).result()).rejects.toThrow(ArgumentError);
    await expect(model.generate({ ids: [4096] }).result()).rejects.toThrow(ArgumentError);
    await expect(model.generate(QUESTION, { temperature: -1 }).result()).rejects.toThrow(ArgumentError);
    const full = await model.generate(prompt(256), { ignoreEnd: true }).result();
    expect(full).toMatchObject({ stopReason: "context", generatedTokens: 1 });
    expect(await again()).toEqual(wanted);
  });

  it("reuses what a conversation has said already", async () => {
    const first = await model.generate(QUESTION, { maxTokens: 5, ignoreEnd: true }).result();
    const longer = { ids: [...model.encode(QUESTION), ...first.ids] };
    const second = await model.generate(longer, { maxTokens: 1 }).result();
    // The last generated token was never processed; the one before it has no logits kept.
    expect(second.reusedTokens).toBe(longer.ids.length - 1);
  });

  it("samples the same again from a seed, and otherwise from another", async () => {
    const sampled = async (seed: number) =>
      (await model.generate(QUESTION, { temperature: 1.5, minP: 0, maxTokens: 20, seed }).result()).ids;
    const ids = await sampled(1);
    expect(await sampled(1)).toEqual(ids);
    expect(await sampled(2)).not.toEqual(ids);
  });
});

describe("several sessions", () => {
  const PROMPTS = [QUESTION, "Who wrote Emma?", "Name a river in France."];
  const options = { maxTokens: 30, ignoreEnd: true, temperature: 0.8, seed: 7 };

  it("say at once what each says alone, and leave each its own text", async () => {
    const alone = await needle({ sessions: 3 });
    const wanted: (readonly number[])[] = [];
    for (const prompt of PROMPTS) wanted.push((await alone.generate(prompt, options).result()).ids);
    await alone.close();

    const model = await needle({ sessions: 3 });
    const results = await Promise.all(PROMPTS.map((prompt) => model.generate(prompt, options).result()));
    expect(results.map(({ ids }) => ids)).toEqual(wanted);
    // Each goes on where it was.
    for (const [i, prompt] of PROMPTS.entries()) {
      const longer = { ids: [...model.encode(prompt), ...wanted[i], 300] };
      const { reusedTokens } = await model.generate(longer, { maxTokens: 1 }).result();
      expect(reusedTokens).toBe(longer.ids.length - 2);
    }
    await model.close();
  });

  it("read a long prefix once", async () => {
    const model = await needle({ sessions: 2, context: 512 });
    const prefix = Array.from({ length: 300 }, (_, i) => 300 + ((i * 37) % 3000));
    const [a, b] = [1, 2].map((last) => ({ ids: [...prefix, 299 + last] }));
    const wanted = (await model.generate(a, options).result()).ids;
    const busy = model.generate(a, { ignoreEnd: true })[Symbol.asyncIterator]();
    await busy.next();
    const other = await model.generate(b, options).result();
    expect(other.reusedTokens).toBe(300);
    await busy.return();
    const again = await model.generate(b, options).result();
    expect(other.ids).toEqual(again.ids);
    expect((await model.generate(a, options).result()).ids).toEqual(wanted);
    await model.close();
  });

  it("that wait when the model is closed are refused", async () => {
    const model = await needle({ sessions: 1 });
    const pieces = model.generate(QUESTION)[Symbol.asyncIterator]();
    await pieces.next();
    const waiting = expect(model.generate(QUESTION).result()).rejects.toThrow("the model is closed");
    await model.close();
    await waiting;
  });
});

it("greedy tokens do not depend on the number of threads", async () => {
  const found: (readonly number[])[] = [];
  for (const threads of [1, 2, 3]) {
    const model = await needle({ threads });
    const { ids } = await model.generate(QUESTION, { maxTokens: 40, ignoreEnd: true }).result();
    await model.close();
    found.push(ids);
  }
  expect(found[1]).toEqual(found[0]);
  expect(found[2]).toEqual(found[0]);
});

describe("closing", () => {
  it("twice is once; afterwards generating is refused", async () => {
    const model = await needle({ threads: 1 });
    await Promise.all([model.close(), model.close()]);
    await model.close();
    await expect(model.generate(QUESTION).result()).rejects.toThrow("the model is closed");
  });

  it("while it generates ends the generation with an error", async () => {
    const model = await needle();
    const generation = model.generate(QUESTION, { ignoreEnd: true });
    const pieces = generation[Symbol.asyncIterator]();
    await pieces.next();
    const next = pieces.next().then(() => pieces.next());
    const failed = expect(next).rejects.toMatchObject({ code: "device" });
    await model.close();
    await failed;
  });

  it("comes with `await using`", async () => {
    let closed: LanguageModel;
    {
      await using model = await needle({ threads: 1 });
      closed = model;
      expect((await model.generate(QUESTION, { maxTokens: 1 }).result()).ids.length).toBe(1);
    }
    await expect(closed.generate(QUESTION).result()).rejects.toThrow("closed");
  });
});
