/**
 * Lines over named places on a logarithmic axis, as inline SVG: text in, text out, without scripts. Colours are the page's
 * (classes line-0, line-1, ...). All text is escaped here.
 */
import { spreadOut } from "../plot/labels.ts";
import { linearScale } from "../plot/scale.ts";
import { escapeText, fixed } from "../plot/svg.ts";

interface PlotLine {
  readonly name: string;
  /** One for each place; null, and what is not above 0, is left out. */
  readonly values: readonly (number | null)[];
}

export interface Plot {
  readonly title: string;
  /** Along the x axis, evenly. */
  readonly places: readonly string[];
  readonly lines: readonly PlotLine[];
}

const WIDTH = 560;
const HEIGHT = 300;
const LEFT = 64;
const RIGHT = 86;
const TOP = 16;
const BOTTOM = 36;
/** Minimum distance of labels at the ends of lines. */
const LABEL_HEIGHT = 15;
const DECADES = 9;

/** null: nothing is above 0. */
export function plotSvg({ title, places, lines }: Plot): string | null {
  const shown = lines.flatMap(({ values }) => values.filter(isShown));
  if (shown.length === 0) return null;
  // Powers of ten. Values too small to be distinguished are drawn at the bottom.
  const top = Math.ceil(Math.log10(Math.max(...shown)));
  const bottom = Math.min(top - 1, Math.max(top - DECADES, Math.floor(Math.log10(Math.min(...shown)))));
  const x = linearScale(0, places.length - 1, LEFT, WIDTH - RIGHT);
  const ofPower = linearScale(bottom, top, HEIGHT - BOTTOM, TOP);
  const y = (value: number) => ofPower(Math.max(bottom, Math.log10(value)));
  const drawn = lines.map(({ name, values }, i) => {
    const points = values.flatMap((value, place) =>
      isShown(value) ? [{ at: [x(place), y(value)] as const, place: places[place], value }] : [],
    );
    return { name, points, hue: `line-${i % 5}` };
  });
  const ends = spreadOut(
    drawn.map(({ points }) => points.at(-1)?.at[1] ?? TOP),
    LABEL_HEIGHT,
    TOP,
  );
  const marks = drawn.flatMap(({ name, points, hue }, i) => {
    const end = points.at(-1);
    if (!end) return [];
    return [
      `<g class="${hue}">`,
      `<polyline points="${points.map(({ at }) => at.map(fixed).join(",")).join(" ")}"/>`,
      ...points.map(
        ({ at: [cx, cy], place, value }) =>
          `<circle cx="${fixed(cx)}" cy="${fixed(cy)}" r="3.5"><title>${escapeText(`${name}, ${place}: ${value.toPrecision(3)}`)}</title></circle>`,
      ),
      `<text x="${fixed(end.at[0] + 10)}" y="${fixed(ends[i] + 4)}">${escapeText(name)}</text>`,
      "</g>",
    ];
  });
  return [
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeText(title)}">`,
    ...Array.from({ length: top - bottom + 1 }, (_, i) => {
      const value = 10 ** (bottom + i);
      const at = fixed(y(value));
      const line = `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}"/>`;
      return `${line}<text x="${LEFT - 8}" y="${at}" dy="4" text-anchor="end">${tick(bottom + i)}</text>`;
    }),
    ...places.map(
      (place, i) =>
        `<text x="${fixed(x(i))}" y="${HEIGHT - BOTTOM + 20}" text-anchor="middle">${escapeText(place)}</text>`,
    ),
    ...marks,
    "</svg>",
  ].join("\n");
}

function isShown(value: number | null): value is number {
  return value !== null && value > 0 && Number.isFinite(value);
}

/** A power of ten as people write it. */
function tick(power: number): string {
  return power >= -4 && power <= 4 ? `${Number((10 ** power).toFixed(4))}` : `1e${power}`;
}
