/**
 * Numbers between two bounds as grammar rules, in XGrammar's notation: exactly the JSON numbers without exponent that
 * lie there. Pure. The one idea: digit after digit a number is still equal to a bound, or free of it for good.
 */
export interface NumberBounds {
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
}

/** A bound on magnitudes: whole digits, digits behind the point without zeros at their end. */
interface Bound {
  readonly whole: bigint;
  readonly part: string;
  /** The bound itself is not in. */
  readonly strict: boolean;
}

/** The right-hand side of a rule; null: no number lies there. Bounds are at most 1e15, at least 1e-6 or 0. */
export function rangeRule(kind: "integer" | "number", bounds: NumberBounds): string | null {
  const low = tighter(bounds.minimum, bounds.exclusiveMinimum, (a, b) => a > b);
  const high = tighter(bounds.maximum, bounds.exclusiveMaximum, (a, b) => a < b);
  const magnitudes = kind === "integer" ? wholeBetween : decimalsBetween;
  const zero: Bound = { whole: 0n, part: "", strict: false };
  const sides: string[] = [];
  if (high === null || high.value > 0 || (high.value === 0 && !high.strict))
    sides.push(...magnitudes(low === null || low.value < 0 ? zero : boundOf(low), high && boundOf(high)));
  if (low === null || low.value < 0) {
    // Magnitudes turn around, and there is no -0.
    const from = high === null || high.value >= 0 ? { ...zero, strict: true } : boundOf(high);
    sides.push(...magnitudes(from, low && boundOf(low)).map((rule) => `"-" ${rule}`));
  }
  return sides.length === 0 ? null : sides.map((side) => `(${side})`).join(" | ");
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

function boundOf({ value, strict }: Limit): Bound {
  const [whole, part = ""] = String(Math.abs(value)).split(".");
  return { whole: BigInt(whole), part, strict };
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

/** What is left of the bounds behind the digits so far; null: free of it. */
interface State {
  readonly low: Bound | null;
  readonly high: Bound | null;
}

/** At or above a bound that has no digits left is always true. */
function settled(low: Bound): Bound | null {
  return low.part === "" && !low.strict ? null : low;
}

/** Whether no more digits, which are zeros, are within. */
function endsHere({ low, high }: State): boolean {
  return low === null && (high === null || high.part !== "" || !high.strict);
}

/** At least one digit; null: there is none. */
function firstDigits(state: State): string | null {
  const { low, high } = state;
  if (low === null && high === null) return "[0-9]+";
  // Above zero, without another bound: somewhere a digit that is not 0.
  if (low !== null && low.part === "" && high === null) return "[0-9]* [1-9] [0-9]*";
  if (high !== null && high.part === "") return high.strict || low !== null ? null : '"0"+';
  const choices: string[] = [];
  for (let digit = 0; digit <= 9; digit++) {
    const left = afterDigit(state, digit);
    if (left === null) continue;
    const more = firstDigits(left);
    const rest = [...(endsHere(left) ? ['""'] : []), ...(more === null ? [] : [more])];
    if (rest.length > 0) choices.push(`"${digit}" (${rest.join(" | ")})`);
  }
  return choices.length === 0 ? null : `(${choices.join(" | ")})`;
}

/** null: the digit leads out. */
function afterDigit({ low, high }: State, digit: number): State | null {
  const of = (bound: Bound) => Number(bound.part[0] ?? "0");
  const rest = (bound: Bound): Bound => ({ ...bound, part: bound.part.slice(1) });
  if ((low && digit < of(low)) || (high && digit > of(high))) return null;
  return {
    low: low && digit === of(low) ? settled(rest(low)) : null,
    high: high && digit === of(high) ? rest(high) : null,
  };
}

/** Whole numbers from first on. */
function wholeFrom(first: bigint): string[] {
  const { length } = String(first);
  return [...wholes(first, 10n ** BigInt(length) - 1n), `[1-9] [0-9]{${length},}`];
}

/** Whole numbers first to last, length by length. */
function wholes(first: bigint, last: bigint): string[] {
  const rules: string[] = [];
  for (let { length } = String(first); length <= String(last).length && first <= last; length++) {
    const most = 10n ** BigInt(length) - 1n;
    rules.push(sameLength(String(first), String(last < most ? last : most)));
    first = most + 1n;
  }
  return rules;
}

/** Numbers of as many digits as both have, from low to high. */
function sameLength(low: string, high: string): string {
  if (low === high) return `"${low}"`;
  const [a, b] = [Number(low[0]), Number(high[0])];
  const rest = low.length - 1;
  const free = rest === 0 ? "" : ` [0-9]{${rest}}`;
  if (rest === 0) return `[${a}-${b}]`;
  if (a === b) return `"${a}" (${sameLength(low.slice(1), high.slice(1))})`;
  const choices = [`"${a}" (${sameLength(low.slice(1), "9".repeat(rest))})`];
  if (b - a > 1) choices.push(`[${a + 1}-${b - 1}]${free}`);
  choices.push(`"${b}" (${sameLength("0".repeat(rest), high.slice(1))})`);
  return `(${choices.join(" | ")})`;
}
