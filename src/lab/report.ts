/**
 * All that a lab knows as one page: HTML without scripts, nothing fetched. Chooses the figures, and the contrasts that are
 * made by default: specs that differ in one thing.
 */
import { escapeText } from "../plot/svg.ts";
import type { Methods } from "./methods/methods.ts";
import {
  byPosition,
  contrastsOf,
  forest,
  heat,
  mainOf,
  onGpus,
  type Plain,
  plainOf,
  shortName,
  sizes,
} from "./report/figures.ts";
import { bestSoFar, byLayer, effects, parents, predictions } from "./report/history.ts";
import { htmlTable, note, page, type Section } from "./report/page.ts";
import type { Snapshot } from "./snapshot.ts";
import { specEntry } from "./space.ts";
import { specId } from "./spec.ts";
import type { SpecEntry } from "./types.ts";

const MOST_CONTRASTS = 16;

export function labReport(known: Snapshot, methods: Methods): string {
  const plain = plainOf(known);
  const names = plain.models.map(({ name }) => name).join(", ");
  const title = names === "" ? "A lab" : `What cache formats cost ${names}`;
  const lead = `<p>${escapeText(summary(known))}</p>`;
  if (plain.models.length === 0)
    return page(title, lead, [
      { title: "Nothing yet", body: note("Run `nibble lab run`."), experiments: [] },
    ]);
  const main = mainOf(plain);
  const base = baseOf(main, methods);
  const gpus = onGpus(plain);
  const layers = byLayer(known);
  const sections: Section[] = [
    sizes(plain),
    forest(main, contrastsOf(main, pairsOf(main, base))),
    ...(base ? [heat(main, base.id)] : []),
    ...(gpus ? [gpus] : []),
    byPosition(plain),
    ...(layers ? [layers] : []),
    bestSoFar(main),
    parents(known),
    ...(main.models[0].device === "cpu" ? [effects(main)] : []),
    predictions(known),
    models(known),
  ];
  return page(title, lead, sections);
}

function summary(known: Snapshot): string {
  const held = [...known.texts.values()].filter(({ split }) => split === "holdout").length;
  return `${known.results.size} experiments with ${known.specs.size} specs on ${known.models.size === 1 ? "one model" : `${known.models.size} models`}, over ${known.texts.size} texts of which ${held} are held out. KL divergence from the same model over an f16 cache, in nats, position by position. Reported by \`nibble lab\`.`;
}

/** int4, if anything was measured with it; else what most models have. */
function baseOf({ models, spec }: Plain, methods: Methods): SpecEntry | null {
  const int4 = { method: "affine", bits: 4, group: 32 };
  const { id } = specEntry({ keys: int4, values: int4 }, methods);
  const all = models.flatMap(({ scores }) => scores.map((score) => score.spec));
  if (all.includes(id)) return spec(id);
  const counts = new Map<string, number>();
  for (const one of all) counts.set(one, (counts.get(one) ?? 0) + 1);
  const most = [...counts].sort((a, b) => b[1] - a[1])[0];
  return most ? spec(most[0]) : null;
}

/** Specs that differ in one factor; then the others against the base; most models first. */
function pairsOf(
  { models, spec, known }: Plain,
  base: SpecEntry | null,
): (readonly [SpecEntry, SpecEntry])[] {
  const ids = [...new Set(models.flatMap(({ scores }) => scores.map((score) => score.spec)))];
  const has = new Set(ids);
  const models_ = (id: string) =>
    models.filter(({ scores }) => scores.some((score) => score.spec === id)).length;
  const pairs: (readonly [SpecEntry, SpecEntry])[] = [];
  for (const id of ids) {
    const { body } = spec(id);
    const without = [
      { ...body, keys: { ...body.keys, rotate: false }, values: { ...body.values, rotate: false } },
      { ...body, keys: { ...body.keys, mean: false } },
      { ...body, recent: 0 },
      { ...body, sinks: 0 },
    ];
    for (const other of without) {
      const otherId = specId(other);
      if (otherId !== id && has.has(otherId)) pairs.push([spec(id), spec(otherId)]);
    }
  }
  if (base) pairs.push(...ids.filter((id) => id !== base.id).map((id) => [spec(id), base] as const));
  const weight = ([a, b]: readonly [SpecEntry, SpecEntry]) => Math.min(models_(a.id), models_(b.id));
  const once = new Map(pairs.map((pair) => [`${pair[0].id} ${pair[1].id}`, pair]));
  const runs = (id: string) =>
    [...known.experiments.values()].filter(({ experiment }) => experiment.spec === id).length;
  return [...once.values()]
    .map((pair) => ({ pair, models: weight(pair), runs: Math.min(runs(pair[0].id), runs(pair[1].id)) }))
    .sort((a, b) => b.models - a.models || b.runs - a.runs)
    .slice(0, MOST_CONTRASTS)
    .map(({ pair }) => pair);
}

function models(known: Snapshot): Section {
  const all = [...known.models.values()];
  const keys = [...new Set(all.flatMap(({ facts }) => Object.keys(facts)))];
  const rows = keys.map((key) => [key, ...all.map(({ facts }) => String(facts[key] ?? ""))]);
  const ran = (id: string) =>
    [...known.results.keys()].filter((one) => known.experiments.get(one)?.experiment.model === id);
  rows.push(["experiments", ...all.map(({ id }) => String(ran(id).length))]);
  return {
    title: "Models",
    body: htmlTable(["fact", ...all.map(({ name }) => shortName(name))], rows),
    experiments: all.flatMap(({ id }) => ran(id)),
  };
}
