/**
 * Characters of a string as expressions of a grammar. XGrammar takes the characters of a class as bytes, unless it
 * is negated and names ASCII only (0.1.27), so characters beyond ASCII are written here as the bytes they are in UTF-8.
 */

/** A range of code points, both ends included. */
export type Range = readonly [low: number, high: number];

const ASCII: Range = [0, 0x7f];
/** Surrogates are no characters. */
const BEYOND_ASCII: readonly Range[] = [
  [0x80, 0xd7ff],
  [0xe000, 0x10ffff],
];
/** ASCII characters that must be escaped in JSON. */
export const ESCAPED: readonly Range[] = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];

/** Whether all characters of a text are in these ranges; half of a surrogate pair is no character. */
export function isWithin(text: string, ranges: readonly Range[]): boolean {
  return [...text].every((character) => {
    const point = character.codePointAt(0) ?? 0;
    return ranges.some(([low, high]) => low <= point && point <= high);
  });
}

/** All characters but those in these ranges. */
export function except(ranges: readonly Range[]): Range[] {
  return intersection(complement(ranges), [ASCII, ...BEYOND_ASCII]);
}

/**
 * Alternatives: expressions of the characters that are in one of these ranges, or in none, and in any case in one
 * of `plain`.
 */
export function rangeClass(ranges: readonly Range[], isNot: boolean, plain: readonly Range[]): string[] {
  const found = intersection(isNot ? complement(ranges) : complement(complement(ranges)), plain);
  if (found.length === 0) return [];
  const ascii = intersection(found, [ASCII]);
  const beyond = intersection(found, BEYOND_ASCII);
  if (beyond.length === 0) return [bracketed("", ascii)];
  if (JSON.stringify(beyond) === JSON.stringify(BEYOND_ASCII))
    return [bracketed("^", intersection(complement(ascii), [ASCII]))];
  return [...(ascii.length > 0 ? [bracketed("", ascii)] : []), ...beyond.flatMap(sequences)];
}

/** The characters outside of the ranges, which must be in order and disjoint. */
function complement(ranges: readonly Range[]): Range[] {
  const left: Range[] = [];
  let from = 0;
  for (const [low, high] of [...ranges].sort(([a], [b]) => a - b)) {
    if (low > from) left.push([from, low - 1]);
    from = Math.max(from, high + 1);
  }
  return from > 0x10ffff ? left : [...left, [from, 0x10ffff]];
}

function intersection(some: readonly Range[], others: readonly Range[]): Range[] {
  return some.flatMap(([a, b]) =>
    others.map(([c, d]): Range => [Math.max(a, c), Math.min(b, d)]).filter(([low, high]) => low <= high),
  );
}

function bracketed(not: "" | "^", ranges: readonly Range[]): string {
  // A single byte in a class would be taken as a character, so it is written twice.
  const part = ([low, high]: Range) => `${inClass(low)}${low === high ? "" : "-"}${inClass(high)}`;
  return `[${not}${ranges.map(part).join("")}]`;
}

/** A code point, or a byte, inside brackets. */
function inClass(point: number): string {
  return `\\x${point.toString(16).padStart(2, "0")}`;
}

/** The first code points of 2, 3 and 4 bytes, and the one after the last. */
const LENGTHS = [0x80, 0x800, 0x10000, 0x110000];

/** Sequences of bytes from one code point beyond ASCII to another. */
function sequences([low, high]: Range): string[] {
  const cut = LENGTHS.find((first) => low < first && first <= high);
  if (cut !== undefined) return [...sequences([low, cut - 1]), ...sequences([cut, high])];
  return byteSequences(utf8(low), utf8(high)).map((sequence) => `(${sequence})`);
}

function utf8(point: number): number[] {
  return [...new TextEncoder().encode(String.fromCodePoint(point))];
}

/** Expressions for the byte sequences from one to another of the same length. */
function byteSequences(low: readonly number[], high: readonly number[]): string[] {
  const [a, b] = [low[0], high[0]];
  if (low.length === 1) return [bracketed("", [[a, b]])];
  const rest = low.length - 1;
  const [least, most] = [Array<number>(rest).fill(0x80), Array<number>(rest).fill(0xbf)];
  const after = (byte: number, from: readonly number[], to: readonly number[]) =>
    byteSequences(from, to).map((sequence) => `${bracketed("", [[byte, byte]])} ${sequence}`);
  const isWhole = (from: readonly number[], to: readonly number[]) =>
    String(from) === String(least) && String(to) === String(most);
  const [lower, upper] = [low.slice(1), high.slice(1)];
  if (a === b && !isWhole(lower, upper)) return after(a, lower, upper);
  // The first bytes after which anything may follow.
  const from = isWhole(lower, most) ? a : a + 1;
  const to = isWhole(least, upper) ? b : b - 1;
  const free = Array<string>(rest).fill("[\\x80-\\xbf]").join(" ");
  return [
    ...(from > a ? after(a, lower, most) : []),
    ...(from <= to ? [`${bracketed("", [[from, to]])} ${free}`] : []),
    ...(to < b ? after(b, least, upper) : []),
  ];
}
