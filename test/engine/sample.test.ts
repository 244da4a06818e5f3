/** The sampler against a brute-force one: which tokens may come, how often, and that nothing odd in logits breaks it. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { argmax, type SampleOptions, sampler } from "../../src/engine/sample.ts";
import { ArgumentError } from "../../src/format/errors.ts";

/** Draws many times; gives how often each id came. */
function draws(logits: readonly number[], options: SampleOptions, count: number): Map<number, number> {
  const sample = sampler({ seed: 7, ...options });
  const counts = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const id = sample.next(Float32Array.from(logits), [], i);
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}

/** The kept ids, most likely first, and their probabilities, by the definitions alone. */
function kept(logits: readonly number[], options: SampleOptions): { id: number; probability: number }[] {
  const { temperature = 1, topK = 40, topP = 0.95, minP = 0.05 } = options;
  const softmax = (list: number[]) => {
    const weights = list.map((x) => Math.exp(x - Math.max(...list)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((w) => w / sum);
  };
  let order = logits
    .map((logit, id) => ({ id, logit: Math.fround(logit) }))
    .filter(({ logit }) => logit > Number.NEGATIVE_INFINITY)
    .sort((a, b) => b.logit - a.logit || a.id - b.id);
  if (topK > 0) order = order.slice(0, topK);
  const probabilities = softmax(order.map(({ logit }) => logit));
  let sum = 0;
  let nucleus = 0;
  while (nucleus < order.length && (nucleus === 0 || sum < topP)) sum += probabilities[nucleus++];
  order = order.slice(0, nucleus).filter((_, i) => i === 0 || probabilities[i] >= minP * probabilities[0]);
  const tempered = softmax(order.map(({ logit }) => logit / temperature));
  return order.map(({ id }, i) => ({ id, probability: tempered[i] }));
}

describe("options", () => {
  it.each([
    ["temperature", [-0.1, 101, Number.NaN, "1", Number.POSITIVE_INFINITY], [0, 1e-9, 100]],
    ["topK", [-2, 1.5, 2 ** 32, null], [-1, 0, 1, 2 ** 31]],
    ["topP", [-1, 1.01, Number.NaN], [0, 1e-9, 1]],
    ["minP", [-0.1, 1.1], [0, 1]],
    ["repeatPenalty", [0, -1, 101], [0.5, 1, 100]],
    ["repeatLast", [-2, 0.5], [-1, 0, 64]],
    ["seed", [0.5, 2 ** 65, 1e300, "7"], [-1, 0, 2 ** 32 - 1, -7, 2 ** 40, -(2 ** 63), 2 ** 63, 2 ** 64]],
  ])("%s: %o are refused by name and value, %o are taken", (key, wrong, right) => {
    for (const value of wrong) {
      const options = { [key]: value } as SampleOptions;
      expect(() => sampler(options)).toThrow(ArgumentError);
      expect(() => sampler(options)).toThrow(`${key} is ${value}`);
    }
    for (const value of right) {
      const next = sampler({ temperature: 1, [key]: value }).next(Float32Array.of(1, 2, 3), [0, 1], 0);
      expect([0, 1, 2]).toContain(next);
    }
  });

  it("undefined is as good as absent", () => {
    expect(sampler({ temperature: undefined, topK: undefined }).next(Float32Array.of(0, 5, 1), [], 0)).toBe(
      1,
    );
  });

  it("-1 turns top-k off and looks back over the whole text; top-p 0 keeps one", () => {
    const logits = [3, 2.9, 2.8, 2.7];
    const wide = { temperature: 5, topP: 1, minP: 0 };
    expect([...draws(logits, { ...wide, topK: -1 }, 200).keys()].sort()).toEqual([0, 1, 2, 3]);
    expect([...draws(logits, { ...wide, topP: 0 }, 50).keys()]).toEqual([0]);
    expect(sampler({ topK: -1 }).sampling(0)?.topK).toBe(0);
    const recent = [0, ...new Array(100).fill(3)];
    const next = (repeatLast?: number) =>
      sampler({ repeatPenalty: 2, repeatLast }).next(Float32Array.from(logits), recent, 0);
    expect([next(-1), next(), next(0)]).toEqual([1, 0, 0]);
    expect(sampler({ repeatPenalty: 2, repeatLast: -1, topK: 5, temperature: 1 }).enough(100)).toBe(105);
  });

  it("a seed keeps its lowest 32 bits; -1 is any", () => {
    const seeds = [2 ** 32 - 1, 2 ** 32 + 5, -7, 2 ** 63 + 2 ** 11, -(2 ** 63)];
    expect(seeds.map((seed) => sampler({ seed }).seed)).toEqual([2 ** 32 - 1, 5, 2 ** 32 - 7, 2048, 0]);
    const any = new Set(Array.from({ length: 8 }, () => sampler({ seed: -1 }).seed));
    expect(any.size).toBeGreaterThan(1);
  });

  it("a seed is chosen, told, and gives the same again", () => {
    const first = sampler({ temperature: 2 });
    const second = sampler({ temperature: 2, seed: first.seed });
    const logits = Float32Array.from({ length: 50 }, (_, i) => Math.sin(i));
    const ids = Array.from({ length: 40 }, (_, i) => first.next(logits, [], i));
    expect(Array.from({ length: 40 }, (_, i) => second.next(logits, [], i))).toEqual(ids);
    expect(new Set(ids).size).toBeGreaterThan(5);
  });
});

/** Probabilities on the edge of a cut are right on either side of it: such examples are left out. */
function onEdge(logits: readonly number[], options: SampleOptions): boolean {
  const moved = (by: number) =>
    JSON.stringify(
      kept(logits, {
        ...options,
        topP: Math.min(1, options.topP! * (1 + by)),
        minP: options.minP! * (1 + by),
      }).map(({ id }) => id),
    );
  return moved(1e-6) !== moved(-1e-6);
}

describe("cuts", () => {
  const logit = fc.oneof(
    fc.integer({ min: -8, max: 8 }),
    fc.double({ min: -10, max: 10, noNaN: true }),
    fc.constant(Number.NEGATIVE_INFINITY),
  );
  const options = fc.record({
    topK: fc.oneof(fc.integer({ min: 0, max: 12 }), fc.constant(300)),
    topP: fc.oneof(fc.double({ min: 0.01, max: 1, noNaN: true }), fc.constant(1)),
    minP: fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constant(0)),
  });

  it("leave the tokens that a brute-force search leaves", () => {
    const property = fc.property(fc.array(logit, { minLength: 1, maxLength: 30 }), options, (logits, cut) => {
      fc.pre(logits.some(Number.isFinite) && !onEdge(logits, cut));
      const wanted = kept(logits, cut).map(({ id }) => id);
      // At temperature 100 what is kept is nearly equally likely: all of it comes.
      const found = draws(logits, { ...cut, temperature: 100 }, 40 * wanted.length);
      expect([...found.keys()].sort((a, b) => a - b)).toEqual(wanted.sort((a, b) => a - b));
    });
    fc.assert(property, { numRuns: 300, seed: 1 });
  });

  it("do the same for vocabularies beyond the inserted list, with and without top-k", () => {
    // Steps of 1/8, so that many are equal.
    const logits = Array.from({ length: 800 }, (_, i) => Math.round(Math.sin(i * 1.7) * 32) / 8);
    for (const cut of [
      { topK: 0, topP: 0.3, minP: 0 },
      { topK: 300, topP: 1, minP: 0 },
      { topK: 299, topP: 0.5, minP: 0.1 },
      { topK: 0, topP: 0.9999, minP: 0.9 },
      { topK: 256, topP: 0.9, minP: 0 },
      { topK: 257, topP: 0.9, minP: 0 },
    ]) {
      const wanted = new Set(kept(logits, cut).map(({ id }) => id));
      const found = draws(logits, { ...cut, temperature: 100 }, 4 * wanted.size);
      for (const id of found.keys()) expect(wanted).toContain(id);
      expect(found.size).toBeGreaterThan(0.9 * wanted.size);
    }
  });
});

describe("frequencies", () => {
  it.each([
    { temperature: 1, topK: 0, topP: 1, minP: 0 },
    { temperature: 0.5, topK: 0, topP: 1, minP: 0 },
    { temperature: 3, topK: 5, topP: 1, minP: 0 },
    { temperature: 1, topK: 40, topP: 0.8, minP: 0.05 },
  ])("follow the tempered softmax of what is kept: %o", (options) => {
    const logits = [2, 0.5, 1, -1, 0, 1.5, 0.5, -3];
    const count = 20_000;
    const found = draws(logits, options, count);
    const wanted = kept(logits, options);
    // Pearson's chi squared: beyond 35 for 7 degrees of freedom has a chance of 1e-5, and the seed is fixed.
    let chi = 0;
    for (const { id, probability } of wanted)
      chi += ((found.get(id) ?? 0) - count * probability) ** 2 / (count * probability);
    expect(chi).toBeLessThan(35);
    expect([...found.keys()].every((id) => wanted.some((w) => w.id === id))).toBe(true);
  });

  it("temperature towards 0 is the most likely token, 0 is it exactly and the first of equals", () => {
    const logits = [1, 3, 3, 2.999];
    expect([...draws(logits, { temperature: 1e-9 }, 50).keys()].sort()).toEqual([1, 2]);
    expect([...draws([1, 3, 2.999], { temperature: 5e-324 }, 50).keys()]).toEqual([1]);
    expect([...draws(logits, {}, 5).keys()]).toEqual([1]);
  });
});

describe("repetition penalty", () => {
  const next = (logits: number[], recent: number[], options: SampleOptions) =>
    sampler(options).next(Float32Array.from(logits), recent, 0);

  it("divides positive and multiplies negative logits, once for each token", () => {
    expect(next([3, 2], [0], { repeatPenalty: 1.6 })).toBe(1);
    expect(next([3, 2], [0], { repeatPenalty: 1.4 })).toBe(0);
    expect(next([3, 2], [0, 0, 0], { repeatPenalty: 1.4 })).toBe(0);
    expect(next([-1, -1.5], [0], { repeatPenalty: 1.6 })).toBe(1);
    expect(next([1, 3], [1], { repeatPenalty: 0.5 })).toBe(1);
  });

  it("looks repeatLast tokens back; 0: at none", () => {
    expect(next([3, 2], [0, 1, 1, 1], { repeatPenalty: 2, repeatLast: 3 })).toBe(0);
    expect(next([3, 2], [0, 1, 1, 1], { repeatPenalty: 2, repeatLast: 4 })).toBe(0);
    expect(next([3, 2, 2.5], [0, 1], { repeatPenalty: 2, repeatLast: 2 })).toBe(2);
    expect(next([3, 2, 2.5], [0, 1], { repeatPenalty: 2, repeatLast: 0 })).toBe(0);
  });
});

describe("what a request makes likelier or less so", () => {
  const next = (logits: number[], recent: number[], draw: number, options: SampleOptions) =>
    sampler(options).next(Float32Array.from(logits), recent, draw);

  it("presence counts once, frequency each time, of what was generated alone", () => {
    expect(next([3, 2], [0, 0], 2, { presencePenalty: 1.5 })).toBe(1);
    expect(next([3, 2], [0, 0], 2, { presencePenalty: 0.9 })).toBe(0);
    expect(next([3, 2], [0, 0], 2, { frequencyPenalty: 0.6 })).toBe(1);
    // The first is of the prompt.
    expect(next([3, 2], [0, 0], 1, { frequencyPenalty: 0.6 })).toBe(0);
    expect(next([3, 2.5], [1], 1, { presencePenalty: -1 })).toBe(1);
  });

  it("a bias is added to its ids; the device then does not choose, and as many logits are read as may count", () => {
    expect(next([3, 2, 1], [], 0, { logitBias: { 2: 5 } })).toBe(2);
    expect(next([3, 2, 1], [], 0, { logitBias: { 0: -100 } })).toBe(1);
    const biased = sampler({ logitBias: { 0: -1, 5: -2 }, presencePenalty: 1 });
    expect([biased.sampling(0), biased.enough(7)]).toEqual([null, 1 + 7 + 2]);
    expect(sampler({ logitBias: { 0: 1 } }).enough(7)).toBe(null);
    expect(sampler({ logitBias: { 0: 0 }, frequencyPenalty: 0 }).sampling(0)).not.toBe(null);
  });

  it.each([
    { logitBias: { 1: 101 } },
    { logitBias: { x: 1 } },
    { presencePenalty: 3 },
    { logitBias: 5 as never },
  ])("%j is refused", (options) => expect(() => sampler(options as SampleOptions)).toThrow(ArgumentError));
});

describe("logits that are no numbers", () => {
  const odd = [Number.NaN, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, 0, 1, 3.4e38, -3.4e38];
  const logits = fc.array(fc.constantFrom(...odd), { minLength: 1, maxLength: 300 });

  it("give an id all the same, and never a NaN's or -Infinity's while another is finite", () => {
    const property = fc.property(
      logits,
      fc.constantFrom(0, 0.5, 1),
      fc.constantFrom(0, 1, 40, 280),
      fc.constantFrom(0, 0.05),
      fc.constantFrom(1, 1.3),
      (list, temperature, topK, minP, repeatPenalty) => {
        const sample = sampler({ seed: 3, temperature, topK, minP, repeatPenalty });
        for (let i = 0; i < 5; i++) {
          const id = sample.next(Float32Array.from(list), [0], i);
          expect(id >= 0 && id < list.length && Number.isInteger(id)).toBe(true);
          if (list.some((x) => x > Number.NEGATIVE_INFINITY))
            expect(list[id]).toBeGreaterThan(Number.NEGATIVE_INFINITY);
        }
      },
    );
    fc.assert(property, { numRuns: 500, seed: 1 });
  });

  it("argmax skips NaN wherever it stands, and knows equals and emptiness", () => {
    expect(argmax(Float32Array.of(Number.NaN, -5, -4))).toBe(2);
    expect(argmax(Float32Array.of(-5, Number.NaN, -4, -4))).toBe(2);
    expect(argmax(Float32Array.of(Number.NaN, Number.NaN))).toBe(0);
    expect(argmax(Float32Array.of(Number.NEGATIVE_INFINITY))).toBe(0);
  });
});

it("262,144 logits: the largest vocabularies pass through every path", () => {
  const logits = Float32Array.from({ length: 262_144 }, (_, i) => 12 * Math.sin(i * 0.7) ** 3);
  for (const options of [{}, { topK: 0 }, { topK: 0, minP: 0, topP: 1 }, { topK: 5000, minP: 0 }]) {
    const id = sampler({ seed: 1, temperature: 1, ...options }).next(logits.slice(), [], 0);
    expect(logits[id]).toBeGreaterThan(0);
  }
});
