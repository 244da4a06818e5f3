/** The lab's figures of the search: layers, the best so far, parents of specs, effects, predictions, notes. Pure. */
import { dot, figure, intervalMark, label, logAxis } from "../../plot/figure.ts";
import { escapeText, fixed, number } from "../../plot/svg.ts";
import { FACTORS, levelsOf } from "../levels.ts";
import { type Resolved, resolve } from "../predictions.ts";
import { beliefOf } from "../propose.ts";
import { scoresOf } from "../scores.ts";
import type { Snapshot } from "../snapshot.ts";
import { isPlain } from "../spec.ts";
import { binName, binOf } from "../study.ts";
import type { Prediction } from "../types.ts";
import { namedLines, type Plain, shortName } from "./figures.ts";
import { htmlTable, note, plots, type Section } from "./page.ts";

/** Losses where only some layers are quantized: each alone, and all up to each. null: not measured. */
export function byLayer(known: Snapshot): Section | null {
  const experiments: string[] = [];
  const figures = [...known.models.values()].flatMap(({ id, name }) => {
    const found = [...scoresOf(known, id).values()].flatMap((score) => {
      const layers = known.specs.get(score.spec)?.body.layers;
      return layers ? [{ score, from: layers[0], to: layers[1] }] : [];
    });
    if (found.length < 2) return [];
    experiments.push(...found.flatMap(({ score }) => score.experiments));
    const single = found.filter(({ from, to }) => to === from + 1).sort((a, b) => a.from - b.from);
    const cumulative = found.filter(({ from, to }) => from === 0 && to > 1).sort((a, b) => a.to - b.to);
    let sum = 0;
    const sums = single.map(({ score, from }) => {
      sum += score.kl;
      return [from, sum] as const;
    });
    const lines = [
      { name: "layer alone", points: single.map(({ score, from }) => [from, score.kl] as const) },
      { name: "layers up to it", points: cumulative.map(({ score, to }) => [to - 1, score.kl] as const) },
      { name: "sum of layers alone", points: sums },
    ].filter(({ points }) => points.length > 0);
    const all = lines.flatMap(({ points }) => points);
    const title = `${shortName(name)}: mean KL (nats) by layer`;
    const x = { label: "layer", low: 0, high: Math.max(1, ...all.map(([at]) => at)) };
    const y = logAxis(
      "mean KL",
      all.map(([, value]) => value),
    );
    return [{ caption: title, svg: namedLines(title, x, y, lines) }];
  });
  return figures.length === 0 ? null : { title: "Error by layer", body: plots(figures), experiments };
}

/** By experiment, the smallest mean KL so far of each size. */
export function bestSoFar({ known, models, spec }: Plain): Section {
  const experiments: string[] = [];
  const figures = models.map(({ id, name, device }) => {
    const bins = new Map<number, { best: number; points: [number, number][] }>();
    let at = 0;
    for (const [experiment, result] of known.results) {
      const of = known.experiments.get(experiment)?.experiment;
      if (
        of?.model !== id ||
        (of.device ?? "cpu") !== device ||
        known.texts.get(of.text)?.split !== "search" ||
        result.klMean <= 0
      )
        continue;
      const entry = spec(of.spec);
      if (!isPlain(entry.body)) continue;
      at++;
      experiments.push(experiment);
      const bin = bins.get(binOf(entry.bits)) ?? { best: Number.POSITIVE_INFINITY, points: [] };
      bins.set(binOf(entry.bits), bin);
      if (result.klMean >= bin.best) continue;
      if (bin.points.length > 0) bin.points.push([at, bin.best]);
      bin.best = result.klMean;
      bin.points.push([at, bin.best]);
    }
    const lines = [...bins].sort(([a], [b]) => a - b);
    for (const [, { best, points }] of lines) points.push([at, best]);
    const title = `${name}: smallest mean KL (nats) so far`;
    const values = lines.flatMap(([, { points }]) => points.map(([, y]) => y));
    const x = { label: "experiments", low: 0, high: Math.max(1, at) };
    const drawn = lines.map(([bin, { points }]) => ({ name: binName(bin), points, hue: bin }));
    return { caption: title, svg: namedLines(title, x, logAxis("mean KL", values), drawn) };
  });
  const plateaus = known.notes.filter((one) => one.note === "plateau");
  const list =
    plateaus.length > 0
      ? `<ul>${plateaus.map(({ body }) => `<li>${escapeText(body)}</li>`).join("")}</ul>`
      : note("No plateau was met.");
  return { title: "Best so far, and plateaus", body: `${plots(figures)}\n${list}`, experiments };
}

const MOST_IN_TREE = 80;

/** Specs under the specs that they came from. */
export function parents(known: Snapshot): Section {
  const children = new Map<string, Set<string>>();
  const hasParent = new Set<string>();
  for (const { experiment, parent } of known.experiments.values()) {
    if (parent === null || parent === experiment.spec || hasParent.has(experiment.spec)) continue;
    hasParent.add(experiment.spec);
    children.set(parent, (children.get(parent) ?? new Set()).add(experiment.spec));
  }
  let left = MOST_IN_TREE;
  const seen = new Set<string>();
  const item = (id: string): string => {
    if (seen.has(id) || left-- <= 0) return "";
    seen.add(id);
    const own = [...(children.get(id) ?? [])].map(item).join("");
    const text = `${escapeText(known.specs.get(id)?.label ?? "?")} <span class="ids">${id.slice(0, 8)}</span>`;
    return `<li>${text}${own ? `<ul>${own}</ul>` : ""}</li>`;
  };
  const roots = [...children.keys()].filter((id) => !hasParent.has(id));
  const body = roots.map(item).join("");
  const shown = [...known.experiments.values()].filter(
    ({ experiment, parent }) => parent !== null && parent !== experiment.spec && seen.has(experiment.spec),
  );
  return {
    title: "Who came from whom",
    body: body ? `<ul>${body}</ul>` : note("Nothing was proposed after the beginning yet."),
    experiments: shown.map(({ id }) => id),
  };
}

const SHOWN_EFFECTS = 24;

/** Effects on log KL, given all other factors: the search's posterior. */
export function effects({ known, models, spec }: Plain): Section {
  const belief = beliefOf(
    known,
    models.map(({ id }) => id),
  );
  const values = new Map<string, { factor: number; value: string }>();
  for (const { id, scores } of models)
    for (const score of scores)
      levelsOf(spec(score.spec).body, id).forEach((value, factor) => {
        if (FACTORS[factor] !== "model") values.set(`${factor} ${value}`, { factor, value });
      });
  const found = [...values.values()]
    .map((one) => ({ ...one, ...belief.effect(one.factor, one.value) }))
    .sort((a, b) => Math.abs(b.log) / b.error - Math.abs(a.log) / a.error)
    .slice(0, SHOWN_EFFECTS)
    .sort((a, b) => a.log - b.log);
  const height = 64 + 20 * found.length;
  const title = "Factor on mean KL, with 95 % of the belief";
  const range = found.flatMap(({ log, error }) => [Math.exp(log - 2 * error), Math.exp(log + 2 * error)]);
  const axis = logAxis("factor on mean KL: below 1 is better", [...range, 0.9, 1.1]);
  const svg = figure({ title, width: 620, height, left: 160, x: axis, y: null }, (x) => [
    `<path class="one" d="M${fixed(x(1))} 14V${height - 44}"/>`,
    ...found.map(({ factor, value, log, error }, i) => {
      const y = 14 + 20 * (i + 0.5);
      const name = `${FACTORS[factor]}: ${value}`;
      const [low, middle, high] = [log - 2 * error, log, log + 2 * error].map((one) => x(Math.exp(one)));
      return (
        label(152, y + 4, name, "end") +
        intervalMark(low, middle, high, y, factor, `${name}: ${number(Math.exp(log))}`)
      );
    }),
  ]);
  return {
    title: "Effects",
    body: `${plots([{ caption: title, svg }])}\n${note("The search's estimate for each value of each factor, given all others, over all models: a guide, not a finding. Findings are contrasts.")}`,
    experiments: models.flatMap(({ scores }) => scores.flatMap((score) => score.experiments)),
  };
}

export function predictions(known: Snapshot): Section {
  const found = resolve(known);
  const name = (id: string) => known.specs.get(id)?.label ?? id.slice(0, 8);
  const where = ({ model, device }: Prediction) =>
    `${shortName(known.models.get(model)?.name ?? model)}${device === "gpu" ? " on a GPU" : ""}`;
  const rows = found.map(({ note, predicts, ratio, held }) => [
    note.author,
    `${name(predicts.a)} over ${name(predicts.b)}`,
    where(predicts),
    `below ${predicts.below}`,
    ratio === null ? "" : number(ratio),
    held === null ? "open" : held ? "held" : "failed",
  ]);
  const asked = new Map<string, Set<string>>();
  for (const { experiment, proposer } of known.experiments.values())
    asked.set(
      proposer,
      (asked.get(proposer) ?? new Set()).add(`${experiment.spec} ${experiment.model} ${experiment.device}`),
    );
  const proposers = [...asked].map(([proposer, specs]) => [proposer, String(specs.size)]);
  const notes = known.notes.filter((one) => one.note !== "plateau" && !one.predicts);
  return {
    title: "Predictions, proposers and notes",
    body: [
      againstOutcomes(
        found,
        (predicts) => `${name(predicts.a)} over ${name(predicts.b)}, ${where(predicts)}`,
      ),
      rows.length > 0
        ? htmlTable(["by", "ratio of mean KL", "model", "predicted", "found", ""], rows)
        : note("No predictions were made: `nibble lab propose SPEC --on MODEL --predict 0.8 --over SPEC`."),
      htmlTable(["proposer", "specs asked for, by model"], proposers),
      notes.length > 0
        ? `<ul>${notes.map(({ note, body, author }) => `<li>${escapeText(`${note} (${author}): ${body}`)}</li>`).join("")}</ul>`
        : "",
    ].join("\n"),
    experiments: found.flatMap(({ experiments }) => experiments),
  };
}

const SETTLED_ROW = 24;

/** Settled predictions: what was found as a dot, green where it lies below what was said, orange above. "": there are none. */
function againstOutcomes(found: readonly Resolved[], name: (predicts: Prediction) => string): string {
  const settled = found.flatMap(({ note, predicts, ratio, held }) =>
    ratio === null || !(ratio > 0) ? [] : [{ author: note.author, predicts, ratio, held }],
  );
  if (settled.length === 0) return "";
  const values = settled.flatMap(({ predicts, ratio }) => [predicts.below, ratio]);
  const x = logAxis("ratio of mean KL: the bar is what it was said to be below, the dot what was found", [
    ...values,
    0.9,
    1.1,
  ]);
  const height = 58 + 2 * SETTLED_ROW * settled.length;
  const title = "Predictions against outcomes";
  const svg = figure({ title, width: 620, height, left: 16, right: 16, x, y: null }, (px) =>
    settled.flatMap(({ author, predicts, ratio, held }, i) => {
      const y = 14 + 2 * SETTLED_ROW * i;
      const middle = y + 1.4 * SETTLED_ROW;
      return [
        label(8, y + 14, name(predicts), "start", "head"),
        `<path class="bound" d="M${fixed(px(predicts.below))} ${fixed(middle - 8)}v16"/>`,
        dot(
          px(ratio),
          middle,
          held ? 2 : 1,
          `${number(ratio)}, said by ${author} to be below ${predicts.below}`,
          4,
        ),
      ];
    }),
  );
  return plots([{ caption: title, svg }]);
}
