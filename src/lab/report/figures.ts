/** The lab's figures of specs and models: sizes, contrasts, the grid of methods, losses by position. Pure: known -> sections. */
import {
  type Axis,
  dot,
  endNames,
  figure,
  intervalMark,
  label,
  line,
  logAxis,
  markNames,
  roomFor,
} from "../../plot/figure.ts";
import { escapeText, fixed, number } from "../../plot/svg.ts";
import { type Contrast, contrast } from "../contrast.ts";
import { unpackLosses } from "../losses.ts";
import { frontier, type Score, scoresOf } from "../scores.ts";
import type { Snapshot } from "../snapshot.ts";
import { isPlain } from "../spec.ts";
import type { Measured, SpecEntry } from "../types.ts";
import { htmlTable, note, plots, type Section } from "./page.ts";

/** What all figures look at: specs that change only how the cache is held. */
export interface Plain {
  readonly known: Snapshot;
  /** Each model on each device that it was measured on. */
  readonly models: readonly {
    readonly id: string;
    /** The model's name; if it was measured on a GPU, with the GPU's name. */
    readonly name: string;
    readonly device: Measured;
    readonly scores: readonly Score[];
  }[];
  spec(id: string): SpecEntry;
}

export function plainOf(known: Snapshot): Plain {
  const has = (id: string) => {
    const body = known.specs.get(id)?.body;
    return body !== undefined && isPlain(body);
  };
  const models = (["cpu", "gpu"] as const).flatMap((device) =>
    [...known.models.values()].map(({ id, name }) => {
      const scores = [...scoresOf(known, id, undefined, device).values()].filter(({ spec }) => has(spec));
      const where = device === "gpu" ? ` on ${devicesOf(known, ids(scores))}` : "";
      return { id, name: `${shortName(name)}${where}`, device, scores };
    }),
  );
  return {
    known,
    models: models.filter(({ scores }) => scores.length > 0),
    spec: (id) => known.specs.get(id)!,
  };
}

/** The same, of one device: that on which more specs were measured, else a CPU. */
export function mainOf(plain: Plain): Plain {
  const on = (name: Measured) => plain.models.filter(({ device }) => device === name);
  const specs = (models: Plain["models"]) =>
    new Set(models.flatMap(({ scores }) => scores.map(({ spec }) => spec))).size;
  const [cpu, gpu] = [on("cpu"), on("gpu")];
  return { ...plain, models: specs(gpu) > specs(cpu) ? gpu : cpu };
}

/** Names of the devices that the results came from. */
function devicesOf(known: Snapshot, experiments: readonly string[]): string {
  return [...new Set(experiments.map((id) => known.results.get(id)?.env.device ?? "?"))].join(", ");
}

/** The last part of a path. */
export const shortName = (name: string) => name.split(/[\\/]/).at(-1) ?? name;

const ids = (scores: readonly Score[]) => scores.flatMap(({ experiments }) => experiments);

/** Width of a figure with one panel for each model. */
const WIDTH = 460;

export function sizes({ known, models, spec }: Plain): Section {
  const tokens = [...known.texts.values()].map((text) => text.tokens).sort((a, b) => a - b);
  const figures = models.map(({ name, scores }) => {
    const best = frontier(scores, (id) => spec(id).bits);
    const bits = scores.map((score) => spec(score.spec).bits);
    const title = `${name}: mean KL (nats) by bits a value`;
    const x = {
      label: "bits a value, all counted, at 4,096 tokens",
      low: Math.floor(Math.min(...bits)),
      high: Math.ceil(Math.max(...bits) + 0.01),
    };
    const svg = figure(
      {
        title,
        width: WIDTH,
        x,
        y: logAxis(
          "mean KL",
          scores.map(({ kl }) => kl),
        ),
      },
      (px, py) => [
        line(
          best.map((score) => [px(spec(score.spec).bits), py(score.kl)] as const),
          0,
        ),
        // A spec that is not the best of its size has its name in a tooltip. Marks lie over names, so that none is hidden.
        ...markNames(
          best.map((score) => ({
            x: px(spec(score.spec).bits),
            y: py(score.kl),
            name: spec(score.spec).label,
          })),
          WIDTH,
        ),
        ...scores.map((score) => {
          const { label: text, bits, id } = spec(score.spec);
          const isBest = best.includes(score);
          const about = `${text} (${id.slice(0, 8)}): ${number(score.kl)} at ${bits.toFixed(2)} bits; ${score.positions} positions; ${score.experiments
            .map((one) => one.slice(0, 8))
            .slice(0, 6)
            .join(" ")}`;
          const mark = dot(px(bits), py(score.kl), isBest ? 0 : 4, about);
          return isBest ? mark : `<g class="faint">${mark}</g>`;
        }),
      ],
    );
    return { caption: title, svg };
  });
  const rows = models.flatMap(({ name, scores }) =>
    frontier(scores, (id) => spec(id).bits).map((score) => [
      ...[name, spec(score.spec).label, score.spec.slice(0, 8), spec(score.spec).bits.toFixed(2)],
      ...[
        `${number(score.kl)} ± ${Math.round(100 * score.error)} %`,
        `${(100 * score.sameTop).toFixed(1)} %`,
      ],
      ...[score.texts, score.positions, score.draws].map(String),
    ]),
  );
  return {
    title: "Size against loss",
    body: `${plots(figures)}\n${htmlTable(["model", "best of its size", "id", "bits", "mean KL", "same top token", "texts", "positions", "draws"], rows)}
${note(`The line joins the best of every size; other specs are grey, with their names and experiments when pointed at. Measured on texts of ${[...new Set([tokens[0], tokens.at(-1)])].join(" to ")} tokens. Tokens that stay f16 (sinks, newest) are a larger share of these than of 4,096, at which bits are counted.`)}`,
    experiments: ids(models.flatMap(({ scores }) => scores)),
  };
}

const ROW = 22;
/** The axis ends before ratios beyond this. */
const WIDEST = 25;
/** Between a contrast and the next. */
const GAP = 10;

/** Pairs with everything else equal, and each against the first: the report's default contrasts. */
export function contrastsOf(
  { known, models }: Plain,
  pairs: readonly (readonly [SpecEntry, SpecEntry])[],
): Contrast[] {
  const shown = models.map(({ id }) => id);
  const { device } = models[0];
  return pairs
    .map(([a, b]) => contrast(known, a.id, b.id, { models: shown, devices: [device, device] }))
    .filter(({ rows }) => rows.length > 0);
}

export function forest({ known, models }: Plain, contrasts: readonly Contrast[]): Section {
  const name = (id: string) => known.specs.get(id)?.label ?? id.slice(0, 8);
  const all = contrasts.flatMap(({ rows }) => rows);
  const height = 60 + contrasts.reduce((sum, { rows }) => sum + ROW * (rows.length + 1) + GAP, 0);
  const title = "Ratios of mean KL with 95 % intervals";
  // An interval that says nothing would leave the others no room.
  const ends = all.flatMap(({ low, high }) => [Math.max(low, 1 / WIDEST), Math.min(high, WIDEST)]);
  const axis = logAxis("ratio: below 1 the first is better", [...ends, 0.9, 1.1]);
  const svg = figure({ title, width: 900, height, left: 260, right: 30, x: axis, y: null }, (x) => {
    let top = 14;
    const next = (pixels: number) => {
      top += pixels;
      return top - pixels / 2;
    };
    const within = (value: number) => x(Math.min(axis.high, Math.max(axis.low, value)));
    return [
      `<path class="one" d="M${fixed(x(1))} 14V${height - 44}"/>`,
      ...contrasts.flatMap(({ a, b, rows, groups }) => {
        const flips = groups.some((group) => group.flips);
        const head = label(
          8,
          next(ROW) + 6,
          `${name(a)} over ${name(b)}${flips ? " (FLIPS)" : ""}`,
          "start",
          flips ? "head flip" : "head",
        );
        const marks = rows.map((one) => {
          const y = next(ROW);
          const hue = models.findIndex(({ id }) => id === one.model);
          const about = `${one.name}: ${number(one.ratio)} [${number(one.low)}, ${number(one.high)}], q ${number(one.q)}; ${one.experiments.length} experiments`;
          return [
            label(250, y + 4, shortName(one.name), "end"),
            intervalMark(within(one.low), within(one.ratio), within(one.high), y, hue, about),
            one.low < axis.low ? label(x(axis.low) - 1, y + 4, "‹", "end", "head") : "",
            one.high > axis.high ? label(x(axis.high) + 1, y + 4, "›", "start", "head") : "",
          ].join("");
        });
        next(GAP);
        return [head, ...marks];
      }),
    ];
  });
  const single = all.some(({ draws }) => draws === 1);
  return {
    title: "Contrasts by model",
    body: [
      all.length === 0
        ? note("No two specs that differ in one thing have been measured on one text.")
        : plotsWide(title, svg),
      note(
        `Paired on the same positions; texts, blocks of up to 16 positions and rounding draws are in the interval${single ? ", but where there was one draw rounding is not" : ""}. Claims about kinds of models need models as units: ${models.length} are here.`,
      ),
    ].join("\n"),
    experiments: all.flatMap(({ experiments }) => experiments),
  };
}

const plotsWide = (caption: string, svg: string) =>
  `<figure style="max-width: none"><figcaption>${escapeText(caption)}</figcaption>\n${svg}</figure>`;

/** What a GPU's own caches cost, and over the same specs on a CPU: a check of both. null: nothing was measured on a GPU. */
export function onGpus({ known, models, spec }: Plain): Section | null {
  const onGpu = models.filter(({ device }) => device === "gpu");
  if (onGpu.length === 0) return null;
  const rows = onGpu.flatMap(({ id, name, scores }) =>
    scores.map((score) => {
      const { label, bits } = spec(score.spec);
      const devices = ["gpu", "cpu"] as const;
      const [found] = contrast(known, score.spec, score.spec, { models: [id], devices }).rows;
      return [
        ...[name, label, bits.toFixed(2), `${number(score.kl)} ± ${Math.round(100 * score.error)} %`],
        ...[`${(100 * score.sameTop).toFixed(1)} %`, String(score.texts), String(score.positions)],
        found ? `${number(found.ratio)} [${number(found.low)}, ${number(found.high)}]` : "not measured there",
      ];
    }),
  );
  const heads = ["model and device", "spec", "bits", "mean KL", "same top token", "texts", "positions"];
  return {
    title: "On a GPU, and over a CPU",
    body: `${htmlTable([...heads, "mean KL over a CPU's, 95 %"], rows)}
${note("A GPU's kernels read a cache of this format; on a CPU an f16 cache is rewritten. Both are compared with f16 on their own device.")}`,
    experiments: ids(onGpu.flatMap(({ scores }) => scores)),
  };
}

/** Specs by models: log ratio to int4, or to the first that all have. Specs of one model alone have nothing to compare. */
export function heat({ models, spec }: Plain, base: string): Section {
  const seen = new Map<string, number>();
  for (const { scores } of models) for (const { spec: id } of scores) seen.set(id, (seen.get(id) ?? 0) + 1);
  const specs = [...seen.keys()]
    .filter((id) => seen.get(id)! >= Math.min(2, models.length) && id !== base)
    .sort((a, b) => spec(a).bits - spec(b).bits)
    .slice(0, 60);
  const rows = specs.map((id) => {
    const cells = models.map(({ scores }) => {
      const [own, other] = [
        scores.find((score) => score.spec === id),
        scores.find((score) => score.spec === base),
      ];
      if (!own || !other) return "<td></td>";
      const log = own.log - other.log;
      // Text stays readable on the deepest, light and dark.
      const strength = Math.min(0.45, Math.abs(log) / 4).toFixed(2);
      return `<td style="background: rgb(var(--${log < 0 ? "good" : "bad"}) / ${strength})" title="${own.experiments
        .map((one) => one.slice(0, 8))
        .slice(0, 6)
        .join(" ")}">${number(Math.exp(log))}</td>`;
    });
    return `<tr><td>${escapeText(spec(id).label)}</td><td>${spec(id).bits.toFixed(2)}</td>${cells.join("")}</tr>`;
  });
  const heads = ["spec", "bits", ...models.map(({ name }) => name)].map(
    (text) => `<th>${escapeText(text)}</th>`,
  );
  const shown = models.flatMap(({ scores }) => scores.filter((score) => specs.includes(score.spec)));
  return {
    title: `Mean KL over that of ${spec(base).label}`,
    body: `<table><tr>${heads.join("")}</tr>\n${rows.join("\n")}</table>
${note(`Green loses less than ${spec(base).label}, orange more; the deeper the colour, the farther from 1. A cell that is pointed at names its experiments.`)}`,
    experiments: ids(shown),
  };
}

/** Lines with their names at the ends, each in its colour. */
export function namedLines(
  title: string,
  x: Axis,
  y: Axis,
  lines: readonly {
    readonly name: string;
    readonly points: readonly (readonly [number, number])[];
    readonly hue?: number;
  }[],
): string {
  const shown = lines
    .map(({ hue, ...one }, i) => ({ ...one, hue: hue ?? i }))
    .filter(({ points }) => points.length > 0);
  const right = roomFor(shown.map(({ name }) => name));
  return figure({ title, width: 620, height: 330, right, x, y }, (px, py) => {
    const placed = shown.map(({ points, ...one }) => ({
      ...one,
      points: points.map(([at, value]) => [px(at), py(value)] as const),
    }));
    const ends = placed.map(({ name, hue, points }) => ({
      ...{ name, hue },
      x: points[points.length - 1][0],
      y: points[points.length - 1][1],
    }));
    return [...placed.map(({ points, hue }) => line(points, hue)), ...endNames(ends)];
  });
}

const BUCKET = 16;

/** Losses along the texts, of the best specs. */
export function byPosition({ known, models, spec }: Plain): Section {
  const experiments: string[] = [];
  const figures = models.flatMap(({ name, scores }) => {
    const chosen = frontier(scores, (id) => spec(id).bits).slice(0, 6);
    const lines = chosen.map((score) => {
      const sums: { sum: number; count: number }[] = [];
      for (const id of score.experiments) {
        const { kl } = unpackLosses(known.results.get(id)!);
        kl.forEach((loss, i) => {
          const bucket = Math.floor(i / BUCKET);
          sums[bucket] ??= { sum: 0, count: 0 };
          sums[bucket].sum += loss;
          sums[bucket].count++;
        });
      }
      experiments.push(...score.experiments);
      return {
        score,
        points: sums
          .map(({ sum, count }, i) => [(i + 0.5) * BUCKET, sum / count] as const)
          .filter(([, y]) => y > 0),
      };
    });
    const longest = Math.max(...lines.map(({ points }) => points.length));
    if (longest < 2) return [];
    const title = `${name}: mean KL (nats) by position`;
    const x = { label: "positions after the first measured one", low: 0, high: longest * BUCKET };
    const values = lines.flatMap(({ points }) => points.map(([, y]) => y));
    const drawn = lines.map(({ score, points }) => ({ name: spec(score.spec).label, points }));
    const svg = namedLines(title, x, logAxis("mean KL", values), drawn);
    return [{ caption: title, svg }];
  });
  return {
    title: "Loss by position",
    body: figures.length > 0 ? plots(figures) : note("Texts are too short."),
    experiments,
  };
}
