/**
 * The report of `nibble verify --html`: one page without scripts and without anything fetched. Rows in, text out.
 * Names of models, files and devices come from outside and are escaped.
 */
import {
  type DepthRow,
  type DivergenceSummary,
  type FormatRow,
  GRADES,
  type LayerRow,
  type NeedleRow,
  type VerifyRow,
} from "../index.ts";
import { dot, figure, label, logAxis } from "../plot/figure.ts";
import { bytes, grouped } from "../plot/numbers.ts";
import { escapeText } from "../plot/svg.ts";
import { MEASURED_HEADS, MEASURED_NOTE, measuredCells } from "./verify-cells.ts";
import { plotSvg } from "./verify-plot.ts";

export interface VerifyReport {
  readonly model: string;
  /** What was read, for people. */
  readonly read: string;
  readonly rows: readonly VerifyRow[];
  readonly date: string;
}

export function verifyPage({ model, read, rows, date }: VerifyReport): string {
  const formats = rows.filter((row) => row.kind === "format");
  const device = formats[0]?.device ?? "";
  const title = `Cache formats of ${model}`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeText(title)}</title>
<style>${STYLE}</style>
<h1>${escapeText(title)}</h1>
<p>Compared with f16 by <code>nibble verify</code> on ${escapeText(date)}: ${escapeText(device)}, Node ${escapeText(process.version)}. Text: ${escapeText(read)}.</p>
<h2>Verdicts</h2>
${verdictTable(rows)}
<p class="note">Grades, by the largest mean KL of any depth in nats: ${escapeText(grades())} (llama.cpp's figures for weights). A format that loses needles that f16 finds is at most fair.</p>
<h2>Distance from f16</h2>
${plots(rows)}
${layerTable(rows)}
${depthTable(rows)}
${needleTables(rows)}
</html>
`;
}

function grades(): string {
  return GRADES.map(([grade, most, like]) =>
    Number.isFinite(most) ? `${grade} to ${most}, ${like}` : `${grade} beyond`,
  ).join("; ");
}

function verdictTable(rows: readonly VerifyRow[]): string {
  return table(
    ["cache", "bytes", "grade", "because"],
    rows
      .filter((row) => row.kind === "verdict")
      .map(({ kv, grade, text }) => {
        const cache = rows.find((row) => row.kind === "format" && row.kv === kv);
        return [kv, cache?.kind === "format" ? bytes(cache.cacheBytes) : "", grade, text];
      }),
  );
}

function depthRows(rows: readonly VerifyRow[]): DepthRow[] {
  return rows.filter((row): row is DepthRow => row.kind === "depth");
}

function plots(rows: readonly VerifyRow[]): string {
  const all = depthRows(rows);
  const compared = [...new Set(all.filter((row) => row.divergence).map(({ kv }) => kv))];
  const depths = [...new Set(all.map(({ depth }) => depth))].filter((depth) => depth !== null);
  const answers = rows.filter((row) => row.kind === "answer");
  const lengths = [...new Set(answers.map(({ tokens }) => tokens))];
  // One depth alone has no row for all of them.
  const whole = (kv: string) => all.filter((row) => row.kv === kv).at(-1)?.divergence;
  const drawn = [
    {
      title: "Mean KL by tokens in front, nats",
      places: depths.map(grouped),
      lines: compared.map((name) => ({
        name,
        values: depths.map(
          (depth) => all.find((row) => row.kv === name && row.depth === depth)?.divergence?.meanKl ?? null,
        ),
      })),
    },
    {
      title: "KL that a share of all positions does not exceed, nats",
      places: ["50 %", "90 %", "99 %", "99.9 %", "all"],
      lines: compared.map((name) => {
        const found = whole(name);
        const values = found ? [found.medianKl, found.kl90, found.kl99, found.kl999, found.maxKl] : [];
        return { name, values };
      }),
    },
    {
      title: "Mean KL in its answers to questions about needles, by tokens in front, nats",
      places: lengths.map(grouped),
      lines: compared.map((name) => ({
        name,
        values: lengths.map(
          (length) =>
            answers.find((row) => row.kv === name && row.tokens === length)?.divergence?.meanKl ?? null,
        ),
      })),
    },
  ];
  const inLayers = layerRows(rows).filter(({ depth }) => depth === lastDepth(rows));
  const layers = [...new Set(inLayers.map(({ layer }) => layer))];
  drawn.push({
    title: "Mean KL of each layer alone in the format, by layer, nats",
    places: layers.map(String),
    lines: compared.map((name) => ({
      name,
      values: layers.map(
        (layer) => inLayers.find((row) => row.kv === name && row.layer === layer)?.divergence?.meanKl ?? null,
      ),
    })),
  });
  const figures = [bitsFigure(rows, compared, whole), ...drawn].flatMap((plot) => {
    const svg = "svg" in plot ? plot.svg : plotSvg(plot);
    return svg ? [`<figure><figcaption>${escapeText(plot.title)}</figcaption>\n${svg}</figure>`] : [];
  });
  return `<div class="plots">${figures.join("\n")}</div>`;
}

/** Bits a value against the loss. */
function bitsFigure(
  rows: readonly VerifyRow[],
  compared: readonly string[],
  whole: (kv: string) => DivergenceSummary | null | undefined,
): { title: string; svg: string | null } {
  const title = "Mean KL by bits a value at this context, nats";
  const bytesOf = (kv: string) =>
    rows.find((row): row is FormatRow => row.kind === "format" && row.kv === kv)?.cacheBytes ?? 0;
  const points = compared.flatMap((kv) => {
    const kl = whole(kv)?.meanKl ?? 0;
    return kl > 0 ? [{ kv, kl, bits: (16 * bytesOf(kv)) / bytesOf("f16") }] : [];
  });
  if (points.length === 0) return { title, svg: null };
  const bits = points.map((point) => point.bits);
  const shape = {
    title,
    x: {
      label: "bits a value",
      low: Math.floor(Math.min(...bits)),
      high: Math.ceil(Math.max(...bits) + 0.5),
    },
    y: logAxis(
      "",
      points.map(({ kl }) => kl),
    ),
    right: 90,
  };
  const svg = figure(shape, (x, y) =>
    points.flatMap(({ kv, kl, bits }, i) => [
      dot(x(bits), y(kl), i, `${kv}: ${bits.toFixed(2)} bits, ${kl.toPrecision(3)} nats`),
      label(x(bits) + 8, y(kl) + 4, kv),
    ]),
  );
  return { title, svg };
}

function layerRows(rows: readonly VerifyRow[]): LayerRow[] {
  return rows.filter((row): row is LayerRow => row.kind === "layer");
}

/** All depths together, where there are several. */
function lastDepth(rows: readonly VerifyRow[]): number | null {
  const depths = [...new Set(layerRows(rows).map(({ depth }) => depth))];
  return depths.length > 1 ? null : (depths[0] ?? null);
}

/** Layers down, depths across: where the loss arises, and how far into a text. */
function layerTable(rows: readonly VerifyRow[]): string {
  const all = layerRows(rows);
  const depths = [...new Set(all.map(({ depth }) => depth))].filter((depth) => depth !== null);
  return [...new Set(all.map(({ kv }) => kv))]
    .map((kv) => {
      const own = all.filter((row) => row.kv === kv);
      const lines = [...new Set(own.map(({ layer }) => layer))].map((layer) => [
        `${layer}`,
        ...depths.map((depth) => {
          const found = own.find((row) => row.layer === layer && row.depth === depth)?.divergence;
          return found ? found.meanKl.toPrecision(2) : "";
        }),
      ]);
      const heads = ["layer", ...depths.map((depth) => `from ${grouped(depth)}`)];
      return `<h2>${escapeText(kv)}, a layer alone: mean KL, nats</h2>\n${table(heads, lines)}`;
    })
    .join("\n");
}

function depthTable(rows: readonly VerifyRow[]): string {
  const measured = rows.filter((row) => row.kind === "depth" || row.kind === "answer");
  return `${table(MEASURED_HEADS, measured.map(measuredCells))}
<p class="note">${escapeText(MEASURED_NOTE)}</p>`;
}

/** One for each format: lengths down, depths across. */
function needleTables(rows: readonly VerifyRow[]): string {
  const all = rows.filter((row): row is NeedleRow => row.kind === "needle");
  if (all.length === 0) return "";
  const depths = [...new Set(all.map(({ depth }) => depth))];
  const tables = [...new Set(all.map(({ kv }) => kv))].map((kv) => {
    const own = all.filter((row) => row.kv === kv);
    const lines = [...new Set(own.map(({ tokens }) => tokens))].map((tokens) => {
      const cells = own
        .filter((row) => row.tokens === tokens)
        .map(({ right, asked }) => {
          const share = Math.round((100 * right) / asked);
          return `<td class="needle" style="--share:${share}%">${right}/${asked}</td>`;
        });
      return `<tr><th>${grouped(tokens)}</th>${cells.join("")}</tr>`;
    });
    const head = depths.map((depth) => `<th>${Math.round(100 * depth)} %</th>`).join("");
    return `<table><caption>${escapeText(kv)}</caption><tr><th>tokens</th>${head}</tr>${lines.join("")}</table>`;
  });
  return `<h2>Needles</h2>
<p class="note">Facts planted in the text at a depth and asked for: right answers of questions.</p>
<div class="plots">${tables.join("\n")}</div>`;
}

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = heads.map((text) => `<th>${escapeText(text)}</th>`).join("");
  const body = rows.map((row) => {
    // A line under every column, also where a row ends early.
    const cells = heads.map((_, i) => `<td>${escapeText(row[i] ?? "")}</td>`);
    return `<tr>${cells.join("")}</tr>`;
  });
  return `<table><tr>${head}</tr>\n${body.join("\n")}</table>`;
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #8884; --0: #0a58ca; --1: #b3400a; --2: #5b6470; --3: #7a3aa8; --4: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #15181c; --0: #6ea8fe; --1: #ff9d5c; --2: #aab4bf; --3: #cf9bff; --4: #5fd07a; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; }
td:not(:last-child) { white-space: nowrap; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--faint); text-align: left; }
.needle { background: color-mix(in srgb, var(--4) calc(var(--share) * .6), transparent); text-align: center; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
figure { margin: 0; flex: 1 1 26rem; max-width: 38rem; }
svg { width: 100%; font-size: 13px; }
svg text { fill: currentColor; }
.grid { stroke: var(--faint); }
polyline { fill: none; stroke: var(--hue); stroke-width: 2; }
g circle, g text { fill: var(--hue) !important; }
circle { fill: var(--hue); }
.hue-0, .hue-5 { --hue: var(--0); } .hue-1 { --hue: var(--1); } .hue-2 { --hue: var(--2); } .hue-3 { --hue: var(--3); } .hue-4 { --hue: var(--4); }
.line-0 { --hue: var(--0); } .line-1 { --hue: var(--1); } .line-2 { --hue: var(--2); } .line-3 { --hue: var(--3); } .line-4 { --hue: var(--4); }
.note { opacity: .75; }
`;
