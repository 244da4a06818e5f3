/** A second model that guesses: the text stays, steps are saved where it is right, and nothing of it is left behind. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { load } from "../../src/answer/load.ts";
import { DraftModel } from "../../src/engine/draft.ts";
import { type GenerateOptions, Generation, generateTokens } from "../../src/engine/generate.ts";
import { guessWith } from "../../src/engine/guess-with.ts";
import { checkTokens } from "../../src/engine/load-draft.ts";
import { draftSource, Text } from "../../src/engine/text.ts";
import { DeviceError } from "../../src/format/errors.ts";
import type { Tokenizer } from "../../src/format/tokenizer.ts";
import { gaussian, random } from "../device/random-tensor.ts";
import { END, piecesTokenizer, type ScriptOptions, scripted } from "./scripted.ts";
import { pagesOf } from "./tiny-graph.ts";
import { openFiles, TELLS_RESOURCES, tinyModel } from "./tiny-model.ts";

const VOCAB = 60;
const tokenizer = piecesTokenizer(Array.from({ length: VOCAB - 1 }, (_, i) => `${i} `));

/** By the last two ids; `noise` makes it another model that mostly agrees. */
function model(noise: number) {
  return (position: number, ids: readonly number[]): Float32Array => {
    const next = random(7 + 61 * (ids.at(-1) ?? 0) + 997 * (ids.at(-2) ?? 0) + 31 * position);
    const other = random(position + 5);
    return Float32Array.from({ length: VOCAB }, (_, id) =>
      id === END ? -9 : 3 * gaussian(next) + noise * gaussian(other),
    );
  };
}

function open(
  noise: number,
  options: Partial<ScriptOptions> = {},
  draftOptions: Partial<ScriptOptions> = {},
) {
  let now = 0;
  const common = { vocab: VOCAB, context: 256, chunk: 64, ...options };
  const large = scripted(model(0), { ...common, guess: 15, clock: () => now++ });
  const small = scripted(model(noise), { ...common, ...draftOptions });
  large.scheduler.guessWith(new DraftModel(draftSource(small.scheduler), 0, () => 0));
  const generate = (prompt: readonly number[], generation: GenerateOptions = {}) =>
    new Generation(generateTokens(new Text(large.scheduler), tokenizer, prompt, generation));
  return { large, small, generate };
}

const plain = (prompt: readonly number[], options: GenerateOptions) => {
  const { scheduler } = scripted(model(0), { vocab: VOCAB, context: 256, chunk: 64 });
  return new Generation(generateTokens(new Text(scheduler), tokenizer, prompt, options)).result();
};

describe("a draft model", () => {
  it("is refused by a model that checks no guesses, as one with recurrent states", () => {
    const given = (guess: number) => {
      const { scheduler } = scripted(model(0), { vocab: VOCAB, context: 256, chunk: 64, guess });
      return { scheduler, plan: { weightBytes: 1 } };
    };
    expect(() => guessWith(given(0), given(0))).toThrow(
      "draft is given; allowed: none: a model with recurrent states checks no guesses",
    );
    const checking = given(15);
    guessWith(checking, given(0));
    expect(checking.scheduler.draft).not.toBeNull();
  });

  it.each([false, true])(
    "that says the same saves steps, also with a temperature; the device chooses: %s",
    async (chooses) => {
      const { large, small, generate } = open(0, { chooses });
      for (const options of [{ maxTokens: 100 }, { maxTokens: 100, temperature: 1, topK: 0, seed: 5 }]) {
        const before = large.steps.length;
        const found = await generate([1, 2, 3], options).result();
        expect(found.ids).toEqual((await plain([1, 2, 3], options)).ids);
        expect(large.steps.length - before).toBeLessThan(60);
        expect(found.acceptedTokens).toBeGreaterThan(45);
        expect(found.acceptedTokens).toBeGreaterThan(0.95 * found.draftedTokens);
      }
      expect([large, small].map(({ scheduler }) => pagesOf(scheduler).used)).toEqual([0, 0]);
    },
  );

  it("that is another changes no text, of many at once", async () => {
    let accepted = 0;
    let rejected = 0;
    const options = fc.record({
      temperature: fc.constantFrom(0, 1),
      seed: fc.nat(99),
      repeatPenalty: fc.constantFrom(1, 1.2),
      maxTokens: fc.integer({ min: 1, max: 60 }),
    });
    const property = fc.asyncProperty(
      fc.array(options, { minLength: 1, maxLength: 4 }),
      fc.constantFrom(0.5, 3),
      fc.boolean(),
      async (clients, noise, chooses) => {
        const { large, small, generate } = open(noise, { chooses, texts: 2 });
        const all = clients.map((client, i) => generate([i + 1, 2, 3], client).result());
        for (const [i, one] of (await Promise.all(all)).entries()) {
          expect(one.ids).toEqual((await plain([i + 1, 2, 3], clients[i])).ids);
          accepted += one.acceptedTokens;
          rejected += one.draftedTokens - one.acceptedTokens;
        }
        for (let i = 0; i < 5; i++) await new Promise(setImmediate);
        for (const { scheduler } of [large, small]) {
          expect(scheduler.activity).toEqual({ running: 0, waiting: 0 });
          expect(pagesOf(scheduler).used).toBe(0);
        }
      },
    );
    await fc.assert(property, { numRuns: 20, seed: 1 });
    expect(accepted).toBeGreaterThan(100);
    expect(rejected).toBeGreaterThan(100);
  });

  it("whose context is shorter guesses as far as it goes", async () => {
    const { generate } = open(0, {}, { context: 64 });
    const found = await generate([1, 2, 3], { maxTokens: 200 }).result();
    expect(found.ids).toEqual((await plain([1, 2, 3], { maxTokens: 200 })).ids);
    expect(found.acceptedTokens).toBeGreaterThan(20);
    expect(found.acceptedTokens).toBeLessThan(64);
  });

  it("that fails ends the text with its error", async () => {
    const { large, generate } = open(0, {}, { failsAt: 40 });
    await expect(generate([1, 2, 3], { maxTokens: 100 }).result()).rejects.toThrow(DeviceError);
    expect(pagesOf(large.scheduler).used).toBe(0);
  });

  it("stops with the text that it guesses for", async () => {
    const { large, small, generate } = open(0, {}, { hangsAt: 20, chooses: true });
    const controller = new AbortController();
    const result = generate([1, 2, 3], { maxTokens: 100, signal: controller.signal }).result();
    const ended = expect(result).rejects.toThrow("stopped");
    for (let i = 0; i < 60; i++) await new Promise(setImmediate);
    expect(small.scheduler.activity.running).toBe(1);
    controller.abort();
    await ended;
    expect([large, small].map(({ scheduler }) => scheduler.activity.running)).toEqual([0, 0]);
  });

  it("is loaded beside the model, and closed with it", async () => {
    const options = { device: "cpu", threads: 1, context: 256 } as const;
    const asked = { maxTokens: 40, temperature: 0.8, seed: 3, ignoreEnd: true };
    const alone = await load("needle", options);
    const wanted = await alone.generate("The ship", { ...asked, raw: true }).result();
    await alone.close();
    const model = await load("needle", { ...options, draft: "needle", parallel: 2 });
    const found = await model.generate("The ship", { ...asked, raw: true }).result();
    expect(found.ids).toEqual(wanted.ids);
    await model.close();
    await expect(model.generate("The ship").result()).rejects.toThrow("closed");
    await expect(load("needle", { ...options, draft: "needle", guess: 0 })).rejects.toThrow(
      "draft is needle; allowed: none where guess is 0",
    );
  });

  it("with other tokens is refused, and nothing stays open", async () => {
    const folder = mkdtempSync(join(tmpdir(), "draft-"));
    const tiny = join(folder, "tiny.gguf");
    writeFileSync(tiny, tinyModel());
    await expect(load("needle", { device: "cpu", threads: 1, context: 64, draft: tiny })).rejects.toThrow(
      "draft is 264 tokens where the model has 4096",
    );
    if (TELLS_RESOURCES) expect(openFiles(tiny)).toBe(0);
    rmSync(folder, { recursive: true });
  });

  it("has the same tokens, or is refused with the first that differs", () => {
    const of = (texts: string[]) => {
      const bytes = texts.map((text) => new TextEncoder().encode(text));
      return { vocab: texts.length, bytes: (id: number) => bytes[id] } as unknown as Tokenizer;
    };
    expect(() => checkTokens(of(["a", "b"]), of(["a", "b"]))).not.toThrow();
    expect(() => checkTokens(of(["a", "b"]), of(["a", "c"]))).toThrow(
      'draft is token 1 is "c" where the model has "b"; allowed: a model with the same tokens',
    );
    expect(() => checkTokens(of(["a", "b"]), of(["a"]))).toThrow("1 tokens where the model has 2");
  });
});
