/** Sixteen clients at once, counted in steps, rows and pages, so that no machine is too slow for it. */
import { describe, expect, it } from "vitest";
import type { Step } from "../../src/device/contract.ts";
import { type GenerateOptions, Generation, generateTokens } from "../../src/engine/generate.ts";
import { Text } from "../../src/engine/text.ts";
import { piecesTokenizer, type ScriptOptions, scripted } from "./scripted.ts";
import { pagesOf } from "./tiny-graph.ts";

const VOCAB = 50;
const tokenizer = piecesTokenizer(Array.from({ length: VOCAB - 1 }, (_, i) => `${i} `));
/** By place and last ids only: texts are long. */
const said = (position: number, ids: readonly number[]) =>
  1 + ((position * 7 + ids[position - 1] * 3 + ids[position - 2]) % (VOCAB - 1));

function open(options: Partial<ScriptOptions>) {
  const made = scripted(said, { vocab: VOCAB, ...options });
  const generate = (prompt: readonly number[], generation: GenerateOptions = {}) =>
    new Generation(generateTokens(new Text(made.scheduler), tokenizer, prompt, generation));
  return { ...made, generate };
}

function wanted(prompt: readonly number[], count: number): number[] {
  const all = [...prompt];
  for (let i = 0; i < count; i++) all.push(said(all.length, all));
  return all.slice(prompt.length);
}

const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
const rowsOf = ({ runs }: Step) => sum(runs.map(({ ids }) => ids.length));

describe("sixteen clients with one document of 8,000 tokens and a question each", () => {
  it.each([false, true])(
    "read it once, into pages of one document; the device chooses: %s",
    async (chooses) => {
      const CLIENTS = 16;
      const ANSWER = 12;
      let mostUsed = 0;
      const { generate, scheduler, steps } = open({
        ...{ texts: CLIENTS, chunk: 512, context: 8448, cacheTokens: 10_240, chooses },
        wait: async () => {
          mostUsed = Math.max(mostUsed, scheduler.pages.used);
          await new Promise(setImmediate);
        },
      });
      const document = Array.from({ length: 8000 }, (_, i) => 1 + ((i * 5 + (i >> 4)) % (VOCAB - 1)));
      const prompts = Array.from({ length: CLIENTS }, (_, c) => [...document, c + 1, c + 2, 3]);
      const all = await Promise.all(
        prompts.map((prompt) => generate(prompt, { maxTokens: ANSWER }).result()),
      );
      all.forEach(({ ids }, c) => {
        expect(ids).toEqual(wanted(prompts[c], ANSWER));
      });
      // 8,000 tokens are 250 whole pages; each client has one of its own, for its question and its answer.
      expect(mostUsed).toBeLessThanOrEqual(250 + CLIENTS);
      expect(sum(all.map(({ reusedTokens }) => reusedTokens))).toBe(15 * 8000);
      const read = 8000 + CLIENTS * 3;
      // Where the device chooses, some steps more are under way when a text ends.
      const generated = CLIENTS * (ANSWER - 1);
      expect(sum(steps.map(rowsOf))).toBe(read + generated);
      expect(steps.length).toBeLessThanOrEqual(Math.ceil(read / 512) + ANSWER + 1);
      expect(pagesOf(scheduler)).toMatchObject({ used: 0 });
    },
  );
});

describe("the first token of a new request while eight others generate", () => {
  it.each([false, true])(
    "comes after as many steps as its prompt needs, and each step gives the others a token; the device chooses: %s",
    async (chooses) => {
      // A row takes a millisecond: of a step of 50 the prompt gets 32 rows, the least that it may have.
      let now = 0;
      const wait = async (step: Step) => {
        now += rowsOf(step);
        await new Promise(setImmediate);
      };
      const { generate, scheduler, steps } = open({
        ...{ texts: 10, chunk: 512, context: 1024, chooses, wait, clock: () => now },
      });
      const others = Array.from({ length: 8 }, (_, c) => generate([c + 1, 2, 3], { maxTokens: 150 }));
      const running = others.map((one) => one[Symbol.asyncIterator]());
      await Promise.all(running.map((one) => one.next()));
      const results = others.map((one) => one.result());
      const prompts = [600, 320].map((tokens, c) =>
        Array.from({ length: tokens }, (_, i) => 1 + ((i * (c + 3)) % 40)),
      );
      const from = steps.length;
      const firsts = prompts.map(async (prompt) => {
        const pieces = generate(prompt, { maxTokens: 2 })[Symbol.asyncIterator]();
        await pieces.next();
        const came = steps.length - from;
        while (!(await pieces.next()).done);
        return came;
      });
      const [long, short] = await Promise.all(firsts);
      const during = steps.slice(from, from + long);
      // Steps that were under way when it came, and after its last row until it was heard of.
      const late = chooses ? 9 : 2;
      expect(long).toBeLessThanOrEqual(Math.ceil((600 + 320) / 32) + late);
      // Of two prompts the short one is not behind the long one.
      expect(short).toBeLessThanOrEqual(Math.ceil((2 * 320) / 32) + late);
      for (const step of during) {
        const generating = step.runs.filter(({ ids, outputs }) => ids.length === 1 && outputs === 1);
        expect(generating.length).toBeGreaterThanOrEqual(8);
        expect(rowsOf(step) - generating.length).toBeLessThanOrEqual(32);
      }
      for (const [c, result] of results.entries())
        expect((await result).ids).toEqual(wanted([c + 1, 2, 3], 150));
      expect(pagesOf(scheduler).used).toBe(0);
    },
  );
});
