/**
 * Numbers between two bounds as grammar rules, in XGrammar's notation: exactly the JSON numbers without exponent that
 * lie there. Pure. The one idea: digit by digit, a number either still equals the bound's digits or is free of it.
 */
export interface NumberBounds {
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
}

/** A bound on magnitudes: whole digits, digits after the point without zeros at their end. */
interface Bound {
  readonly whole: bigint;
  readonly part: string;
  /** The bound itself is excluded. */
  readonly strict: boolean;
}

/** Bounds are written out, and JavaScript writes larger and smaller numbers with an exponent. */
export const MOST_BOUND = 1e20;
export const LEAST_BOUND = 1e-6;

/** Alternatives; empty: no number lies there. Bounds are 0, or between LEAST_BOUND and MOST_BOUND in absolute value. */
export function rangeRule(kind: "integer" | "number", bounds: NumberBounds): string[] {
  const low = tighter(bounds.minimum, bounds.exclusiveMinimum, (a, b) => a > b);
  const high = tighter(bounds.maximum, bounds.exclusiveMaximum, (a, b) => a < b);
  const magnitudes = kind === "integer" ? wholeBetween : decimalsBetween;
  const zero: Bound = { whole: 0n, part: "", strict: false };
  const sides: string[] = [];
  if (high === null || high.value > 0 || (high.value === 0 && !high.strict))
    sides.push(
      ...magnitudes(low === null || low.value < 0 ? zero : boundOf(low, "up"), high && boundOf(high, "down")),
    );
  if (low === null || low.value < 0) {
    // Below 0 the bounds swap, and there is no -0.
    const from = high === null || high.value >= 0 ? { ...zero, strict: true } : boundOf(high, "up");
    sides.push(...magnitudes(from, low && boundOf(low, "down")).map((rule) => `"-" ${rule}`));
  }
  return sides;
}

interface Limit {
  readonly value: number;
  readonly strict: boolean;
}

function tighter(
  inclusive: number | undefined,
  exclusive: number | undefined,
  isTighter: (a: number, b: number) => boolean,
): Limit | null {
  if (exclusive !== undefined && (inclusive === undefined || !isTighter(inclusive, exclusive)))
    return { value: exclusive, strict: true };
  return inclusive === undefined ? null : { value: inclusive, strict: false };
}

/** The bound of a limit's absolute value. inward: rounded away from numbers outside the bounds. */
function boundOf({ value, strict }: Limit, inward: "up" | "down"): Bound {
  const magnitude = Math.abs(value);
  // Such a number may have been written differently: 9223372036854775807 is read as one more. Its neighbour is within the bounds.
  if (magnitude > Number.MAX_SAFE_INTEGER)
    return { whole: BigInt(neighbour(magnitude, inward)), part: "", strict: false };
  const [whole, part = ""] = String(magnitude).split(".");
  return { whole: BigInt(whole), part, strict };
}

function neighbour(value: number, direction: "up" | "down"): number {
  const [bits] = new BigInt64Array(Float64Array.of(value).buffer);
  return new Float64Array(BigInt64Array.of(direction === "up" ? bits + 1n : bits - 1n).buffer)[0];
}

/** Whole magnitudes from low to high, both as alternatives of a rule; high null: without end. */
function wholeBetween(low: Bound, high: Bound | null): string[] {
  const isAbove = low.strict || low.part !== "";
  const first = isAbove ? low.whole + 1n : low.whole;
  if (high === null) return wholeFrom(first);
  return wholes(first, high.strict && high.part === "" ? high.whole - 1n : high.whole);
}

function decimalsBetween(low: Bound, high: Bound | null): string[] {
  const ends = (whole: bigint, from: Bound | null, to: Bound | null) => {
    const rule = behindPoint(from, to);
    return rule === null ? [] : [`"${whole}" ${rule}`];
  };
  const free = behindPoint(null, null);
  if (high !== null && low.whole > high.whole) return [];
  if (high !== null && low.whole === high.whole) return ends(low.whole, low, high);
  const between = high === null ? wholeFrom(low.whole + 1n) : wholes(low.whole + 1n, high.whole - 1n);
  return [
    ...ends(low.whole, low, null),
    ...between.map((rule) => `${rule} ${free}`),
    ...(high === null ? [] : ends(high.whole, null, high)),
  ];
}

/** What may follow the whole digits when these are those of the bounds; null: nothing may, not even the end. */
function behindPoint(from: Bound | null, to: Bound | null): string | null {
  const state = { low: from && settled(from), high: to };
  const digits = firstDigits(state);
  const choices = [...(endsHere(state) ? ['""'] : []), ...(digits === null ? [] : [`"." ${digits}`])];
  return choices.length === 0 ? null : `(${choices.join(" | ")})`;
}

/** What is left of the bounds after the digits so far; null: free of it. */
interface State {
  readonly low: Bound | null;
  readonly high: Bound | null;
}

/** No digits left: every number is at or above the bound. */
function settled(low: Bound): Bound | null {
  return low.part === "" && !low.strict ? null : low;
}

/** Whether the bounds allow it to end here, which means zeros. */
function endsHere({ low, high }: State): boolean {
  return low === null && (high === null || high.part !== "" || !high.strict);
}

/** An expression for one digit or more; null: there is none. */
function firstDigits(state: State): string | null {
  const { low, high } = state;
  if (low === null && high === null) return "[0-9]+";
  // Above zero, without another bound: at least one digit that is not 0.
  if (low !== null && low.part === "" && high === null) return "[0-9]* [1-9] [0-9]*";
  if (high !== null && high.part === "") return high.strict || low !== null ? null : '"0"+';
  // Digits between those of the bounds leave both bounds, so they share one alternative.
  const choices: string[] = [];
  const free: number[] = [];
  for (let digit = 0; digit <= 9; digit++) {
    const left = afterDigit(state, digit);
    if (left === null) continue;
    if (left.low === null && left.high === null) {
      free.push(digit);
      continue;
    }
    const more = firstDigits(left);
    const rest = [...(endsHere(left) ? ['""'] : []), ...(more === null ? [] : [more])];
    if (rest.length > 0) choices.push(`"${digit}" (${rest.join(" | ")})`);
  }
  if (free.length > 0) choices.push(`[${free.join("")}] [0-9]*`);
  return choices.length === 0 ? null : `(${choices.join(" | ")})`;
}

/** null: the digit leaves the bounds. */
function afterDigit({ low, high }: State, digit: number): State | null {
  const of = (bound: Bound) => Number(bound.part[0] ?? "0");
  const rest = (bound: Bound): Bound => ({ ...bound, part: bound.part.slice(1) });
  if ((low && digit < of(low)) || (high && digit > of(high))) return null;
  return {
    low: low && digit === of(low) ? settled(rest(low)) : null,
    high: high && digit === of(high) ? rest(high) : null,
  };
}

/** More than any bound has, and few enough that such a number is not read as infinite. */
const MOST_DIGITS = 40;

/** Whole numbers from first on. */
function wholeFrom(first: bigint): string[] {
  const { length } = String(first);
  return [...wholes(first, 10n ** BigInt(length) - 1n), `[1-9] [0-9]{${length},${MOST_DIGITS}}`];
}

/** Whole numbers first to last: as long as first, longer, as long as last. */
function wholes(first: bigint, last: bigint): string[] {
  if (first > last) return [];
  const [low, high] = [String(first), String(last)];
  if (low.length === high.length) return [sameLength(low, high)];
  const between = high.length - low.length > 1 ? [`[1-9] [0-9]{${low.length},${high.length - 2}}`] : [];
  return [
    sameLength(low, "9".repeat(low.length)),
    ...between,
    sameLength(`1${"0".repeat(high.length - 1)}`, high),
  ];
}

/** Numbers of as many digits as both have, from low to high. Grows with the digits: only equal beginnings go deeper. */
function sameLength(low: string, high: string): string {
  if (low === high) return `"${low}"`;
  const rest = low.length - 1;
  const free = rest === 0 ? "" : ` [0-9]{${rest}}`;
  const [a, b] = [Number(low[0]), Number(high[0])];
  const [least, most] = ["0".repeat(rest), "9".repeat(rest)];
  if (a === b && (low.slice(1) !== least || high.slice(1) !== most))
    return `"${a}" (${sameLength(low.slice(1), high.slice(1))})`;
  // The first digits after which anything may follow.
  const from = low.slice(1) === least ? a : a + 1;
  const to = high.slice(1) === most ? b : b - 1;
  const choices: string[] = [];
  if (from > a) choices.push(`"${a}" (${sameLength(low.slice(1), most)})`);
  if (from <= to) choices.push(`[${from}-${to}]${free}`);
  if (to < b) choices.push(`"${b}" (${sameLength(least, high.slice(1))})`);
  return `(${choices.join(" | ")})`;
}
