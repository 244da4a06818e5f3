/** Text and numbers inside SVG and HTML: escaped, and no longer than they are exact. Pure. */

const NAMES: Readonly<Record<string, string>> = { "&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "#39" };

/** For contents and attributes. */
export function escapeText(raw: string): string {
  return raw.replace(/[&<>"']/g, (character) => `&${NAMES[character]};`);
}

/** A place, in tenths of a pixel. */
export function fixed(value: number): string {
  return `${Number(value.toFixed(1))}`;
}

/** Three digits, whole numbers from 100 on; as powers of ten what is far from 1. */
export function number(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(1).replace("e+", "e");
  return size >= 100 ? `${Math.round(value)}` : `${Number(value.toPrecision(3))}`;
}
