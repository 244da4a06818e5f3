/**
 * Draws rows of `nibble bench attend` as one SVG: microseconds by context, both logarithmic, a labelled line for each
 * path, and the limit set by memory bandwidth dashed under each format. A pure function from rows to text: no scripts,
 * no fonts of its own, colours for light and dark themes.
 */
import { spreadOut } from "../../plot/labels.ts";
import { logScale, logTicks, type Scale, stepAbove, stepBelow } from "../../plot/scale.ts";
import { fixed, number, escapeText as text } from "../../plot/svg.ts";
import { type AttendFinding, type AttendRow, type BandwidthRow, floorUs } from "./bench-attend.ts";

/** Options of `attendPlot`. */
export interface AttendPlotOptions {
  /** Default: that of the first row. */
  shape?: string;
  /** Tokens of the prompt's chunk; default 1, a generated token. */
  queries?: number;
}

interface Line {
  readonly label: string;
  readonly kind: "fused" | "dequantized" | "floor";
  readonly kv: string;
  /** Tokens, microseconds; ascending. */
  readonly points: readonly (readonly [number, number])[];
}

const WIDTH = 760;
const HEIGHT = 440;
const MARGIN = { left: 64, right: 190, top: 64, bottom: 52 };
const LABEL_PITCH = 17;
/** A hue for each format, in order of appearance; readable on white and on near black. */
const HUES: Readonly<Record<string, string>> = { int4: "a", rq4: "b", f16: "c" };

/** The plot; without rows, one that says so. */
export function attendPlot(found: readonly AttendFinding[], options: AttendPlotOptions = {}): string {
  const all = found.filter((row): row is AttendRow => "us" in row && row.us > 0);
  const queries = options.queries ?? (all.some((row) => row.queries === 1) ? 1 : (all[0]?.queries ?? 1));
  const of = all.filter((row) => row.queries === queries);
  const shape = options.shape ?? of[0]?.shape;
  const rows = of.filter((row) => row.shape === shape);
  if (rows.length === 0) return frame("Attention", "No measurements.", "");
  const bandwidth = found.find((row): row is BandwidthRow => row.op === "readBandwidth");
  const candidates = linesOf(rows, queries === 1 ? bandwidth : undefined);
  const timesOf = (of: readonly Line[]) => of.flatMap(({ points }) => points.map(([, us]) => us));
  // Only the part of the limits that is near the measurements: at short contexts they are far below.
  const measured = timesOf(candidates.filter(({ kind }) => kind !== "floor"));
  const low = stepBelow(Math.max(Math.min(...timesOf(candidates)), Math.min(...measured) / 5));
  const lines = candidates.filter(({ points }) => points[points.length - 1][1] >= low);
  const high = stepAbove(Math.max(...timesOf(lines)));
  const tokens = lines.flatMap(({ points }) => points.map(([at]) => at));
  const x = logScale(Math.min(...tokens), Math.max(...tokens), MARGIN.left, WIDTH - MARGIN.right);
  const y = logScale(low, high, HEIGHT - MARGIN.bottom, MARGIN.top);
  const ends = spreadOut(
    lines.map(({ points }) => y(points[points.length - 1][1])),
    LABEL_PITCH,
    MARGIN.top,
    HEIGHT - MARGIN.bottom,
  );
  const what = queries === 1 ? "one token" : `${queries} tokens`;
  const floor = bandwidth && queries === 1 ? `; dashed: the cache read once at ${bandwidth.gbps} GB/s` : "";
  return frame(
    `Attention of one layer, ${shape}, ${what}: microseconds by cached tokens`,
    `${rows[0].adapter}, ${rows[0].date}, medians${floor}`,
    [
      ...logTicks(low, high).map((value) => gridLine(y(value), value)),
      ...[...new Set(tokens)].sort((a, b) => a - b).map((value) => contextTick(x(value), value)),
      ...lines.map((line, i) => drawn(line, x, y, ends[i])),
    ].join("\n"),
  );
}

function linesOf(rows: readonly AttendRow[], bandwidth: BandwidthRow | undefined): Line[] {
  const lines: Line[] = [];
  for (const kv of new Set(rows.map((row) => row.kv))) {
    const points = (of: readonly AttendRow[], us: (row: AttendRow) => number) =>
      of.map((row) => [row.tokens, us(row)] as const).sort(([a], [b]) => a - b);
    const ofKv = rows.filter((row) => row.kv === kv);
    const slow = ofKv.filter(({ op }) => op === "attendDequantized");
    const fused = ofKv.filter(({ op }) => op !== "attendDequantized");
    const us = (row: AttendRow) => row.us;
    if (slow.length > 0)
      lines.push({ label: `${kv} dequantized`, kind: "dequantized", kv, points: points(slow, us) });
    if (fused.length > 0) lines.push({ label: kv, kind: "fused", kv, points: points(fused, us) });
    if (fused.length > 0 && bandwidth) {
      const floor = (row: AttendRow) => floorUs(row, bandwidth);
      lines.push({ label: `${kv} floor`, kind: "floor", kv, points: points(fused, floor) });
    }
  }
  return lines;
}

function drawn(line: Line, x: Scale, y: Scale, labelAt: number): string {
  const hue = HUES[line.kv] ?? "d";
  const path = line.points.map(([at, us], i) => `${i === 0 ? "M" : "L"}${fixed(x(at))} ${fixed(y(us))}`);
  const [lastTokens, lastUs] = line.points[line.points.length - 1];
  const dots =
    line.kind === "floor"
      ? []
      : line.points.map(
          ([at, us]) =>
            `<circle class="dot" cx="${fixed(x(at))}" cy="${fixed(y(us))}" r="3"><title>${text(line.label)}, ${at} tokens: ${us} us</title></circle>`,
        );
  const end = WIDTH - MARGIN.right;
  return [
    `<g class="${hue} ${line.kind}">`,
    `<path class="path" clip-path="url(#attend-plot-area)" d="${path.join("")}"/>`,
    ...dots,
    `<path class="lead" d="M${fixed(x(lastTokens) + 4)} ${fixed(y(lastUs))}L${end + 14} ${fixed(labelAt)}"/>`,
    `<text x="${end + 18}" y="${fixed(labelAt + 4)}">${text(line.label)} ${number(lastUs)}</text>`,
    "</g>",
  ].join("\n");
}

function gridLine(at: number, us: number): string {
  const y = fixed(at);
  return [
    `<path class="grid" d="M${MARGIN.left} ${y}H${WIDTH - MARGIN.right}"/>`,
    `<text class="tick" x="${MARGIN.left - 8}" y="${fixed(at + 4)}" text-anchor="end">${number(us)}</text>`,
  ].join("\n");
}

function contextTick(at: number, tokens: number): string {
  const base = HEIGHT - MARGIN.bottom;
  const label = tokens >= 1024 && tokens % 1024 === 0 ? `${tokens / 1024}K` : `${tokens}`;
  return [
    `<path class="grid" d="M${fixed(at)} ${MARGIN.top}V${base}"/>`,
    `<text class="tick" x="${fixed(at)}" y="${base + 20}" text-anchor="middle">${label}</text>`,
  ].join("\n");
}

/** Every rule names the plot, because inside a page a style applies to the whole page. */
const STYLE = [
  "{ font: 13px system-ui, sans-serif; --ink: #1b1f24; --faint: #666f7a; --grid: #0002 }",
  "{ --a: #0a58ca; --b: #b3400a; --c: #5b6470; --d: #7a3aa8 }",
  "text { fill: var(--ink) }",
  ".tick, .attend-plot .note { fill: var(--faint) }",
  ".title { font-weight: 600 }",
  ".grid { stroke: var(--grid); fill: none }",
  ".a { --hue: var(--a) }",
  ".b { --hue: var(--b) }",
  ".c { --hue: var(--c) }",
  ".d { --hue: var(--d) }",
  ".path { fill: none; stroke: var(--hue); stroke-width: 2 }",
  ".dot { fill: var(--hue) }",
  ".lead { stroke: var(--hue); stroke-width: 0.75; opacity: 0.5 }",
  "g text { fill: var(--hue) }",
  ".dequantized .path { stroke-width: 1.5; opacity: 0.6 }",
  ".dequantized .dot { opacity: 0.6 }",
  ".floor .path { stroke-dasharray: 5 4; stroke-width: 1.25 }",
]
  .map((rule) => `.attend-plot ${rule}`)
  .concat(
    "@media (prefers-color-scheme: dark) { .attend-plot { --ink: #e6e8eb; --faint: #9aa3ad; --grid: #fff2; --a: #6ea8fe; --b: #ff9d5c; --c: #aab4bf; --d: #cf9bff } }",
  )
  .join("\n");

function frame(title: string, note: string, content: string): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" class="attend-plot" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${text(title)}">
<style>
${STYLE}
</style>
<text class="title" x="16" y="26">${text(title)}</text>
<text class="note" x="16" y="46">${text(note)}</text>
<clipPath id="attend-plot-area"><rect x="${MARGIN.left - 4}" y="0" width="${WIDTH}" height="${HEIGHT - MARGIN.bottom}"/></clipPath>
${content}
</svg>
`;
}
