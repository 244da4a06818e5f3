/** The tests of `is`, select and selectattr: Jinja2's, by name. */
import type { Meter } from "./meter.ts";
import { operate } from "./operators.ts";
import { isLower, isUpper } from "./text-methods.ts";
import {
  Callable,
  compare,
  Dict,
  elementsOf,
  Float,
  isEqual,
  numberOf,
  TemplateError,
  toText,
  Undefined,
  type Value,
} from "./values.ts";

type Test = (value: Value, given: readonly Value[], meter: Meter) => boolean;

const isInteger = (value: Value) => typeof value === "number";
const isIterable = (value: Value) =>
  typeof value === "string" ||
  value instanceof Dict ||
  value instanceof Undefined ||
  elementsOf(value) !== null;

const compared =
  (sign: string, holds: (order: number) => boolean): Test =>
  (value, [other = null], meter) =>
    holds(compare(value, other, meter, sign));

const equal: Test = (value, [other = null], meter) => isEqual(value, other, meter);
const unequal: Test = (value, [other = null], meter) => !isEqual(value, other, meter);
const greater = compared(">", (order) => order > 0);
const less = compared("<", (order) => order < 0);
const atLeast = compared(">=", (order) => order >= 0);
const atMost = compared("<=", (order) => order <= 0);

/** Whether a number is a multiple of another; for other values Python's % raises. */
function divides(value: Value, by: Value, meter: Meter): boolean {
  return isEqual(operate("%", value, by, meter), 0, meter);
}

const TESTS: Readonly<Record<string, Test>> = {
  boolean: (value) => typeof value === "boolean",
  callable: (value) => value instanceof Callable || value instanceof Undefined,
  defined: (value) => !(value instanceof Undefined),
  divisibleby: (value, [by = null], meter) => divides(value, by, meter),
  eq: equal,
  equalto: equal,
  escaped: () => false,
  even: (value, _, meter) => divides(value, 2, meter),
  false: (value) => value === false,
  float: (value) => value instanceof Float,
  ge: atLeast,
  greaterthan: greater,
  gt: greater,
  in: (value, [container = null], meter) => operate("in", value, container, meter) === true,
  integer: isInteger,
  iterable: isIterable,
  le: atMost,
  lessthan: less,
  lower: (value, _, meter) => isLower(toText(value, meter)),
  lt: less,
  mapping: (value) => value instanceof Dict,
  ne: unequal,
  none: (value) => value === null,
  number: (value) => numberOf(value) !== null,
  odd: (value, _, meter) => isEqual(operate("%", value, 2, meter), 1, meter),
  sameas: (value, [other = null]) => value === other,
  sequence: isIterable,
  string: (value) => typeof value === "string",
  true: (value) => value === true,
  undefined: (value) => value instanceof Undefined,
  upper: (value, _, meter) => isUpper(toText(value, meter)),
};

/** Other spellings, which cannot follow `is` but can be a text in `select`. */
const SIGNS: Readonly<Record<string, string>> = {
  "==": "eq",
  "!=": "ne",
  "<": "lt",
  "<=": "le",
  ">": "gt",
  ">=": "ge",
};

export function isTest(name: string): boolean {
  return Object.hasOwn(TESTS, SIGNS[name] ?? name);
}

export function test(name: string, value: Value, given: readonly Value[], meter: Meter): boolean {
  if (!isTest(name)) throw new TemplateError(`No test named '${name}'.`);
  meter.spend(1);
  return TESTS[SIGNS[name] ?? name](value, given, meter);
}
