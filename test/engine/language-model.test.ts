/** The loaded model, needle-14m on the CPU: one generation at a time, aborts, threads, closing. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { load } from "../../src/answer/load.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import type { EngineModel, Prompt } from "../../src/engine/language-model.ts";
import type { LoadOptions } from "../../src/engine/load.ts";
import { loadEngineModel } from "../../src/engine/load-checkpoint.ts";
import type { Constraint } from "../../src/engine/tokens.ts";
import { blobSource } from "../../src/format/blob-source.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { ggufCheckpoint } from "../../src/format/checkpoints.ts";
import { AbortedError, ArgumentError } from "../../src/format/errors.ts";
import { tinyModel } from "./tiny-model.ts";

const QUESTION = "What is a whale?";
const needle = (options: LoadOptions = {}) => load("needle", { context: 256, threads: 2, ...options });

describe("one model", () => {
  let model: EngineModel;
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

  it("frees itself when a loop is left, and gives what came until then", async () => {
    const left = model.generate(QUESTION);
    let first = "";
    for await (const { text } of left) {
      first = text;
      break;
    }
    expect(await left.result()).toMatchObject({ stopReason: "left", text: first, content: first });
    expect((await left.result()).promptTokens).toBe(model.encode(QUESTION).length);
    expect(await again()).toEqual(wanted);
  });

  it("takes contents as parts, and refuses conversations that are none at their place", async () => {
    const parts = [
      { type: "text" as const, text: "What is " },
      { type: "text" as const, text: "a whale?" },
    ];
    const asked = [{ role: "user", content: QUESTION }];
    expect(model.encode([{ role: "user", content: parts }])).toEqual(model.encode(asked));
    const called = { role: "assistant", content: null, tool_calls: [] };
    expect(model.encode([...asked, called])).toEqual(model.encode([...asked, { ...called, content: "" }]));
    for (const [wrong, message] of [
      [[], /prompt is no messages; allowed: text, messages or ids/],
      [[{ role: "user" }], /messages\[0\]\.content is undefined; allowed: a text or a list of text parts/],
      [[...asked, null], /messages\[1\] is null/],
      [[{ role: "user", content: [{ type: "text" }] }], /messages\[0\]\.content\[0\]\.text is undefined/],
      [
        [{ role: "user", content: [{ type: "image_url" }] }],
        /content\[0\] of type "image_url" is not supported/,
      ],
    ] as const)
      expect(() => model.encode(wrong as unknown as Prompt)).toThrow(message);
  });

  it("asks a sampler of the caller's, and refuses what is no token", async () => {
    const seen: number[] = [];
    const sampler = {
      next(logits: Float32Array, recent: readonly number[]) {
        seen.push(recent.length);
        return logits.indexOf(Math.max(...logits));
      },
    };
    const options = { maxTokens: 4, ignoreEnd: true };
    const { ids, promptTokens } = await model.generate(QUESTION, { ...options, sampler }).result();
    expect(ids).toEqual(wanted.slice(0, 4));
    expect(seen).toEqual([0, 1, 2, 3].map((more) => promptTokens + more));
    const ruled = {
      ...options,
      sampler: { next: () => 7 },
      constraint: { allowed: () => new Int32Array(2 ** 14).fill(1), accept() {} },
    };
    await expect(model.generate(QUESTION, ruled).result()).rejects.toThrow(/chose is 7; allowed: one whose/);
    for (const next of [() => -1, () => 2 ** 31, () => 0.5])
      await expect(model.generate(QUESTION, { sampler: { next } }).result()).rejects.toThrow(
        /chose is .*; allowed/,
      );
    const none = { sampler: {} } as unknown as { sampler: typeof sampler };
    await expect(model.generate(QUESTION, none).result()).rejects.toThrow(/sampler is object; allowed/);
  });

  it("refuses an option that is misspelt", async () => {
    const misspelt = { maxToken: 3 } as object;
    await expect(model.generate(QUESTION, misspelt).result()).rejects.toThrow(
      /option is maxToken; allowed: schema, tools.* maxTokens/,
    );
    await expect(load("needle", { kvs: "f16" } as object)).rejects.toThrow(
      /option is kvs; allowed: .*\bkv\b/,
    );
  });

  it("refuses a constraint that cannot accept", async () => {
    const constraint = { allowed: () => null } as unknown as Constraint;
    await expect(model.generate(QUESTION, { constraint }).result()).rejects.toThrow(
      /constraint is object; allowed: an object with allowed\(\) and accept/,
    );
  });

  it("runs one generation at a time, the others in the order in which they began", async () => {
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
    expect(done).toEqual(["third: waiting for its turn was stopped"]);
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

describe("several at once", () => {
  const PROMPTS = [QUESTION, "Who wrote Emma?", "Name a river in France."];
  const options = { maxTokens: 30, ignoreEnd: true, temperature: 0.8, seed: 7 };

  it("say at once what each says alone, and leave each its own text", async () => {
    const alone = await needle({ parallel: 3 });
    const wanted: (readonly number[])[] = [];
    for (const prompt of PROMPTS) wanted.push((await alone.generate(prompt, options).result()).ids);
    await alone.close();

    const model = await needle({ parallel: 3 });
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
    // Bit for bit: what others share of a packed cache is read packed.
    const model = await needle({ parallel: 2, context: 512, kv: "int4" });
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
    const model = await needle({ parallel: 1 });
    const pieces = model.generate(QUESTION)[Symbol.asyncIterator]();
    await pieces.next();
    const waiting = expect(model.generate(QUESTION).result()).rejects.toThrow("the model is closed");
    await model.close();
    await waiting;
  });
});

describe("an open text", () => {
  it("grows, forks, goes back and is saved, and says what a prompt says", async () => {
    const model = await needle({ parallel: 2 });
    const greedy = { maxTokens: 6, ignoreEnd: true };
    const text = model.open().append("The home city of ").append("Boris Thorne");
    const prompt = { ids: text.ids };
    const wanted = await model.generate(prompt, greedy).result();
    const other = text.fork();
    const [one, two] = await Promise.all([text.generate(greedy).result(), other.append(" is").logits()]);
    expect(one.ids).toEqual(wanted.ids);
    expect(text.ids).toEqual([...prompt.ids, ...one.ids]);
    expect(two.length).toBe(model.config.vocab);
    for await (const piece of text.rewind(prompt.ids.length).generate(greedy))
      if (piece.ids.length > 0) break;
    expect(text.ids).toEqual([...prompt.ids, ...wanted.ids.slice(0, text.ids.length - prompt.ids.length)]);
    const pieces: BlobPart[] = [];
    for await (const piece of text.save()) pieces.push(piece);
    expect((await model.restoreSession(blobSource(new Blob(pieces)))).tokens).toBe(text.ids.length);
    const busy = text.read();
    await expect(text.read()).rejects.toThrow("the text is busy");
    await busy;
    await expect(model.open().read()).rejects.toThrow("the prompt is empty");
    await model.close();
  });
});

describe("a saved session", () => {
  const saved = async (model: EngineModel, prompt: Prompt) => {
    const pieces: BlobPart[] = [];
    const saving = model.saveSession(prompt);
    for (let next = await saving.next(); ; next = await saving.next()) {
      if (next.done) {
        expect(next.value.tokens).toBe(model.encode(prompt).length);
        break;
      }
      pieces.push(next.value);
    }
    return new Blob(pieces);
  };

  it("goes on in another model, in another context, without being read again", async () => {
    const options = { maxTokens: 20, ignoreEnd: true };
    const first = await needle();
    const { ids } = await first.generate(QUESTION, options).result();
    const longer = { ids: [...first.encode(QUESTION), ...ids, 300, 301] };
    await expect(saved(first, longer)).rejects.toThrow("the text to save is held for the first");
    const file = await saved(first, { ids: longer.ids.slice(0, first.held(longer)) });
    const wanted = await first.generate(longer, options).result();
    await first.close();

    const second = await needle({ context: 512, parallel: 2, threads: 1 });
    const source = blobSource(file, "talk.kv");
    const { tokens } = await second.restoreSession(source);
    expect(tokens).toBe(longer.ids.length - 3);
    const found = await second.generate(longer, options).result();
    expect([found.reusedTokens, found.ids]).toEqual([wanted.reusedTokens, wanted.ids]);
    // Beside a generation, which it does not stop.
    const pieces = second.generate(QUESTION, options)[Symbol.asyncIterator]();
    await pieces.next();
    const [again] = await Promise.all([second.restoreSession(source), pieces.next()]);
    expect(again.tokens).toBe(tokens);
    await pieces.return();
    const aborted = second.restoreSession(source, { signal: AbortSignal.abort() });
    await expect(aborted).rejects.toThrow(AbortedError);
    await second.close();

    const other = await load("needle", { context: 256, threads: 1, kv: "f16" });
    await expect(other.restoreSession(source)).rejects.toThrow("talk.kv: version: 4; allowed: 2");
    await other.close();
  });

  it("knows its model", async () => {
    const tiny = async (seed: number) => {
      const file = tinyModel({
        tensors: (all) =>
          all.map((one, i) => (i === seed ? { ...one, data: one.data?.map((x) => x ^ 1) } : one)),
      });
      const checkpoint = await ggufCheckpoint(bufferSource("tiny.gguf", file));
      return loadEngineModel(checkpoint, () => wasmDevice({ threads: 1 }), { context: 64 });
    };
    const model = await tiny(-1);
    await model.generate({ ids: [259, 260, 261] }, { maxTokens: 2 }).result();
    const file = blobSource(await saved(model, { ids: [259, 260, 261] }), "tiny.kv");
    await model.close();
    for (const [seed, isSame] of [
      [-1, true],
      [0, false],
      [5, false],
    ] as const) {
      const other = await tiny(seed);
      const restored = other.restoreSession(file);
      if (isSame) expect((await restored).tokens).toBe(3);
      else await expect(restored).rejects.toThrow(/^tiny\.kv: fingerprint: "[0-9a-f]{32}", saved with /);
      await other.close();
    }
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
    let closed: EngineModel;
    {
      await using model = await needle({ threads: 1 });
      closed = model;
      expect((await model.generate(QUESTION, { maxTokens: 1 }).result()).ids.length).toBe(1);
    }
    await expect(closed.generate(QUESTION).result()).rejects.toThrow("closed");
  });
});
