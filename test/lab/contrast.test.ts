/**
 * Statistics over worlds that are made up, so that the truth is known: intervals cover it, a planted flip is found, and the same
 * error drawn anew is no difference.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { estimateRatio, interval, type PairedText } from "../../src/lab/bootstrap.ts";
import { contrast, falseDiscovery, permutation } from "../../src/lab/contrast.ts";
import type { LabModel } from "../../src/lab/lab-model.ts";
import { packLosses } from "../../src/lab/losses.ts";
import { Methods } from "../../src/lab/methods/methods.ts";
import { gaussians } from "../../src/lab/methods/random.ts";
import { scoresOf } from "../../src/lab/scores.ts";
import { settled } from "../../src/lab/sequence.ts";
import { Snapshot } from "../../src/lab/snapshot.ts";
import { specEntry } from "../../src/lab/space.ts";
import { identified } from "../../src/lab/spec.ts";
import { quantileOf, twoSided } from "../../src/lab/student.ts";
import type { Entry, ModelEntry, TextEntry } from "../../src/lab/types.ts";
import { letters, openTiny } from "./tiny-lab.ts";

const AT = "2026-11-28T12:00:00.000Z";
const methods = new Methods();
const A = specEntry({ keys: { method: "rq4" } }, methods, AT);
const B = specEntry({ keys: { method: "polar" } }, methods, AT);

/** Losses of one spec: by text and draw. Positions differ, are alike for both specs, and each draw has an effect of its own. */
function world(
  seed: number,
  logs: { a: number; b: number },
  draws = 3,
  texts = 4,
  positions = 64,
  lottery = 0.1,
) {
  const next = gaussians(seed);
  const effects = { a: [], b: [] } as { a: number[]; b: number[] };
  for (const side of ["a", "b"] as const)
    for (let draw = 0; draw < draws; draw++) effects[side].push(logs[side] + lottery * next());
  return Array.from({ length: texts }, (): PairedText => {
    const text = 0.3 * next();
    // What the text does to one spec and not to the other.
    const own = { a: 0.1 * next(), b: 0.1 * next() };
    const base = Array.from({ length: positions }, () => text + next());
    const losses = (side: "a" | "b") =>
      effects[side].map((effect) =>
        Float32Array.from(base, (at) => 0.01 * Math.exp(at + effect + own[side] + 0.5 * next())),
      );
    return { a: losses("a"), b: losses("b") };
  });
}

describe("Student's t", () => {
  it("is that of the tables", () => {
    expect(quantileOf(0.05, 2)).toBeCloseTo(4.3027, 3);
    expect(quantileOf(0.05, 10)).toBeCloseTo(2.2281, 3);
    expect(quantileOf(0.01, 1e6)).toBeCloseTo(2.5758, 3);
    expect(twoSided(2.2281, 10)).toBeCloseTo(0.05, 4);
  });
});

describe("estimateRatio", () => {
  it("is not sure of short answers of which one has nearly all of the loss", () => {
    const next = gaussians(5);
    const texts = Array.from({ length: 6 }, (_, text): PairedText => {
      const b = Float32Array.from(
        { length: 13 },
        (_, i) => (text === 0 && i === 4 ? 1 : 0.001) * Math.exp(next()),
      );
      return { a: [b.map((loss) => (text === 0 ? 0.1 : 1) * loss)], b: [b] };
    });
    const { low, high } = interval(estimateRatio(texts)!);
    expect(Math.exp(high - low)).toBeGreaterThan(4);
  });

  const WORLDS = 40;

  it("covers the truth in about 95 % of the worlds with draws; with one draw it does not, and says that it had one", () => {
    const covers = (draws: number) => {
      let count = 0;
      for (let seed = 0; seed < WORLDS; seed++) {
        const { low, high } = interval(estimateRatio(world(seed, { a: 0, b: 0 }, draws, 4, 64, 0.2))!);
        if (low <= 0 && high >= 0) count++;
      }
      return count / WORLDS;
    };
    expect(covers(3)).toBeGreaterThan(0.9);
    expect(covers(1)).toBeLessThan(0.85);
    expect(estimateRatio(world(1, { a: 0, b: 0 }, 1))!.draws).toBe(1);
  });

  it("finds what is there", () => {
    const found = Array.from({ length: 20 }, (_, seed) =>
      interval(estimateRatio(world(seed, { a: 0.7, b: 0 }))!),
    );
    expect(found.filter(({ low, high }) => low < 0.7 && high > 0.7).length).toBeGreaterThanOrEqual(17);
    expect(found.filter(({ low }) => low > 0).length).toBeGreaterThanOrEqual(18);
    expect(estimateRatio([])).toBe(null);
  });
});

/** A lab that has measured two specs on models. */
function lab(
  models: readonly { name: string; facts: ModelEntry["facts"]; texts: readonly PairedText[] }[],
  versionOf: (spec: string) => number = () => 1,
  idsOf: (text: number) => number[] = (text) => [text, 5, 6],
): Snapshot {
  const entries: Entry[] = [A, B];
  for (const { name, facts, texts } of models) {
    entries.push({ kind: "model", id: name, at: AT, name, family: "f", facts });
    texts.forEach((text, t) => {
      const id = `${name} ${t}`;
      const ids = idsOf(t);
      const more = {
        ...({ name: id, split: "search", model: name, tokens: ids.length } as const),
        from: 1,
        ids,
      };
      entries.push({ kind: "text", id, at: AT, ...more });
      for (const [side, spec] of [["a", A] as const, ["b", B] as const])
        text[side].forEach((kl, draw) => {
          const harness = versionOf(spec.id);
          const experiment = { spec: spec.id, model: name, text: id, rung: kl.length, draw, harness };
          const more = { proposer: "human", reason: "", parent: null, study: "s", priority: 0, needs: [] };
          const proposal = identified({ kind: "experiment", at: AT, experiment, ...more } as const);
          const losses = packLosses({ kl, same: Array.from(kl, () => true) });
          const own = { ms: 1, worker: "w", env: {}, at: AT };
          entries.push(proposal);
          entries.push(identified({ kind: "result", experiment: proposal.id, ...losses, ...own } as const));
        });
    });
  }
  return new Snapshot(entries);
}

describe("contrast", () => {
  it("never pairs results of two versions of the code, and scores are the newest's alone", () => {
    const one = [{ name: "one", facts: {}, texts: world(1, { a: 0.5, b: 0 }) }];
    expect(contrast(lab(one), A.id, B.id).rows).toHaveLength(1);
    const mixed = lab(one, (spec) => (spec === A.id ? 2 : 1));
    expect(contrast(mixed, A.id, B.id).rows).toEqual([]);
    expect([...scoresOf(lab(one), "one").keys()].sort()).toEqual([A.id, B.id].sort());
    expect([...scoresOf(mixed, "one").keys()]).toEqual([A.id]);
  });

  it("finds a planted flip, and names the experiments", () => {
    const known = lab([
      { name: "one", facts: {}, texts: world(1, { a: 0.5, b: 0 }) },
      { name: "two", facts: {}, texts: world(2, { a: -0.5, b: 0 }) },
    ]);
    const { rows, groups } = contrast(known, A.id, B.id);
    expect(rows.map(({ name, ratio, draws, settled }) => [name, ratio > 1, draws, settled])).toEqual([
      ["one", true, 3, null],
      ["two", false, 3, null],
    ]);
    // Open at every look, though the last one alone is sure: larger differences settle.
    const large = lab([{ name: "one", facts: {}, texts: world(1, { a: 2, b: 0 }, 4, 6) }]);
    expect(contrast(large, A.id, B.id).rows[0].settled).toBe("worse");
    expect(groups).toMatchObject([{ groups: ["one", "two"], flips: true, permutation: null }]);
    expect(groups[0].q).toBeLessThan(0.05);
    expect(rows[0].experiments.length).toBe(4 * 6);
    expect(contrast(known, A.id, B.id, { split: "holdout" }).rows).toEqual([]);
  });

  it("finds none in 95 % of the worlds where there is none", () => {
    let flips = 0;
    let differences = 0;
    for (let seed = 0; seed < 40; seed++) {
      const models = ["one", "two"].map((name, i) => ({
        ...{ name, facts: {} },
        texts: world(1000 + 2 * seed + i, { a: 0.02, b: 0 }, 3, 3, 48),
      }));
      const [group] = contrast(lab(models), A.id, B.id).groups;
      if (group.flips) flips++;
      if (group.p < 0.05) differences++;
    }
    expect(flips).toBeLessThanOrEqual(2);
    expect(differences).toBeLessThanOrEqual(4);
  });

  it("pairs draws that both have: the same losses are a ratio of 1, whatever other draws one has", () => {
    const [text] = world(5, { a: 0, b: 0 }, 3, 1);
    const known = lab([{ name: "one", facts: {}, texts: [{ a: [text.b[0]], b: text.b }] }]);
    expect(contrast(known, A.id, B.id).rows).toMatchObject([{ ratio: 1, low: 1, high: 1, p: 1, draws: 1 }]);
  });

  it("a shorter and a longer text of one beginning are one: the run with more positions counts", () => {
    const [long, other] = world(7, { a: 0.3, b: 0 }, 1, 2);
    const short = { a: long.a.map((kl) => kl.subarray(0, 24)), b: long.b.map((kl) => kl.subarray(0, 24)) };
    const beginning = Array.from({ length: 40 }, (_, i) => i);
    const of = (...texts: PairedText[]) =>
      contrast(
        lab([{ name: "one", facts: {}, texts }], undefined, (text) =>
          text === 2 ? [9, 9, 9] : beginning.slice(0, text === 0 ? 25 : 40),
        ),
        A.id,
        B.id,
      ).rows[0];
    const plain = contrast(lab([{ name: "one", facts: {}, texts: [long, other] }]), A.id, B.id).rows[0];
    const figures = ({ ratio, error, texts, positions }: typeof plain) => ({
      ratio,
      error,
      texts,
      positions,
    });
    expect(figures(of(short, long, other))).toEqual(figures(plain));
    expect(of(short, long, other)).toMatchObject({ texts: 2, positions: 128 });
    // A was measured on one of them, B on the other: the positions that both have are the same ones.
    const crossed = of({ a: short.a, b: [] }, { a: [], b: long.b }, { a: [], b: [] });
    expect(crossed).toMatchObject({ texts: 1, positions: 24 });
    expect(crossed.ratio).toBeCloseTo(of(short).ratio, 10);
  });

  it("by a fact: a permutation over models, where there are four a side", () => {
    const models = Array.from({ length: 8 }, (_, i) => ({
      ...{ name: `m${i}`, facts: { qkNorm: i < 4 } },
      texts: world(50 + i, { a: i < 4 ? 0.4 : -0.4, b: 0 }, 2, 2, 32),
    }));
    const { groups } = contrast(lab(models), A.id, B.id, { by: "qkNorm" });
    expect(groups).toMatchObject([{ groups: ["false", "true"], models: [4, 4], flips: true }]);
    // Of 70 ways two are as far apart.
    expect(groups[0].permutation).toBeCloseTo(2 / 70, 10);
    expect(contrast(lab(models.slice(1)), A.id, B.id, { by: "qkNorm" }).groups[0].permutation).toBe(null);
  });
});

it("false discovery rates and permutations are those of the textbooks", () => {
  const qs = falseDiscovery([0.01, 0.04, 0.03, 0.5]);
  [0.04, 0.16 / 3, 0.16 / 3, 0.5].forEach((q, i) => {
    expect(qs[i]).toBeCloseTo(q, 10);
  });
  expect(permutation([1, 1, 1, 1], [1, 1, 1, 1])).toBe(1);
  expect(permutation([1], [2])).toBe(null);
});

it("a sequence of looks settles late and rarely wrongly", () => {
  const look = (log: number, t: number) => settled({ log, error: 0.1, freedom: 1000 }, t);
  expect([look(-0.21, 1), look(-0.21, 10), look(-0.5, 10), look(0.5, 10)]).toEqual([
    null,
    null,
    "better",
    "worse",
  ]);
  expect(settled({ log: 0, error: 0.01, freedom: 1000 }, 5)).toBe("alike");
});

describe("the golden negative: keys times 11.31", () => {
  let model: LabModel;
  let texts: TextEntry[];
  beforeAll(async () => {
    model = await openTiny();
    texts = [1, 2].map((seed) => model.text(`t${seed}`, "search", letters(60, seed), 28));
  });
  afterAll(() => model.close());

  it("is the same error drawn anew: no difference on a real model, with draws", async () => {
    const part = { method: "affine", bits: 4, group: 32 };
    const measure = async (keyScale: number) => {
      const { body } = specEntry({ keys: part, keyScale }, methods);
      const found: Float32Array[][] = [];
      for (const text of texts) {
        const draws = [];
        for (const draw of [0, 1, 2]) draws.push((await model.measure(body, text, 32, draw, methods)).kl);
        found.push(draws);
      }
      return found;
    };
    const [plain, scaled] = [await measure(1), await measure(11.31)];
    expect(scaled).not.toEqual(plain);
    const estimate = estimateRatio(plain.map((b, i) => ({ a: scaled[i], b })))!;
    expect(interval(estimate).p).toBeGreaterThan(0.05);
    expect(Math.abs(estimate.log)).toBeLessThan(0.5);
  });
});
