/** The operators of expressions, as in Python. Work is charged before it is done. */
import type { Meter } from "./meter.ts";
import { printf } from "./printf.ts";
import {
  compare,
  Dict,
  elementsOf,
  Float,
  isEqual,
  iterate,
  numberOf,
  TemplateError,
  Tuple,
  toText,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

type Operator = (left: Value, right: Value, meter: Meter) => Value;

const OPERATORS: Readonly<Record<string, Operator>> = {
  "==": isEqual,
  "!=": (left, right, meter) => !isEqual(left, right, meter),
  "<": (left, right, meter) => compare(left, right, meter, "<") < 0,
  ">": (left, right, meter) => compare(left, right, meter, ">") > 0,
  "<=": (left, right, meter) => compare(left, right, meter, "<=") <= 0,
  ">=": (left, right, meter) => compare(left, right, meter, ">=") >= 0,
  in: (left, right, meter) => contains(right, left, meter),
  "not in": (left, right, meter) => !contains(right, left, meter),
  "~": (left, right, meter) => joined(toText(left, meter), toText(right, meter), meter),
  "+": add,
  "-": (left, right) => arithmetic("-", left, right, (a, b) => a - b),
  "*": multiply,
  "/": (left, right) => {
    arithmetic("/", left, right, () => 0);
    return new Float(numberOf(left)! / divisor(right));
  },
  "//": (left, right) => arithmetic("//", left, right, (a, b) => Math.floor(a / (b || divisor(right)))),
  "%": (left, right, meter) =>
    typeof left === "string"
      ? printf(left, right, meter)
      : arithmetic("%", left, right, (a, b) => a - b * Math.floor(a / (b || divisor(right)))),
  "**": (left, right) =>
    arithmetic("**", left, right, (a, b) => a ** b, left instanceof Float || numberOf(right)! < 0),
};

export function operate(sign: string, left: Value, right: Value, meter: Meter): Value {
  if (!Object.hasOwn(OPERATORS, sign)) throw new TemplateError(`the operator ${sign} is not known`);
  return OPERATORS[sign](left, right, meter);
}

export function negated(value: Value): Value {
  return arithmetic("-", 0, value, (_, number) => -number);
}

function divisor(value: Value): number {
  const number = numberOf(value)!;
  if (number === 0) throw new TemplateError("division by zero");
  return number;
}

/** Integers stay integers; beyond 2^53 JavaScript would round them silently. */
function arithmetic(
  sign: string,
  left: Value,
  right: Value,
  work: (left: number, right: number) => number,
  isFloat = false,
): Value {
  for (const value of [left, right]) if (value instanceof Undefined) value.fail();
  const [a, b] = [numberOf(left), numberOf(right)];
  if (a === null || b === null)
    throw new TemplateError(
      `unsupported operand type(s) for ${sign}: '${typeName(left)}' and '${typeName(right)}'`,
    );
  const result = work(a, b);
  if (isFloat || left instanceof Float || right instanceof Float) return new Float(result);
  if (!Number.isSafeInteger(result)) throw new TemplateError(`${a} ${sign} ${b} is beyond 2^53`);
  // Turns -0 into 0.
  return result + 0;
}

function add(left: Value, right: Value, meter: Meter): Value {
  if (typeof left === "string" && typeof right === "string") return joined(left, right, meter);
  const [some, others] = [elementsOf(left), elementsOf(right)];
  if (some && others && left instanceof Tuple === right instanceof Tuple) {
    meter.list(some.length + others.length);
    const all = [...some, ...others];
    return left instanceof Tuple ? new Tuple(all) : all;
  }
  return arithmetic("+", left, right, (a, b) => a + b);
}

/** Texts are joined without a copy, so the shorter one is charged. */
function joined(left: string, right: string, meter: Meter): string {
  meter.read(Math.min(left.length, right.length));
  meter.text(left.length + right.length);
  return left + right;
}

function multiply(left: Value, right: Value, meter: Meter): Value {
  const [sequence, times] = numberOf(left) === null ? [left, right] : [right, left];
  const elements = elementsOf(sequence);
  if (
    (typeof sequence !== "string" && !elements) ||
    (typeof times !== "number" && typeof times !== "boolean")
  )
    return arithmetic("*", left, right, (a, b) => a * b);
  const count = Math.max(0, Number(times));
  if (typeof sequence === "string") {
    meter.text(sequence.length * count);
    meter.read(sequence.length * count);
    return sequence.repeat(count);
  }
  meter.list(elements!.length * count);
  const all = Array.from({ length: count }, () => elements!).flat();
  return sequence instanceof Tuple ? new Tuple(all) : all;
}

function contains(container: Value, item: Value, meter: Meter): boolean {
  if (typeof container === "string") {
    if (typeof item !== "string")
      throw new TemplateError(`'in <string>' requires string as left operand, not ${typeName(item)}`);
    meter.read(container.length);
    return container.includes(item);
  }
  if (container instanceof Dict) return container.has(item);
  return iterate(container, meter).some((one) => isEqual(one, item, meter));
}
