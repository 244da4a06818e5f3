/** What people and agents read: the page, questions by words and structure, specs by name, predictions settled. */
import { describe, expect, it } from "vitest";
import { ask } from "../../src/lab/ask.ts";
import { findModelId, findSpec } from "../../src/lab/find-spec.ts";
import { packLosses } from "../../src/lab/losses.ts";
import { Methods } from "../../src/lab/methods/methods.ts";
import { gaussians } from "../../src/lab/methods/random.ts";
import { resolve } from "../../src/lab/predictions.ts";
import { labReport } from "../../src/lab/report.ts";
import { frontier, scoresOf } from "../../src/lab/scores.ts";
import { checkStudy } from "../../src/lab/setup.ts";
import { Snapshot } from "../../src/lab/snapshot.ts";
import { specEntry } from "../../src/lab/space.ts";
import { identified } from "../../src/lab/spec.ts";
import type { Entry, SpecEntry } from "../../src/lab/types.ts";

const AT = "2026-11-28T12:00:00.000Z";
const methods = new Methods();
const INT4 = { method: "affine", bits: 4, group: 32 };
const SPECS = [
  specEntry({ keys: INT4, values: INT4 }, methods, AT),
  specEntry({ keys: { ...INT4, rotate: true }, values: INT4 }, methods, AT),
  specEntry({ keys: { method: "rq4" }, values: { method: "rq4" }, recent: 32 }, methods, AT),
  ...[0, 1].map((layer) => specEntry({ keys: INT4, values: INT4, layers: [layer, layer + 1] }, methods, AT)),
];
const MODELS = ["one <script>", "/models/two.gguf"];
const [PLAIN, ROTATED] = SPECS;

/** Rotation helps model one and hurts model two. */
function lab(): Snapshot {
  const next = gaussians(1);
  const entries: Entry[] = [...SPECS];
  for (const [m, name] of MODELS.entries()) {
    const facts = { qkNorm: m === 1, headDim: 64 };
    entries.push({ kind: "model", id: `m${m}`, at: AT, name, family: "f", facts });
    for (const split of ["search", "holdout"] as const) {
      const text = `${m} ${split}`;
      const more = { name: text, split, model: `m${m}`, tokens: 96, from: 32, ids: [m, split.length] };
      entries.push({ kind: "text", id: text, at: AT, ...more });
      for (const { id: spec } of SPECS)
        for (const draw of [0, 1, 2]) {
          const experiment = { spec, model: `m${m}`, text, rung: 64, draw, harness: 1 };
          const why = { proposer: "model", reason: "", parent: spec === ROTATED.id ? PLAIN.id : null };
          const more = { study: "s", priority: 0, needs: [] };
          const proposal = identified({ kind: "experiment", at: AT, experiment, ...why, ...more } as const);
          const factor = spec === ROTATED.id ? (m === 0 ? 0.6 : 1.7) : 1;
          const kl = Float32Array.from({ length: 64 }, () => 0.05 * factor * Math.exp(0.3 * next()));
          const losses = packLosses({ kl, same: Array.from(kl, (x) => x < 0.05) });
          const run = { ms: 5, worker: "w", env: {}, at: AT };
          entries.push(
            proposal,
            identified({ kind: "result", experiment: proposal.id, ...losses, ...run } as const),
          );
        }
    }
  }
  const note = { facets: {}, evidence: [], author: "an <agent>", at: AT };
  const predicts = { a: ROTATED.id, b: PLAIN.id, model: "m0", below: 0.8 };
  entries.push(
    identified({
      kind: "note",
      note: "insight",
      body: "Rotation & <b>constant</b> channels",
      predicts: null,
      ...note,
    } as const),
    identified({ kind: "note", note: "hypothesis", body: "helps", predicts, ...note } as const),
    identified({
      kind: "note",
      note: "hypothesis",
      body: "open",
      predicts: { ...predicts, a: "x" },
      ...note,
    } as const),
  );
  return new Snapshot(entries);
}

const known = lab();

describe("the report", () => {
  const html = labReport(known, methods);

  it("has every figure, numbers that are numbers, and names its experiments", () => {
    for (const title of [
      "Size against loss",
      "Contrasts by model",
      "Mean KL over that of int4 g32",
      "Loss by position",
      "Error by layer",
      "Best so far",
      "Who came from whom",
      "Effects",
      "Predictions",
      "Models",
    ])
      expect(html, title).toContain(`<h2>${title}`);
    expect(html).not.toMatch(/NaN|undefined|Infinity/);
    expect([...html.matchAll(/<svg /g)].length).toBeGreaterThanOrEqual(2 + 1 + 2 + 2 + 2 + 1);
    const [first] = known.results.keys();
    expect(html).toContain(first.slice(0, 8));
    expect(html).toContain("FLIPS");
    expect(html).toMatch(/<td>held<\/td>[\s\S]*<td>open<\/td>/);
    // The one that is settled is drawn, and each figure says which experiments it shows.
    expect(html).toContain('aria-label="Predictions against outcomes"');
    const sections = html.split("<section>").slice(1);
    expect(sections).toHaveLength(10);
    for (const section of sections)
      expect(section).toMatch(/<summary>\d+ experiments<\/summary><p class="ids">[0-9a-f]{8} /);
  });

  it("has the names of lines apart, whole and in its width", () => {
    const layers = html.split("<h2>Error by layer</h2>")[1].split("</section>")[0];
    const names = [
      ...layers.split("</svg>")[0].matchAll(/class="named [^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)/g),
    ];
    expect(names.map(([, , , name]) => name)).toEqual(["layer alone", "sum of layers alone"]);
    const [one, other] = names.map(([, , y]) => Number(y));
    expect(Math.abs(one - other)).toBeGreaterThanOrEqual(14);
    for (const [, x, , name] of names) expect(Number(x) + 6.5 * name.length).toBeLessThan(620);
  });

  it("looks at the device that has more specs, and at a CPU where it has as many", () => {
    const moved = (most: number) => {
      let left = most;
      return new Snapshot(
        known.entries.flatMap((entry): Entry[] => {
          if (entry.kind !== "experiment" || entry.experiment.spec !== PLAIN.id || left-- <= 0)
            return [entry];
          return [{ ...entry, experiment: { ...entry.experiment, device: "gpu" } }];
        }),
      );
    };
    const titles = (page: string) => [...page.matchAll(/<h2>([^<]*)/g)].map(([, title]) => title);
    // A GPU has one spec, a CPU the others.
    expect(titles(labReport(moved(1), methods))).toEqual(
      expect.arrayContaining(["On a GPU, and over a CPU", "Effects"]),
    );
    const gpu = known.entries.map((entry) =>
      entry.kind === "experiment"
        ? { ...entry, experiment: { ...entry.experiment, device: "gpu" as const } }
        : entry,
    );
    expect(titles(labReport(new Snapshot(gpu), methods))).not.toContain("Effects");
  });

  it("fetches nothing and takes no markup from names and notes", () => {
    expect(html).toContain("default-src 'none'");
    expect(html).not.toMatch(/<script|<b>constant|https?:\/\/(?!www\.w3\.org)/);
    expect(html).toContain("&lt;script&gt;");
  });

  it("of a lab that knows nothing says so", () => {
    expect(labReport(new Snapshot(), methods)).toContain("Run `nibble lab run`.");
    expect(labReport(new Snapshot(SPECS), methods)).toContain("Nothing yet");
  });
});

describe("ask", () => {
  const labels = (found: ReturnType<typeof ask>) => found.specs.map(({ entry }) => entry.label);

  it("finds by structure, by nearness and by words", () => {
    expect(labels(ask(known, { where: "method=rq4 recent>0" }))).toEqual(["rq4 · newest 32"]);
    expect(labels(ask(known, { near: PLAIN.body }))[0]).toBe("int4 g32");
    const found = ask(known, { words: "constant channels" });
    expect(found.notes.map(({ body }) => body)).toEqual(["Rotation & <b>constant</b> channels"]);
    const rotated = ask(known, { words: "rotated" }).specs[0];
    expect(rotated.entry.id).toBe(ROTATED.id);
    expect(rotated.kl[MODELS[0]]).toBeLessThan(rotated.kl[MODELS[1]]);
    expect(() => ask(known, { where: "bits<=x" })).toThrow(
      "where is bits<=x; allowed: a number after bits<=",
    );
    expect(() => ask(known, { where: "speed>3" })).toThrow("where is speed>3; allowed: FIELD=VALUE");
  });
});

describe("names", () => {
  it("a spec is its label, the beginning of its id, or JSON; a model a part of its name", () => {
    const wanted: SpecEntry = ROTATED;
    expect(findSpec(known, wanted.label.toUpperCase(), methods).id).toBe(wanted.id);
    expect(findSpec(known, wanted.id.slice(0, 8), methods).id).toBe(wanted.id);
    expect(findSpec(known, JSON.stringify(wanted.body), methods).id).toBe(wanted.id);
    // Nobody has measured it yet.
    expect(findSpec(known, "polar", methods).body.keys.method).toBe("polar");
    expect(() => findSpec(known, "int4", methods)).toThrow(
      'spec is int4; allowed: an id, JSON, or a label such as "int4 g32"',
    );
    expect(findModelId(known, "two")).toBe("m1");
    expect(() => findModelId(known, "three")).toThrow("model is three; allowed: one <script> (m0)");
  });
});

it("predictions are settled by what was measured there, and open where it was not", () => {
  const of = (device: "gpu" | undefined) =>
    resolve(
      new Snapshot(
        known.entries.map((entry) =>
          entry.kind === "note" && entry.predicts
            ? { ...entry, predicts: { ...entry.predicts, ...(device && { device }) } }
            : entry,
        ),
      ),
    ).map(({ held, experiments }) => [held, experiments.length]);
  expect(of(undefined)).toEqual([
    [true, 12],
    [null, 0],
  ]);
  expect(of("gpu")).toEqual([
    [null, 0],
    [null, 0],
  ]);
  const found = resolve(known);
  expect(found.map(({ held }) => held)).toEqual([true, null]);
  expect(found[0].ratio).toBeCloseTo(0.6, 1);
});

it("a frontier has nobody who is larger and worse", () => {
  const best = frontier(scoresOf(known, "m0").values(), (spec) => known.specs.get(spec)!.bits);
  const bits = best.map(({ spec }) => known.specs.get(spec)!.bits);
  expect(bits).toEqual([...bits].sort((a, b) => a - b));
  expect(best.map(({ kl }) => kl)).toEqual(best.map(({ kl }) => kl).sort((a, b) => b - a));
});

it("a study's file is checked before a model is opened", () => {
  expect(
    checkStudy({ models: ["needle"], rungs: [{ texts: 1, positions: 8, draws: 1 }] }, "s.json").models,
  ).toEqual(["needle"]);
  expect(() => checkStudy({ rung: [] }, "s.json")).toThrow("a field of s.json is rung");
  expect(() => checkStudy({ rungs: [{ texts: 0, positions: 8, draws: 1 }] }, "s.json")).toThrow(
    "a rung of s.json",
  );
  expect(() => checkStudy([], "s.json")).toThrow("s.json is []");
  const wrong: [object, string][] = [
    [{ specs: [3] }, "a spec of s.json is 3; allowed: an object"],
    [{ specs: [null] }, "a spec of s.json is null"],
    [{ specs: [] }, "specs of s.json is no list"],
    [{ rungs: 3 }, "rungs of s.json is no list"],
    [{ rungs: [] }, "rungs of s.json is no list"],
    [{ rungs: [null] }, "a rung of s.json is null"],
    [{ rungs: [{ texts: 1e9, positions: 1, draws: 1 }] }, "each from 1 to 4096"],
    [{ models: [] }, "models of s.json"],
    [{ seed: Number.POSITIVE_INFINITY }, "seed of s.json is Infinity; allowed: a whole number"],
    [{ name: 3 }, "name of s.json is 3"],
  ];
  for (const [study, told] of wrong) expect(() => checkStudy(study, "s.json"), told).toThrow(told);
});
