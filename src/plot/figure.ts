/**
 * A figure with axes as inline SVG without scripts: frame, ticks and marks. Colours are CSS classes (hue-0, hue-1, ...)
 * that the page defines. All text is escaped here. Pure.
 */
import { spreadOut } from "./labels.ts";
import { linearScale, linearTicks, logScale, logTicks, type Scale, stepAbove, stepBelow } from "./scale.ts";
import { escapeText, fixed, number } from "./svg.ts";

export interface Axis {
  readonly label: string;
  readonly low: number;
  readonly high: number;
  readonly log?: boolean;
}

export interface FigureShape {
  readonly title: string;
  readonly width?: number;
  readonly height?: number;
  readonly x: Axis;
  /** null: y is not a scale; the figure has rows of its own. */
  readonly y: Axis | null;
  readonly left?: number;
  readonly right?: number;
}

const TOP = 14;
const BOTTOM = 44;
/** Width of a tick's number. */
const TICK = 50;
/** Line height of 12-pixel text, and the width of a letter. */
const LINE = 14;
const LETTER = 6.6;

/** The marks as SVG, given functions that map values to coordinates. */
export function figure(shape: FigureShape, marks: (x: Scale, y: Scale) => readonly string[]): string {
  const { title, width = 460, height = 300, left = 62, right = 16 } = shape;
  const scaleOf = ({ low, high, log }: Axis, from: number, to: number) =>
    (log ? logScale : linearScale)(low, high, from, to);
  const x = scaleOf(shape.x, left, width - right);
  const y = shape.y ? scaleOf(shape.y, height - BOTTOM, TOP) : (value: number) => TOP + value;
  const ticksOf = ({ low, high, log }: Axis, pixels: number) =>
    log ? logTicks(low, high, Math.max(8, pixels / TICK)) : linearTicks(low, high);
  const base = height - BOTTOM;
  return [
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeText(title)}">`,
    ...ticksOf(shape.x, width - right - left).flatMap((value) => [
      `<path class="grid" d="M${fixed(x(value))} ${TOP}V${base}"/>`,
      `<text class="tick" x="${fixed(x(value))}" y="${base + 17}" text-anchor="middle">${number(value)}</text>`,
    ]),
    ...(shape.y ? ticksOf(shape.y, 0) : []).flatMap((value) => [
      `<path class="grid" d="M${left} ${fixed(y(value))}H${width - right}"/>`,
      `<text class="tick" x="${left - 7}" y="${fixed(y(value) + 4)}" text-anchor="end">${number(value)}</text>`,
    ]),
    `<text class="tick" x="${fixed((left + width - right) / 2)}" y="${height - 8}" text-anchor="middle">${escapeText(shape.x.label)}</text>`,
    ...marks(x, y),
    "</svg>",
  ].join("\n");
}

/** An axis that covers all values and ends at round numbers. */
export function logAxis(label: string, values: readonly number[]): Axis {
  const shown = values.filter((value) => value > 0 && Number.isFinite(value));
  if (shown.length === 0) return { label, low: 0.1, high: 10, log: true };
  return { label, low: stepBelow(Math.min(...shown)), high: stepAbove(Math.max(...shown)), log: true };
}

export function dot(x: number, y: number, hue: number, title: string, radius = 3.5): string {
  return `<circle class="hue-${hue % 6}" cx="${fixed(x)}" cy="${fixed(y)}" r="${radius}"><title>${escapeText(title)}</title></circle>`;
}

export function line(points: readonly (readonly [number, number])[], hue: number): string {
  if (points.length === 0) return "";
  const path = points.map(([x, y], i) => `${i === 0 ? "M" : "L"}${fixed(x)} ${fixed(y)}`).join("");
  return `<path class="line hue-${hue % 6}" d="${path}"/>`;
}

/** The width on the right that `endNames` needs. */
export const roomFor = (names: readonly string[]) =>
  22 + LETTER * Math.max(0, ...names.map((name) => name.length));

/** Names at the ends of lines, in their colours, without overlaps. */
export function endNames(
  ends: readonly { readonly x: number; readonly y: number; readonly name: string; readonly hue: number }[],
): string[] {
  const places = spreadOut(
    ends.map(({ y }) => y),
    LINE,
    TOP,
  );
  return ends.map(({ x, name, hue }, i) =>
    label(x + 7, places[i] + 4, name, "start", `named hue-${hue % 6}`),
  );
}

/** Names next to marks, to the left of `right` and none over another; of class `name`, whose letters are `letter` wide. */
export function markNames(
  marks: readonly { readonly x: number; readonly y: number; readonly name: string }[],
  right: number,
  letter = 5.7,
): string[] {
  const places = spreadOut(
    marks.map(({ y }) => y - 6),
    LINE - 2,
    TOP + LINE,
  );
  return marks.map(({ x, name }, i) =>
    label(Math.max(4, Math.min(x + 7, right - letter * name.length)), places[i], name, "start", "name"),
  );
}

/** A horizontal line from low to high with a mark at its middle. */
export function intervalMark(
  low: number,
  middle: number,
  high: number,
  y: number,
  hue: number,
  title: string,
): string {
  return [
    `<path class="line hue-${hue % 6}" d="M${fixed(low)} ${fixed(y)}H${fixed(high)}"/>`,
    dot(middle, y, hue, title, 4),
  ].join("");
}

export function label(
  x: number,
  y: number,
  content: string,
  anchor: "start" | "end" | "middle" = "start",
  className = "",
): string {
  return `<text class="${className}" x="${fixed(x)}" y="${fixed(y)}" text-anchor="${anchor}">${escapeText(content)}</text>`;
}
