/** Where tokens come from makes no difference: a device that chooses, few candidates, or all logits. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Step } from "../../src/device/contract.ts";
import { type GenerateOptions, Generation, generateTokens, type Piece } from "../../src/engine/generate.ts";
import { AbortedError, DeviceError } from "../../src/format/errors.ts";
import { gaussian, random } from "../device/random-tensor.ts";
import { END, piecesTokenizer, type ScriptOptions, scripted } from "./scripted.ts";

const PROMPT = [1, 2, 3];
const LETTERS = [..."abcdefghijklmnopqrstuvwxyz"];
const VOCAB = LETTERS.length + 1;

/** Logits by position alone, a little like a model's. */
function logitsAt(position: number): Float32Array {
  const next = random(position);
  return Float32Array.from({ length: VOCAB }, (_, id) => (id === END ? -1 : 2 * gaussian(next)));
}

function open(options: Partial<ScriptOptions> = {}, at: (p: number) => number | Float32Array = logitsAt) {
  const script = scripted(at, { vocab: VOCAB, context: 40, ...options });
  const generate = (prompt: readonly number[], options: GenerateOptions = {}) =>
    new Generation(generateTokens(script.text, piecesTokenizer(LETTERS), prompt, options));
  return { ...script, generate };
}

/** The first position of each step's only run. */
const positions = (steps: readonly Step[]) => steps.map(({ runs }) => runs[0].position);

const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await new Promise(setImmediate);
};

/** All that a caller sees, without times, and without what pages keep of rows that nobody waited for. */
async function seen(generation: Generation) {
  const pieces: Piece[] = [];
  for await (const piece of generation) pieces.push(piece);
  const { promptMs, generateMs, reusedTokens, ...result } = await generation.result();
  return { pieces, result };
}

describe("a device that chooses", () => {
  const options = fc.record({
    seed: fc.nat(1000),
    temperature: fc.constantFrom(0, 0.7, 1.5),
    topK: fc.constantFrom(0, 1, 5, 40),
    topP: fc.constantFrom(0.5, 1),
    minP: fc.constantFrom(0, 0.05),
    repeatPenalty: fc.constantFrom(1, 1, 1.3, 0.8),
    repeatLast: fc.constantFrom(0, 4, 64),
    maxTokens: fc.oneof(fc.nat(6), fc.constant(Number.POSITIVE_INFINITY)),
    stop: fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 2 }), {
      maxLength: 2,
    }),
    ignoreEnd: fc.boolean(),
  });

  it("gives what the host gives: pieces, result and text, also in the next turn", async () => {
    const turn = fc.record({ options, unprovenAt: fc.integer({ min: 3, max: 60 }) });
    const property = fc.asyncProperty(turn, options, async ({ options, unprovenAt }, more) => {
      const host = open();
      const device = open({ chooses: true, unprovenAt });
      const first = await seen(host.generate(PROMPT, options));
      expect(await seen(device.generate(PROMPT, options))).toEqual(first);
      expect(device.text.ids).toEqual(host.text.ids);
      const longer = [...PROMPT, ...first.result.ids, 5].slice(0, 40);
      const second = await seen(host.generate(longer, more));
      expect(await seen(device.generate(longer, more))).toEqual(second);
      expect(device.text.ids).toEqual(host.text.ids);
    });
    await fc.assert(property, { numRuns: 150, seed: 1 });
  });

  it("has four steps under way, and few more than were taken", async () => {
    let go = () => {};
    const wait = () => new Promise<void>((resolve) => (go = resolve));
    const { generate, steps } = open({ chooses: true, wait }, () => 1);
    const pieces = generate(PROMPT)[Symbol.asyncIterator]();
    pieces.next();
    await turns(3);
    // The first has not ended: the others wait for it on the device, not here.
    expect(positions(steps)).toEqual([0, 3, 4, 5]);
    go();
    const slow = open({ chooses: true }, () => 1);
    const taken = slow.generate(PROMPT)[Symbol.asyncIterator]();
    await taken.next();
    await turns(20);
    expect(slow.steps.length).toBe(9);
    await taken.next();
    await turns(20);
    expect(slow.steps.length).toBe(10);
  });

  it("starts none past maxTokens or the context", async () => {
    for (const { maxTokens, context, wanted } of [
      { maxTokens: 3, context: 40, wanted: [0, 3, 4] },
      { maxTokens: 1, context: 40, wanted: [0] },
      { maxTokens: 0, context: 40, wanted: [0] },
      { maxTokens: 9, context: 5, wanted: [0, 3, 4] },
      { maxTokens: 9, context: 3, wanted: [0] },
    ]) {
      const { generate, steps } = open({ chooses: true, context }, () => 1);
      await generate(PROMPT, { maxTokens }).result();
      expect(positions(steps)).toEqual(wanted);
    }
  });

  it("is not waited for when the text has ended", async () => {
    // Positions 3 to 5 are stepped through when the end token, sampled at 5, is taken.
    const { generate, steps } = open({ chooses: true, hangsAt: 5 }, (p) => (p === 5 ? END : 1));
    const { text, stopReason } = await generate(PROMPT).result();
    expect([text, stopReason]).toEqual(["aa", "end"]);
    expect(positions(steps).at(-1)).toBeGreaterThanOrEqual(5);
  });

  it("reads no logits, but where the host has to choose", async () => {
    const device = open({ chooses: true });
    await device.generate(PROMPT, { temperature: 1, seed: 1, maxTokens: 5 }).result();
    expect(device.asked).toEqual([]);
    const penalty = open({ chooses: true });
    await penalty.generate(PROMPT, { repeatPenalty: 1.1, temperature: 1, topK: 5, maxTokens: 2 }).result();
    expect(penalty.asked).toEqual(["candidates 8", "candidates 9"]);
    const raised = open({ chooses: true });
    await raised.generate(PROMPT, { repeatPenalty: 0.9, maxTokens: 2 }).result();
    expect(raised.asked).toEqual(["read", "read"]);
    const unproven = open({ chooses: true, unprovenAt: 5 });
    await unproven.generate(PROMPT, { temperature: 1, topK: 0, seed: 1, maxTokens: 5 }).result();
    expect(unproven.asked).toEqual(["read", "read", "read"]);
  });

  it("an abort or a left loop ends it, and the text goes on from what was taken", async () => {
    const { generate, text: into } = open({ chooses: true }, (p) => 1 + (p % 5));
    const controller = new AbortController();
    const run = async () => {
      for await (const _ of generate(PROMPT, { signal: controller.signal })) controller.abort();
    };
    await expect(run()).rejects.toThrow(AbortedError);
    expect(into.ids).toEqual([...PROMPT]);
    for await (const { text } of generate(PROMPT)) if (text === "a") break;
    expect(into.ids).toEqual([...PROMPT, 4, 5]);
    const { text } = await generate([...PROMPT, 4, 5], { maxTokens: 6 }).result();
    expect(text).toBe("abcdea");
  });

  it("that is lost in the middle is one error, and not an endless wait", async () => {
    const { generate } = open({ chooses: true, failsAt: 6 }, () => 1);
    const all: string[] = [];
    const run = async () => {
      for await (const { text } of generate(PROMPT)) all.push(text);
    };
    await expect(run()).rejects.toThrow(DeviceError);
    expect(all.length).toBeLessThan(5);
    await expect(generate([1, 2, 3, 1, 1, 1, 1, 1]).result()).rejects.toThrow(DeviceError);
  });
});
