/** Text and numbers in SVG and HTML: text is escaped, numbers have only the digits that matter. Pure. */

const NAMES: Readonly<Record<string, string>> = { "&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "#39" };

/** Escapes text for element contents and attributes. */
export function escapeText(raw: string): string {
  return raw.replace(/[&<>"']/g, (character) => `&${NAMES[character]};`);
}

/** A coordinate, in tenths of a pixel. */
export function fixed(value: number): string {
  return `${Number(value.toFixed(1))}`;
}

/** Three significant digits, whole numbers from 100 on; very large and very small numbers as powers of ten. */
export function number(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(1).replace("e+", "e");
  return size >= 100 ? `${Math.round(value)}` : `${Number(value.toPrecision(3))}`;
}
