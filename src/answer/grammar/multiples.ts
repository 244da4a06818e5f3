/**
 * Multiples of a step as rules of a grammar: 5, 12, 0.01, 0.25. Pure. The one idea: a rule stands for the remainder of the
 * digits so far, and a number may end where it is 0; after the point there are few fractions, which are written out.
 */
import { literal } from "./json-rules.ts";
import type { AddRule } from "./repeats.ts";

const MOST_DIGITS = 6;
/** Remainders: each is a rule of ten choices. */
const MOST_STEP = 200;
const MOST_FRACTIONS = 200;
/** Multiples between two bounds, which are written out. */
const MOST_VALUES = 1000;

/** `whole` times 10 to the power of minus `digits`. */
export interface Step {
  readonly whole: number;
  readonly digits: number;
}

/** null: it has too many digits or is too large. */
export function stepOf(value: number): Step | null {
  for (let digits = 0; value > 0 && digits <= MOST_DIGITS; digits++) {
    const whole = Math.round(value * 10 ** digits);
    // As JavaScript reads the decimal.
    if (Number(`${whole}e-${digits}`) !== value) continue;
    const isFollowed = digits === 0 ? whole <= MOST_STEP : 10 ** digits % whole === 0;
    const isWritten = whole === 1 || 10 ** digits / whole <= MOST_FRACTIONS;
    return isFollowed && isWritten ? { whole, digits } : null;
  }
  return null;
}

/** The multiples from low to high as JSON; null: there are too many to be written out. */
export function multiplesBetween(value: number, low: number, high: number): string[] | null {
  const [from, to] = [Math.ceil(low / value - 1e-9), Math.floor(high / value + 1e-9)];
  if (!(to - from < MOST_VALUES)) return null;
  const digits = Math.max(0, ...[String(value).split(".")[1]?.length ?? 0]);
  const all = Array.from({ length: Math.max(0, to - from + 1) }, (_, i) =>
    Number(((from + i) * value).toFixed(Math.min(20, digits))),
  );
  const within = all.filter((found) => found >= low && found <= high && !/e/.test(String(found)));
  return [...new Set(within)].map((found) => JSON.stringify(found === 0 ? 0 : found));
}

/** Receives the rules. */
export interface Rules {
  readonly rule: AddRule;
  /** Adds a rule of this name; others may refer to it before. */
  define(name: string, body: string): void;
  /** A name that no rule has. */
  name(): string;
}

/** Absolute values: 0 and the multiples above it, as expressions. */
export function multiplesRule(
  { whole, digits }: Step,
  { rule, define, name: newName }: Rules,
): { readonly zero: string; readonly above: string } {
  if (digits > 0) {
    const zeros = `"0" ("." "0"{1,${digits}})?`;
    const free = whole === 1 ? `"." [0-9]{1,${digits}}` : fractions(whole, digits);
    const nonZero = whole === 1 ? someDigit(digits) : free;
    return { zero: zeros, above: rule(`[1-9] [0-9]{0,19} (${free})? | "0" ${nonZero}`) };
  }
  const name = newName();
  const of = (rest: number) => `${name}m${rest}`;
  const next = (rest: number, from: number) => {
    const byRest = new Map<number, number[]>();
    for (let digit = from; digit <= 9; digit++) {
      const found = (rest * 10 + digit) % whole;
      byRest.set(found, [...(byRest.get(found) ?? []), digit]);
    }
    return [...byRest].map(([found, digit]) => `[${digit.join("")}] ${of(found)}`).join(" | ");
  };
  for (let rest = 0; rest < whole; rest++) define(of(rest), `${rest === 0 ? '"" | ' : ""}${next(rest, 0)}`);
  return { zero: '"0"', above: rule(next(0, 1)) };
}

/** A point and what makes a multiple between 0 and 1, without zeros at its end. */
function fractions(whole: number, digits: number): string {
  const texts: string[] = [];
  for (let value = whole; value < 10 ** digits; value += whole)
    texts.push(literal(`.${String(value).padStart(digits, "0").replace(/0+$/, "")}`));
  return `(${texts.join(" | ")})`;
}

/** A point and 1 to `digits` digits, one of them not 0. */
function someDigit(digits: number): string {
  const choices = Array.from(
    { length: digits },
    (_, zeros) =>
      `${"0".repeat(zeros) === "" ? "" : `"${"0".repeat(zeros)}" `}[1-9] [0-9]{0,${digits - zeros - 1}}`,
  );
  return `"." (${choices.join(" | ")})`;
}
