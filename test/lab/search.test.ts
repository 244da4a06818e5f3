/** The search over worlds whose best is known: the belief against its closed form, nothing proposed twice, plateaus, rungs. */
import { describe, expect, it } from "vitest";
import { promoted } from "../../src/lab/halving.ts";
import { packLosses } from "../../src/lab/losses.ts";
import { Methods } from "../../src/lab/methods/methods.ts";
import { gaussians } from "../../src/lab/methods/random.ts";
import { Plateau } from "../../src/lab/plateau.ts";
import { expectedImprovement, Posterior, PRIORS } from "../../src/lab/posterior.ts";
import { Proposer } from "../../src/lab/propose.ts";
import { frontier, scoresOf } from "../../src/lab/scores.ts";
import { Snapshot } from "../../src/lab/snapshot.ts";
import { ANCHORS, cells, SPACE, specEntry } from "../../src/lab/space.ts";
import { identified } from "../../src/lab/spec.ts";
import { binOf, rungOf, type Study } from "../../src/lab/study.ts";
import type { Entry, ModelEntry, Spec, TextEntry } from "../../src/lab/types.ts";

const AT = "2026-11-28T12:00:00.000Z";
const methods = new Methods();

describe("Posterior", () => {
  it("is the closed form of two measurements of one cell and one of another", () => {
    const { base, main, pair } = PRIORS;
    const found = new Posterior([
      { levels: ["a", "x"], log: 1, error: 0.5 },
      { levels: ["b", "x"], log: -1, error: 0.5 },
    ]);
    const own = base + 2 * main + pair + 0.25 + 1e-6;
    const across = base + main;
    // The mean is 0; weights solve [[own, across], [across, own]] w = [1, -1].
    const weight = 1 / (own - across);
    expect(found.predict(["a", "x"]).log).toBeCloseTo(weight * (base + 2 * main + pair - across), 8);
    expect(found.predict(["c", "x"]).log).toBeCloseTo(0, 8);
    expect(found.effect(0, "a").log).toBeCloseTo(main * weight, 8);
    expect(found.effect(0, "zebra")).toEqual({ log: 0, error: Math.sqrt(main) });
    const far = found.predict(["c", "y"]).error;
    expect(found.predict(["a", "x"]).error).toBeLessThan(found.predict(["c", "x"]).error);
    expect(found.predict(["c", "x"]).error).toBeLessThan(far);
  });

  it("draws have its mean and spread", () => {
    const found = new Posterior([{ levels: ["a", "x"], log: 1, error: 0.3 }]);
    const { log, error } = found.predict(["b", "x"]);
    const drawn = Array.from({ length: 2000 }, (_, seed) => found.draw(seed)(["b", "x"]));
    const mean = drawn.reduce((sum, x) => sum + x, 0) / drawn.length;
    const spread = Math.sqrt(drawn.reduce((sum, x) => sum + (x - mean) ** 2, 0) / drawn.length);
    expect(Math.abs(mean - log)).toBeLessThan(0.1 * error);
    expect(spread / error).toBeCloseTo(1, 1);
  });

  it("expected improvement is 0 for what is surely worse", () => {
    expect(expectedImprovement({ log: 2, error: 0 }, 1)).toBe(0);
    expect(expectedImprovement({ log: 0, error: 1 }, 0)).toBeCloseTo(1 / Math.sqrt(2 * Math.PI), 6);
  });
});

const MODELS = ["m", "n"].map(
  (id): ModelEntry => ({ kind: "model", id, at: AT, name: id, family: "f", facts: {} }),
);
const TEXTS: TextEntry[] = MODELS.flatMap(
  ({ id: model }) =>
    ["search", "search", "holdout"].map((split, i) => ({
      ...{
        kind: "text",
        id: `${model} ${i}`,
        at: AT,
        name: `${i}`,
        split,
        model,
        tokens: 96,
        from: 32,
        ids: [],
      },
    })) as TextEntry[],
);

/** log KL of a spec: effects, an interaction (rotation helps only without the mean off), and the worth of exact tokens. */
function truth({ keys, values, recent, sinks }: Spec): number {
  const method = ({ method, bits }: Spec["keys"]) =>
    -0.6 * bits + (method === "kivi" ? -1 : method === "rq4" ? 0.3 : 0);
  const together = keys.rotate && keys.mean ? 0.6 : 0;
  return (
    method(keys) +
    method(values) -
    (keys.mean ? 0.8 : 0) -
    (keys.rotate ? 0.3 : 0) +
    together -
    (recent > 0 ? 1 : 0) -
    sinks / 20
  );
}

const study: Study = {
  ...{ name: "s", models: ["m"], texts: TEXTS, seed: 5 },
  cells: cells({ ...SPACE, sinks: [0], recent: [0, 32] }, methods),
  anchors: ANCHORS.map((draft) => specEntry(draft, methods, AT)),
  rungs: [
    { texts: 1, positions: 32, draws: 1 },
    { texts: 2, positions: 64, draws: 1 },
  ],
};

/** Does what is proposed until the proposer ends, or so many specs are known. */
function simulate(of: Study, most: number, log: (spec: Spec, model: string) => number) {
  const known = new Snapshot([...MODELS, ...TEXTS]);
  const proposer = new Proposer(of);
  const next = gaussians(9);
  const asked: string[] = [];
  const does = (entries: readonly Entry[]) => {
    for (const entry of entries) {
      asked.push(entry.id);
      expect(known.add(entry), "proposed twice").toBe(true);
      if (entry.kind !== "experiment") continue;
      const { spec, rung, model } = entry.experiment;
      const kl = Math.exp(log(known.specs.get(spec)!.body, model) + 0.1 * next());
      const losses = packLosses({ kl: new Float32Array(rung).fill(kl), same: new Array(rung).fill(true) });
      const more = { ms: 1, worker: "w", env: {}, at: AT };
      known.add(identified({ kind: "result", experiment: entry.id, ...losses, ...more } as const));
    }
  };
  let turns = 0;
  for (; known.specs.size < most; turns++) {
    const entries = proposer.next(known);
    if (entries.length === 0) break;
    does(entries);
  }
  return { known, proposer, does, turns };
}

describe("Proposer", () => {
  it("finds the planted best of each size among hundreds of cells within 75 specs, and never proposes twice", () => {
    const { known, proposer, does } = simulate(study, 75, truth);
    for (const bin of [1, 2]) {
      const ofBin = study.cells.filter(({ bits }) => binOf(bits) === bin);
      const best = Math.min(...ofBin.map(({ body }) => truth(body)));
      const found = Math.min(
        ...[...known.specs.values()].filter(({ bits }) => binOf(bits) === bin).map(({ body }) => truth(body)),
      );
      expect(ofBin.length).toBeGreaterThan(50);
      expect(found - best, `bin ${bin}`).toBeLessThan(0.25);
    }
    // The best of every size climb, and are confirmed on texts that the search never saw.
    for (let i = 0; i < 5; i++) does(proposer.last(known));
    expect(proposer.last(known)).toEqual([]);
    const best = frontier(scoresOf(known, "m", "search").values(), (spec) => known.specs.get(spec)!.bits);
    for (const [i, { spec }] of best.entries()) {
      const [own, next] = [best[i], best[i + 1]].map((one) => one && binOf(known.specs.get(one.spec)!.bits));
      if (own === next) continue;
      expect(scoresOf(known, "m", "holdout").has(spec), known.specs.get(spec)!.label).toBe(true);
      expect(rungOf(study, known, spec, "m").done).toBe(1);
    }
  });

  it("a flat world is called a plateau, challenged, and its best tried on the other model", () => {
    const flat: Study = {
      ...study,
      models: ["m", "n"],
      cells: cells(
        { ...SPACE, keys: SPACE.keys.slice(0, 6), values: SPACE.values.slice(0, 4), recent: [0] },
        methods,
      ),
      anchors: study.anchors.slice(0, 2),
      rungs: study.rungs.slice(0, 1),
    };
    const { known } = simulate(flat, 1000, () => -3);
    const plateaus = known.notes.filter(({ note }) => note === "plateau");
    expect(plateaus.length).toBeGreaterThan(0);
    const experiments = [...known.experiments.values()];
    expect(experiments.some(({ proposer }) => proposer === "challenge")).toBe(true);
    for (const { evidence } of plateaus)
      for (const spec of evidence) {
        const models = experiments.filter(({ experiment }) => experiment.spec === spec);
        expect(new Set(models.map(({ experiment }) => experiment.model)).size).toBe(2);
      }
    expect(plateaus[0].body).toMatch(
      /best mean KL 0\.0\d+ after \d+ specs; challenged with \d+ random cells/,
    );
  });
});

describe("promoted", () => {
  const on = (logs: readonly number[]) =>
    logs.map((log, i) => ({ spec: String(i), score: { log, error: 0.05 }, mayClimb: true }));

  it("takes the best third and whoever is within noise of it", () => {
    const found = promoted(on([-5, -3, -2.99, -2, -1, 0]));
    expect(found.map(({ spec }) => spec)).toEqual(["0", "1", "2"]);
    expect(promoted(on([1, 2]))).toEqual([]);
  });
});

it("a plateau needs both: little promise and a dry spell; an improvement opens it again", () => {
  const plateau = new Plateau();
  const looks = [
    [-1, 5, 0.5],
    [-1, 9, 0.001],
    [-1, 12, 0.001],
    [-1, 14, 0.001],
    [-1, 16, 0.001],
  ].map(([best, specs, promise]) => plateau.look(best, specs, promise));
  expect(looks).toEqual([false, false, false, false, true]);
  plateau.reopen();
  expect(plateau.look(-2, 17, 0.001)).toBe(false);
});
