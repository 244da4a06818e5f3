/**
 * The values of a template, which are Python's: None, True, 1 and 1.0, texts, lists, tuples, dicts and undefined, with
 * their truth, comparison and printing. JavaScript's own values are used where they behave the same (texts, lists,
 * booleans, integers, null for None).
 */
import { LITERAL } from "../tokenizer.ts";
import { type Meter, Writer } from "./meter.ts";

/** A number is Python's int; `Float` is its float, also for whole numbers. */
export type Value =
  | null
  | boolean
  | number
  | string
  | Float
  | readonly Value[]
  | Tuple
  | Dict
  | Thing
  | Callable
  | Undefined;

/** What Python would raise: the operation is not defined for these values. */
export class TemplateError extends Error {}

export class Float {
  constructor(readonly value: number) {}
}

export class Tuple {
  constructor(readonly items: readonly Value[]) {}
}

/** An element of `groupby`: a pair with names. */
export class Group extends Tuple {
  constructor(
    readonly grouper: Value,
    readonly list: Value[],
  ) {
    super([grouper, list]);
  }
}

/** The value of a missing name or element: empty when printed or iterated, an error for most else. */
export class Undefined {
  constructor(readonly why: string) {}

  fail(): never {
    throw new TemplateError(this.why);
  }
}

/** A value that may be missing. Not with `??`, which would treat None as missing. */
export function orUndefined(value: Value | undefined, why: string): Value {
  return value === undefined ? new Undefined(why) : value;
}

export interface Arguments {
  readonly positional: readonly Value[];
  readonly named: ReadonlyMap<string, Value>;
}

export class Callable {
  constructor(readonly call: (given: Arguments) => Value) {}
}

/** An object with attributes: a namespace, or the `loop` of a for. */
export abstract class Thing {
  abstract readonly type: string;
  abstract attribute(name: string): Value | undefined;
}

type Key = string | number | null;

/** Keys are equal as in Python: 1, 1.0 and True are one key, "1" is another. */
export class Dict {
  readonly #entries = new Map<Key, readonly [Value, Value]>();

  get size(): number {
    return this.#entries.size;
  }

  get(key: Value): Value | undefined {
    return this.#entries.get(keyOf(key))?.[1];
  }

  has(key: Value): boolean {
    return this.#entries.has(keyOf(key));
  }

  set(key: Value, value: Value): void {
    const known = keyOf(key);
    this.#entries.set(known, [this.#entries.get(known)?.[0] ?? key, value]);
  }

  /** Keys and values in order of insertion. */
  entries(): Iterable<readonly [Value, Value]> {
    return this.#entries.values();
  }
}

/** Whether a value may be a key. */
export function isHashable(value: Value): boolean {
  if (value instanceof Tuple) return value.items.every(isHashable);
  return !(
    Array.isArray(value) ||
    value instanceof Dict ||
    value instanceof Thing ||
    value instanceof Callable
  );
}

function keyOf(key: Value): Key {
  if (typeof key === "string" || typeof key === "number" || key === null) return key;
  if (typeof key === "boolean") return Number(key);
  if (key instanceof Float) return key.value;
  if (key instanceof Undefined) return "\0";
  if (key instanceof Tuple) return `\0${JSON.stringify(key.items.map(keyOf))}`;
  throw new TemplateError(`unhashable type: '${typeName(key)}'`);
}

/** Converts JSON and the like into values; other objects become their entries. */
export function toValue(input: unknown, meter: Meter): Value {
  meter.read(typeof input === "string" ? input.length : 0);
  if (input === null || typeof input === "boolean" || typeof input === "string") return input;
  if (typeof input === "number") return Number.isSafeInteger(input) ? input : new Float(input);
  if (input === undefined) return new Undefined("a value is undefined");
  if (Array.isArray(input)) return input.map((item) => toValue(item, meter));
  if (typeof input !== "object") throw new TemplateError(`a ${typeof input} is no value of a template`);
  const dict = new Dict();
  for (const [key, value] of Object.entries(input)) dict.set(key, toValue(value, meter));
  return dict;
}

export function typeName(value: Value): string {
  if (value === null) return "NoneType";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "number") return "int";
  if (typeof value === "string") return "str";
  if (Array.isArray(value)) return "list";
  if (value instanceof Float) return "float";
  if (value instanceof Tuple) return "tuple";
  if (value instanceof Dict) return "dict";
  if (value instanceof Thing) return value.type;
  return value instanceof Undefined ? "Undefined" : "function";
}

export function isTrue(value: Value): boolean {
  if (value instanceof Float) return value.value !== 0;
  if (value instanceof Tuple) return value.items.length > 0;
  if (value instanceof Dict) return value.size > 0;
  if (value instanceof Undefined) return false;
  return Array.isArray(value) ? value.length > 0 : Boolean(value);
}

/** The value as a number if Python treats it as one; null otherwise. */
export function numberOf(value: Value): number | null {
  if (typeof value === "number") return value;
  if (typeof value === "boolean") return Number(value);
  return value instanceof Float ? value.value : null;
}

/** A list's or tuple's elements; null for anything else. */
export function elementsOf(value: Value): readonly Value[] | null {
  if (value instanceof Tuple) return value.items;
  return Array.isArray(value) ? value : null;
}

/** What a `for` iterates over. */
export function iterate(value: Value, meter: Meter): readonly Value[] {
  const elements = elementsOf(value);
  if (elements) return elements;
  if (value instanceof Undefined) return [];
  if (typeof value === "string") {
    meter.list(value.length);
    return Array.from(value);
  }
  if (value instanceof Dict) {
    meter.list(value.size);
    return Array.from(value.entries(), ([key]) => key);
  }
  throw new TemplateError(`'${typeName(value)}' object is not iterable`);
}

/** len() */
export function lengthOf(value: Value, meter: Meter): number {
  if (typeof value === "string") {
    meter.read(value.length);
    return hasPairs(value) ? Array.from(value).length : value.length;
  }
  if (value instanceof Dict) return value.size;
  if (value instanceof Undefined) return 0;
  const elements = elementsOf(value);
  if (elements === null) throw new TemplateError(`object of type '${typeName(value)}' has no len()`);
  return elements.length;
}

/** Whether the text has characters of two UTF-16 units, which Python counts as one. */
export function hasPairs(text: string): boolean {
  return /[\uD800-\uDFFF]/.test(text);
}

export function isEqual(a: Value, b: Value, meter: Meter): boolean {
  meter.spend(1);
  if (typeof a === "string" || typeof b === "string") {
    if (typeof a === "string" && typeof b === "string" && a.length === b.length) meter.read(a.length);
    return a === b;
  }
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== null || y !== null) return x === y;
  if (a instanceof Undefined) return b instanceof Undefined;
  if (a instanceof Dict && b instanceof Dict) {
    if (a.size !== b.size) return false;
    for (const [key, value] of a.entries()) {
      const other = b.get(key);
      if (other === undefined || !isEqual(value, other, meter)) return false;
    }
    return true;
  }
  const [some, others] = [elementsOf(a), elementsOf(b)];
  if (some === null || others === null || a instanceof Tuple !== b instanceof Tuple) return a === b;
  return some.length === others.length && some.every((item, at) => isEqual(item, others[at], meter));
}

/** Negative, 0 or positive. `sign`: the operator, for the error. */
export function compare(a: Value, b: Value, meter: Meter, sign = "<"): number {
  meter.spend(1);
  for (const value of [a, b]) if (value instanceof Undefined) value.fail();
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== null && y !== null) return x < y ? -1 : x > y ? 1 : 0;
  if (typeof a === "string" && typeof b === "string") {
    meter.read(Math.min(a.length, b.length));
    return a < b ? -1 : a > b ? 1 : 0;
  }
  const [some, others] = [elementsOf(a), elementsOf(b)];
  if (some === null || others === null || a instanceof Tuple !== b instanceof Tuple)
    throw new TemplateError(
      `'${sign}' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`,
    );
  for (let at = 0; at < Math.min(some.length, others.length); at++)
    if (!isEqual(some[at], others[at], meter)) return compare(some[at], others[at], meter, sign);
  return some.length - others.length;
}

/** str() */
export function toText(value: Value, meter: Meter): string {
  if (typeof value === "string") return value;
  if (value instanceof Undefined) return "";
  return repr(value, meter);
}

/** repr() */
export function repr(value: Value, meter: Meter): string {
  const writer = new Writer(meter);
  writeRepr(value, writer);
  return writer.text;
}

function writeRepr(value: Value, writer: Writer): void {
  if (value === null) writer.add("None");
  else if (typeof value === "boolean") writer.add(value ? "True" : "False");
  else if (typeof value === "number") writer.add(String(value));
  else if (typeof value === "string") {
    writer.meter.read(value.length);
    writer.add(quoted(value));
  } else if (value instanceof Float) writer.add(floatText(value.value));
  else if (value instanceof Dict) {
    writer.add("{");
    let first = true;
    for (const [key, item] of value.entries()) {
      if (!first) writer.add(", ");
      first = false;
      writeRepr(key, writer);
      writer.add(": ");
      writeRepr(item, writer);
    }
    writer.add("}");
  } else if (value instanceof Undefined) writer.add("Undefined");
  else {
    const items = elementsOf(value);
    if (items === null) return writer.add(`<${typeName(value)}>`);
    const isTuple = value instanceof Tuple;
    writer.add(isTuple ? "(" : "[");
    for (const [at, item] of items.entries()) {
      if (at > 0) writer.add(", ");
      writeRepr(item, writer);
    }
    writer.add(isTuple ? (items.length === 1 ? ",)" : ")") : "]");
  }
}

/** A text as Python prints it in a list. The mark of `Tokenizer.protect` is kept unescaped so that it still works. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(/[\\'"]|(?! )[\p{C}\p{Z}]/gu, (character) => {
    if (character === "\\" || character === quote) return `\\${character}`;
    if (character === "'" || character === '"' || character === LITERAL) return character;
    const named = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[character];
    const code = character.codePointAt(0)!;
    const hex = (digits: number) => code.toString(16).padStart(digits, "0");
    return named ?? (code < 256 ? `\\x${hex(2)}` : code < 65536 ? `\\u${hex(4)}` : `\\U${hex(8)}`);
  });
  return quote + escaped + quote;
}

/** The shortest text that reads back as the number, in Python's form. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (value === 0) return Object.is(value, -0) ? "-0.0" : "0.0";
  const [digits, exponent] = value.toExponential().split("e");
  const power = Number(exponent);
  if (power < -4 || power >= 16)
    return `${digits}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  if (power >= 0) return Number.isInteger(value) ? `${value.toFixed(0)}.0` : String(value);
  // JavaScript writes an exponent only below 1e-6.
  return String(value);
}
