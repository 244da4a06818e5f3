/** What a generation tells about its tokens, and what limits them: likelihoods, constraints, control tokens as text. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type GenerateOptions, Generation, generateTokens } from "../../src/engine/generate.ts";
import { likelihood } from "../../src/engine/likelihood.ts";
import type { Constraint } from "../../src/engine/tokens.ts";
import { gaussian, random } from "../device/random-tensor.ts";
import { END, piecesTokenizer, scripted } from "./scripted.ts";

const LETTERS = [..."abcdefghijklmnopqrstuvwxyz0123456789"];
const VOCAB = LETTERS.length + 1;
const PROMPT = [1, 2, 3];

function logitsAt(position: number): Float32Array {
  const next = random(position);
  return Float32Array.from({ length: VOCAB }, (_, id) => (id === END ? -9 : 2 * gaussian(next)));
}

function generate(options: GenerateOptions, chooses = false) {
  const { text, asked } = scripted(logitsAt, { vocab: VOCAB, context: 40, chooses });
  const pieces = generateTokens(text, piecesTokenizer(LETTERS), PROMPT, options);
  return { generation: new Generation(pieces), text, asked };
}

/** Only these ids, `count` times; then none. */
function only(ids: readonly number[], count = Number.POSITIVE_INFINITY) {
  const accepted: number[] = [];
  const constraint: Constraint = {
    allowed() {
      const words = new Int32Array(Math.ceil(VOCAB / 32));
      if (accepted.length < count) for (const id of ids) words[id >> 5] |= 1 << (id & 31);
      return words;
    },
    accept: (id) => void accepted.push(id),
  };
  return { constraint, accepted };
}

describe("likelihoods", () => {
  const logits = fc
    .array(fc.oneof(fc.double({ min: -50, max: 50, noNaN: true }), fc.constant(Number.NEGATIVE_INFINITY)), {
      minLength: 1,
      maxLength: 200,
    })
    .filter((all) => all.some((logit) => logit > Number.NEGATIVE_INFINITY))
    .map((all) => Float32Array.from(all));

  it("are of a distribution, largest first, ties by id", () => {
    fc.assert(
      fc.property(logits, fc.nat(199), fc.nat(250), (all, at, count) => {
        const id = at % all.length;
        const { top, logprob } = likelihood(all, id, count);
        const every = [...all.keys()].map((of) => likelihood(all, of, 0).logprob);
        const sum = every.reduce((total, one) => total + Math.exp(one), 0);
        expect(sum).toBeCloseTo(1, 6);
        expect(logprob).toBe(every[id]);
        const order = [...all.keys()]
          .filter((of) => all[of] > Number.NEGATIVE_INFINITY)
          .sort((a, b) => all[b] - all[a] || a - b);
        expect(top.map(({ id }) => id)).toEqual(order.slice(0, count));
      }),
      { numRuns: 300 },
    );
  });

  it("come with every token, and change none", async () => {
    const plain = await generate({ temperature: 1, seed: 3, maxTokens: 12 }, true).generation.result();
    const told = generate({ temperature: 1, seed: 3, maxTokens: 12, logprobs: 2 }, true);
    const ids: number[] = [];
    for await (const piece of told.generation) {
      expect(piece.likelihoods?.map(({ id }) => id)).toEqual(piece.ids);
      for (const { id, logprob, top } of piece.likelihoods ?? []) {
        const position = PROMPT.length + ids.length;
        expect({ id, logprob, top }).toEqual(likelihood(logitsAt(position), id, 2));
        ids.push(id);
      }
    }
    expect(ids).toEqual(plain.ids);
    expect(told.asked).toEqual(new Array(12).fill("read"));
  });

  it("are those before penalties", async () => {
    const { generation } = generate({ repeatPenalty: 50, maxTokens: 1, logprobs: 1 });
    for await (const { likelihoods = [] } of generation)
      for (const { id, logprob } of likelihoods)
        expect(logprob).toBe(likelihood(logitsAt(PROMPT.length), id, 1).logprob);
    expect((await generation.result()).generatedTokens).toBe(1);
  });

  it.each([-1, 101, 1.5, Number.NaN])("%d of them are refused", async (logprobs) => {
    await expect(generate({ logprobs }).generation.result()).rejects.toThrow(
      /logprobs is .*integers 0 to 100/,
    );
  });
});

describe("a constraint", () => {
  it("is kept by every option, and hears every token", async () => {
    const options = fc.record({
      temperature: fc.constantFrom(0, 0.7, 1.5),
      topK: fc.constantFrom(0, 1, 5, 40),
      topP: fc.constantFrom(0.1, 1),
      minP: fc.constantFrom(0, 0.5),
      repeatPenalty: fc.constantFrom(1, 1.3, 0.5),
      seed: fc.nat(1000),
    });
    const allowed = fc.uniqueArray(fc.integer({ min: 1, max: VOCAB - 1 }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(options, allowed, fc.boolean(), async (options, ids, chooses) => {
        const { constraint, accepted } = only(ids);
        const { generation } = generate({ ...options, constraint, maxTokens: 8 }, chooses);
        const result = await generation.result();
        // The same from all logits, and from a device's largest few.
        const other = generate({ ...options, constraint: only(ids).constraint, maxTokens: 8 }, !chooses);
        expect((await other.generation.result()).ids).toEqual(result.ids);
        expect(result.ids).toHaveLength(8);
        for (const id of result.ids) expect(ids).toContain(id);
        expect(accepted).toEqual(result.ids);
      }),
      { numRuns: 200 },
    );
  });

  it("that allows nothing more ends the text", async () => {
    const { generation } = generate({ constraint: only([5], 3).constraint });
    expect(await generation.result()).toMatchObject({ text: "eee", stopReason: "end", generatedTokens: 3 });
    const none = generate({ constraint: only([], 3).constraint });
    expect(await none.generation.result()).toMatchObject({ text: "", stopReason: "end", generatedTokens: 0 });
  });

  it("may allow what the model rules out", async () => {
    const { text } = scripted(() => new Float32Array(VOCAB).fill(Number.NEGATIVE_INFINITY).fill(1, 1, 2), {
      vocab: VOCAB,
      context: 40,
    });
    const options = { constraint: only([7, 9], 2).constraint, temperature: 1, topK: 0 };
    const result = await new Generation(
      generateTokens(text, piecesTokenizer(LETTERS), PROMPT, options),
    ).result();
    for (const id of result.ids) expect([7, 9]).toContain(id);
  });

  it("is held against a device's largest logits, and against all where these are too few", async () => {
    const order = [...logitsAt(PROMPT.length).keys()].sort((a, b) => logitsAt(3)[b] - logitsAt(3)[a]);
    const greedy = { maxTokens: 1, temperature: 0 };
    const near = generate({ ...greedy, constraint: only(order.slice(1, 3)).constraint }, true);
    expect((await near.generation.result()).ids).toEqual([order[1]]);
    expect(near.asked).toEqual(["candidates 64"]);
    const many = generate(
      { maxTokens: 1, temperature: 1, topK: 5, constraint: only(order.slice(3, 6)).constraint },
      true,
    );
    await many.generation.result();
    expect(many.asked).toEqual(["candidates 64", "read"]);
  });

  it("without a mask changes nothing", async () => {
    const free: Constraint = { allowed: () => null, accept() {} };
    const plain = await generate({ temperature: 1, seed: 4, maxTokens: 9 }).generation.result();
    const result = await generate({
      temperature: 1,
      seed: 4,
      maxTokens: 9,
      constraint: free,
    }).generation.result();
    expect(result.ids).toEqual(plain.ids);
  });
});
