/** KL divergence and what is summed up: by hand, by invariants, and where numbers are huge or none. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError, LogitsError } from "../../src/format/errors.ts";
import { distribution, divergence, quantile, surprise, Tally } from "../../src/study/verify/divergence.ts";

const of = (...logits: number[]) => distribution(Float32Array.from(logits), 7);
const { LN2, log, exp } = Math;

describe("by hand", () => {
  it("a half, a quarter, a quarter against a quarter, a half, a quarter: ln 2 / 4", () => {
    const p = of(log(0.5), log(0.25), log(0.25));
    const q = of(log(0.25), log(0.5), log(0.25));
    expect(divergence(p, q)).toBeCloseTo(LN2 / 4, 7);
    expect(divergence(q, p)).toBeCloseTo(LN2 / 4, 7);
    expect(surprise(p, 0)).toBeCloseTo(LN2, 7);
  });

  it("is not symmetric: certain against even is ln 2, even against certain is the cost of the impossible", () => {
    const sure = of(0, -60);
    const even = of(5, 5);
    expect(divergence(sure, even)).toBeCloseTo(LN2, 12);
    expect(divergence(even, sure)).toBeCloseTo(30 - LN2, 10);
  });

  it("sums a tally up", () => {
    const p = of(0, log(3));
    const tally = new Tally();
    tally.add(of(0, log(3)), 0, p);
    tally.add(of(0, 0), 1, p);
    const kl = 0.25 * log(0.25 / 0.5) + 0.75 * log(0.75 / 0.5);
    expect(tally.positions).toBe(2);
    expect(tally.perplexity).toBeCloseTo(exp((log(4) + LN2) / 2), 6);
    const found = tally.divergence!;
    expect(found.meanKl).toBeCloseTo(kl / 2, 7);
    // The sample's standard deviation over the root of two.
    expect(found.meanKlError).toBeCloseTo(kl / 2, 7);
    expect(found.meanKlInterval[0]).toBe(0);
    expect(found.meanKlInterval[1]).toBeCloseTo(kl, 7);
    expect(found.maxKl).toBeCloseTo(kl, 7);
    expect(found.medianKl).toBeCloseTo(kl / 2, 7);
    // The first of equals: 0, where the truth says 1.
    expect(found).toMatchObject({ sameTop: 0.5, sameTopError: Math.sqrt(0.125) });
    const both = Tally.all([tally, tally]);
    expect(both).toMatchObject({ positions: 4, perplexity: tally.perplexity });
    expect(both.divergence).toMatchObject({ maxKl: found.maxKl, sameTop: 0.5 });
  });

  it("counts neighbours that lose alike as one: the interval grows with the root of their number", () => {
    const even = of(0, 0);
    const tallyOf = (isLost: (i: number) => boolean) => {
      const tally = new Tally();
      for (let i = 0; i < 640; i++) tally.add(isLost(i) ? of(0, 2) : even, 0, even);
      return tally.divergence!;
    };
    const mixed = tallyOf((i) => i % 2 === 0);
    const together = tallyOf((i) => Math.floor(i / 16) % 2 === 0);
    expect(together.meanKl).toBeCloseTo(mixed.meanKl, 12);
    expect(mixed.meanKlError).toBeLessThan(together.meanKlError / 10);
    const [low, high] = together.meanKlInterval;
    expect(low).toBeLessThan(together.meanKl);
    expect(high).toBeGreaterThan(together.meanKl);
    // Normal: 1.96 standard errors either way.
    expect(high - low).toBeGreaterThan(3.3 * together.meanKlError);
    expect(high - low).toBeLessThan(4.5 * together.meanKlError);
    expect(tallyOf((i) => Math.floor(i / 16) % 2 === 0).meanKlInterval).toEqual([low, high]);
  });

  it("has nothing to say about divergence without a truth", () => {
    const tally = new Tally();
    tally.add(of(0, 0, 0), 2, null);
    expect(tally.divergence).toBe(null);
    expect(tally.perplexity).toBeCloseTo(3, 12);
  });

  it("quantiles lie between neighbours", () => {
    expect(quantile([7], 0.999)).toBe(7);
    expect(quantile([0, 10], 0.25)).toBe(2.5);
    expect(quantile([0, 1, 2, 3, 4], 1)).toBe(4);
  });
});

describe("any logits", () => {
  const logit = fc.float({ min: -100, max: 100, noNaN: true });
  const pair = fc
    .integer({ min: 1, max: 40 })
    .chain((size) => fc.tuple(...[0, 1].map(() => fc.array(logit, { minLength: size, maxLength: size }))));

  it("are never less than 0 apart, and 0 from themselves", () => {
    fc.assert(
      fc.property(pair, ([a, b]) => {
        expect(divergence(of(...a), of(...b))).toBeGreaterThanOrEqual(0);
        expect(divergence(of(...a), of(...a))).toBe(0);
      }),
    );
  });

  it("give the same with a constant added to all of them, also one beyond exp's range", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -20, max: 20 }), { minLength: 2, maxLength: 30 }),
        fc.integer({ min: -100_000, max: 100_000 }),
        (a, constant) => {
          const b = a.map((x, i) => x + (i % 3));
          const shifted = b.map((x) => x + constant);
          const plain = divergence(of(...a), of(...b));
          expect(divergence(of(...a), of(...shifted))).toBeCloseTo(plain, 8);
          expect(surprise(of(...shifted), 1)).toBeCloseTo(surprise(of(...b), 1), 8);
        },
      ),
    );
  });

  it("keep what float32 would lose: distances of 1e-9", () => {
    const p = of(...Array.from({ length: 1000 }, (_, i) => i % 7));
    const q = of(...Array.from({ length: 1000 }, (_, i) => (i % 7) + (i === 3 ? 2 ** -12 : 0)));
    const weight = exp(3 - p.logSum);
    // To second order: half the variance of the change under p.
    const wanted = (2 ** -24 * weight * (1 - weight)) / 2;
    expect(wanted).toBeLessThan(1e-10);
    expect(divergence(p, q) / wanted).toBeCloseTo(1, 2);
  });
});

it.each([
  ["NaN", [0, Number.NaN]],
  ["NaN first", [Number.NaN, 0]],
  ["infinity", [1, Number.POSITIVE_INFINITY]],
  ["no logits", []],
])("refuses %s", (_, logits) => {
  expect(() => of(...logits)).toThrow(LogitsError);
});

it("refuses vocabularies of two sizes", () => {
  expect(() => divergence(of(0, 0), of(0, 0, 0))).toThrow(ArgumentError);
});
