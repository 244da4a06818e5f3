/** What a model's queries make of its keys, and what a method is shown of another model's keys. */
import { describe, expect, it } from "vitest";
import type { Cache } from "../../src/device/contract.ts";
import { holding } from "../../src/lab/holding.ts";
import { type KeyStats, keyStats, keyView, profileOf } from "../../src/lab/key-profile.ts";
import { Methods } from "../../src/lab/methods/methods.ts";
import { scoreFacts } from "../../src/lab/queries.ts";
import { normalSpec, specId } from "../../src/lab/spec.ts";

const DIM = 8;
const INT4 = { method: "affine", bits: 4, group: 32 };

/** Keys [tokens, DIM]: channel i varies by `sizes[i]` around `means[i]`. */
function keysOf(sizes: readonly number[], means: readonly number[], tokens = 64): Float32Array {
  return Float32Array.from({ length: tokens * DIM }, (_, at) => {
    const dim = at % DIM;
    return means[dim] + sizes[dim] * Math.sin(1 + (at - dim) * (dim + 1.37));
  });
}

const SIZES = [8, 4, 2, 1, 8, 4, 2, 1];
const MEANS = [0, 0, 0, 12, 0, 0, 0, -6];
const keys = keysOf(SIZES, MEANS);
const statsOf = (vectors: Float32Array) => ({ ...keyStats(vectors, DIM, DIM / 2), depth: 0.5 });
const stats = statsOf(keys);

/** As the method sees it. */
function seen(known: KeyStats, profile: Parameters<typeof keyView>[1], keyMean = 1): KeyStats {
  const { mean, gain, shown } = keyView(known, profile, keyMean);
  const vectors = keys.map((x, at) => (x - mean[at % DIM]) * gain[at % DIM] + shown[at % DIM]);
  return statsOf(vectors);
}

const profile = (gains: readonly number[], means: readonly number[] | null) => ({
  heads: [{ gains, means }],
});

describe("a profile of keys", () => {
  it("is measured by rotary pair, in units of the spread", () => {
    const [{ gains, means }] = profileOf([stats]).heads;
    expect(gains).toHaveLength(4);
    for (let i = 0; i < 3; i++) expect(gains[i] / gains[i + 1]).toBeCloseTo(2, 1);
    expect(means!.filter((mean) => Math.abs(mean) > 1)).toHaveLength(2);
    expect(means![3] / means![7]).toBeCloseTo(-2, 1);
  });

  it("of the model itself is what it was, a flat one makes all pairs alike", () => {
    const own = seen(stats, profileOf([stats]));
    own.spread.forEach((spread, dim) => {
      expect(Math.abs(spread / stats.spread[dim] - 1)).toBeLessThan(0.01);
      expect(Math.abs(own.mean[dim] - stats.mean[dim])).toBeLessThan(0.1);
    });
    const flat = seen(stats, profile([1], [0, 0]));
    expect(Math.max(...flat.spread) / Math.min(...flat.spread)).toBeCloseTo(1, 3);
    expect(Math.max(...flat.mean.map(Math.abs))).toBeLessThan(1e-3);
  });

  it("of another model is what the method sees, whatever its pairs and heads", () => {
    const two = profile([1, 3], [2, 0, 0, -1]);
    const found = seen(stats, two);
    expect(found.spread[2] / found.spread[0]).toBeCloseTo(3, 3);
    for (const [dim, mean] of [2, 2, 0, 0, 0, 0, -0.5, -0.5].entries())
      expect(found.mean[dim] / found.mean[0]).toBeCloseTo(mean / 2 || 0, dim < 6 ? 3 : 0);
    expect(seen(stats, two, 0).mean[0]).toBeCloseTo(0, 3);
    // More pairs than are here: of those that fall on one, the largest.
    const six = seen(stats, profile([1, 1, 1, 1, 1, 1, 1, 5], [...Array(15).fill(0), -3]));
    expect(six.spread[3] / six.spread[0]).toBeCloseTo(5, 3);
    expect(Math.abs(six.mean[7])).toBeGreaterThan(1);
    const heads = [...profile([1], [0, 0]).heads, ...two.heads];
    expect(seen({ ...stats, depth: 0.6 }, { heads }).spread).toEqual(found.spread);
  });

  it("is undone behind the method: a method without loss gives the keys back", () => {
    const spec = normalSpec({
      keys: { method: "affine", bits: 16, group: 32 },
      keyProfile: profile([1, 2, 9], [3, 1]),
    });
    const exact = {
      ...new Methods().get("affine"),
      name: "exact",
      bits: [16],
      apply: () => {},
    };
    const methods = new Methods([exact]);
    const held = holding(
      { ...spec, keys: { ...spec.keys, method: "exact" } },
      "keys",
      methods,
      0,
      () => stats,
    )!;
    const vectors = keys.slice();
    held.apply(vectors, DIM, { layer: 0, kvHead: 0 });
    vectors.forEach((x, at) => {
      expect(Math.abs(x - keys[at])).toBeLessThan(1e-4);
    });
  });

  it("is a part of a spec, and specs without one are named as ever", () => {
    const plain = normalSpec({ keys: INT4, values: INT4 });
    expect("keyProfile" in plain).toBe(false);
    const shown = normalSpec({ ...plain, keyProfile: profile([1], null) });
    expect(specId(shown)).not.toBe(specId(plain));
    expect(() => normalSpec({ keys: INT4, keyProfile: profile([0], null) })).toThrow(/gains/);
    expect(normalSpec({ values: INT4, keyProfile: profile([1], null) })).toEqual(
      normalSpec({ values: INT4 }),
    );
  });
});

describe("scores", () => {
  const pool = { id: 0, window: null as number | null, pages: 2 };
  const cache = { layer: 0, headDim: 2, kvHeads: 1, pool } as unknown as Cache;
  const attention = {
    ...{ cache, heads: 2, scale: 0.5, softcap: 0 },
    queries: { id: 0, rows: "tokens" as const, cols: 4 },
  };
  // The second head looks away from the first key.
  const samples = [{ position: 2, query: Float32Array.of(2, 0, -2, 0) }];
  const few = [Float32Array.of(4, 1, 0, 2, 0, 3, 99, 99)];

  it("their spread, the first token's share, and what rounding adds but for what it adds to all", () => {
    const add = (list: Float32Array) => {
      list.forEach((_, i) => {
        list[i] += 7;
      });
    };
    const { spread, sinkMass, error } = scoreFacts(attention, samples, few, add);
    // Scores 4, 0, 0 and -4, 0, 0.
    expect(spread).toBeCloseTo(Math.sqrt(32 / 9), 6);
    const share = (first: number) => Math.exp(first) / (Math.exp(first) + 2);
    expect(sinkMass).toBeCloseTo((share(4) + share(-4)) / 2, 6);
    expect(error).toBeCloseTo(0, 6);
    const first = (list: Float32Array) => {
      list[0] += 3;
    };
    expect(scoreFacts(attention, samples, few, first).error).toBeCloseTo(Math.sqrt(2), 6);
  });

  it("a window that has left the first token behind", () => {
    const sliding = { ...attention, cache: { ...cache, pool: { ...pool, window: 2 } } };
    const { sinkMass, spread } = scoreFacts(sliding, samples, few, () => {});
    expect([sinkMass, spread]).toEqual([0, 0]);
  });
});
