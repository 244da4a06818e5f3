/** Rules of number ranges hold exactly the numbers between their bounds, and stay small. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type NumberBounds, rangeRule } from "../../src/answer/grammar/ranges.ts";
import { validate } from "./json-schema.ts";

describe("ranges of numbers", () => {
  /** The rule in JavaScript's notation. */
  const pattern = (alternatives: string[]) =>
    new RegExp(
      `^(?:${alternatives
        .map((rule) => `(${rule})`)
        .join("|")
        .replace(/"([^"]*)"/g, (_, text) => text.replace(/\W/g, "\\$&"))
        .replaceAll(" ", "")})$`,
    );
  const whole = fc.integer({ min: -130, max: 1300 });
  const decimal = fc
    .tuple(fc.integer({ min: -2000, max: 20000 }), fc.constantFrom(1, 10, 1000))
    .map(([n, d]) => n / d);
  const boundsOf = (value: fc.Arbitrary<number>) =>
    fc.record(
      { minimum: value, maximum: value, exclusiveMinimum: value, exclusiveMaximum: value },
      { requiredKeys: [] },
    );
  const isIn = (value: number, bounds: NumberBounds) =>
    validate({ type: "number", ...bounds }, value).length === 0;

  it("hold exactly the whole numbers between", () => {
    fc.assert(
      fc.property(boundsOf(fc.oneof(whole, decimal)), fc.array(whole, { maxLength: 30 }), (bounds, some) => {
        const rule = rangeRule("integer", bounds);
        const near = Object.values(bounds).flatMap((bound) => [-1, 0, 1].map((by) => Math.round(bound) + by));
        for (const value of [...some, ...near, 0, -1, 1])
          expect(pattern(rule).test(String(value)), `${value}`).toBe(isIn(value, bounds));
      }),
      { numRuns: 500 },
    );
  });

  it("hold exactly the decimals between", () => {
    fc.assert(
      fc.property(boundsOf(decimal), fc.array(decimal, { maxLength: 30 }), (bounds, some) => {
        const rule = rangeRule("number", bounds);
        const near = Object.values(bounds).flatMap((bound) => [
          bound,
          bound + 0.001,
          bound - 0.001,
          Math.trunc(bound),
        ]);
        for (const value of [...some, ...near, 0, 0.5, -0.5].map((all) => Math.round(all * 1000) / 1000)) {
          const texts = Object.is(value, -0) ? ["0"] : [String(value), value.toFixed(4)];
          for (const text of texts) expect(pattern(rule).test(text), text).toBe(isIn(Number(text), bounds));
        }
      }),
      { numRuns: 500 },
    );
  });

  it("hold every number around every pair of small bounds, and no other", () => {
    for (let low = -12; low <= 120; low += 3)
      for (let high = low; high <= 1010; high = high < 20 ? high + 1 : high + 89) {
        const rule = pattern(rangeRule("integer", { minimum: low, maximum: high }));
        for (let value = -130; value <= 1200; value++)
          if (rule.test(String(value)) !== (value >= low && value <= high))
            throw new Error(`${value} of ${low} to ${high}`);
      }
  });

  it("hold the numbers around bounds of up to 53 bits, and no other", () => {
    const powers = [10, 100, 9999, 1e9, 2 ** 31, 2 ** 32, 1e13 - 1, 1e15, Number.MAX_SAFE_INTEGER];
    const bounds = powers.flatMap((bound) => [bound, -bound]);
    for (const low of bounds)
      for (const high of bounds) {
        if (low > high) continue;
        const text = rangeRule("integer", { minimum: low, maximum: high });
        expect(text.join().length).toBeLessThan(3000);
        const rule = pattern(text);
        for (const near of [BigInt(low), BigInt(high)])
          for (let by = -30n; by <= 30n; by++)
            if (rule.test(String(near + by)) !== (near + by >= low && near + by <= high))
              throw new Error(`${near + by} of ${low} to ${high}`);
      }
  });

  it("hold no number that a bound of 64 bits could leave out as it was written", () => {
    const largest = 2n ** 63n - 1n;
    const text = rangeRule("integer", { minimum: Number(-largest), maximum: Number(largest) });
    expect(text.join().length).toBeLessThan(4000);
    const rule = pattern(text);
    for (const value of [0n, 2n ** 53n + 1n, largest - 2000n, 2000n - largest])
      expect(rule.test(String(value)), `${value}`).toBe(true);
    for (const value of [largest + 1n, -largest - 1n, 10n ** 19n, 2n ** 64n])
      expect(rule.test(String(value)), `${value}`).toBe(false);
    expect(pattern(rangeRule("integer", { minimum: 2 ** 63 })).test(String(2n ** 63n))).toBe(false);
    expect(pattern(rangeRule("integer", { minimum: 2 ** 63 })).test(String(2n ** 63n + 2048n))).toBe(true);
  });

  it("from zeros to nines are one repetition", () => {
    expect(rangeRule("integer", { minimum: 0, maximum: 9_999_999_999_999 })).toEqual([
      "([0-9])",
      "[1-9] [0-9]{1,11}",
      "([1-9] [0-9]{12})",
    ]);
    expect(rangeRule("number", { minimum: -1e15, maximum: 1e15 }).join().length).toBeLessThan(1000);
    expect(
      rangeRule("number", { minimum: -1.123456789e15, maximum: 0.123456789012345 }).join().length,
    ).toBeLessThan(3000);
  });
});
