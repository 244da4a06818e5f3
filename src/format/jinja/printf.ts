/** Python's two ways to format values, "%s" and "{}", and the number formats that they share. */
import { integer, numeric, text } from "./arguments.ts";
import type { Meter } from "./meter.ts";
import { Writer } from "./meter.ts";
import {
  type Arguments,
  Dict,
  elementsOf,
  Float,
  floatText,
  lengthOf,
  repr,
  TemplateError,
  Tuple,
  toText,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

/** Digits after the point; JavaScript's limit. */
const MOST_DIGITS = 100;

interface NumberForm {
  /** d, x, o, b, X, e, E, f, F, g, G, % or "" for the default. */
  readonly type: string;
  /** Digits after the point, or significant digits; null: the type's default. */
  readonly precision: number | null;
  /** "#": the prefix 0x. */
  readonly marked: boolean;
  /** Separator of groups of three digits; "": none. */
  readonly group: string;
}

/** The digits of a number without its sign. */
function digits(value: Value, { type, precision, marked, group }: NumberForm): string {
  const number = Math.abs(numeric(`%${type}`, value));
  if (precision !== null && precision > MOST_DIGITS)
    throw new TemplateError(`a precision of ${precision}; at most ${MOST_DIGITS}`);
  const lower = type.toLowerCase();
  const base = { x: 16, o: 8, b: 2 }[lower];
  let found: string;
  if (base !== undefined) found = (marked ? `0${lower}` : "") + Math.trunc(number).toString(base);
  else if (lower === "d" || lower === "i" || lower === "u" || (type === "" && !(value instanceof Float)))
    found = Math.trunc(number).toFixed(0);
  else if (!Number.isFinite(number)) found = Number.isNaN(number) ? "nan" : "inf";
  else if (lower === "f") found = fixed(number, precision ?? 6);
  else if (type === "%") found = `${fixed(number * 100, precision ?? 6)}%`;
  else if (lower === "e") found = exponential(number, precision ?? 6);
  else if (lower === "g") found = general(number, precision ?? 6);
  else if (type === "" && precision === null) found = floatText(number);
  else if (type === "") found = general(number, precision!);
  else throw new TemplateError(`unsupported format character '${type}'`);
  if (group !== "") found = found.replace(/^\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, group));
  return type === "X" || type === "E" || type === "G" ? found.toUpperCase() : found;
}

/** Like toFixed, but half to even. number: not negative, finite. */
export function fixed(number: number, places: number): string {
  if (number >= 1e21) return BigInt(number).toString() + (places > 0 ? `.${"0".repeat(places)}` : "");
  const found = number.toFixed(places);
  // A number halfway between two with this many places never has more digits.
  const isHalf = /^50*$/.test(
    number
      .toFixed(Math.min(MOST_DIGITS, places + 40))
      .split(".")[1]
      .slice(places),
  );
  if (!isHalf || /[02468]$/.test(found)) return found;
  // The larger one is odd, so the even one is below.
  return (number - 10 ** -places / 2).toFixed(places);
}

function exponential(number: number, places: number): string {
  return number.toExponential(places).replace(/e([+-])(\d)$/, "e$10$2");
}

function general(number: number, precision: number): string {
  const significant = Math.max(1, precision);
  const power = number === 0 ? 0 : Number(number.toExponential(significant - 1).split("e")[1]);
  const found =
    power < -4 || power >= significant
      ? exponential(number, significant - 1)
      : number.toFixed(Math.max(0, significant - 1 - power));
  return found.includes(".") ? found.replace(/\.?0+(?=e|$)/, "") : found;
}

function isNegative(value: Value): boolean {
  const number = value instanceof Float ? value.value : Number(value);
  return number < 0 || Object.is(number, -0);
}

/** Pads to a width, within the limits. align: "<", ">", "^", or "=" between sign and digits. */
function padded(
  sign: string,
  body: string,
  width: number,
  fill: string,
  align: string,
  meter: Meter,
): string {
  const missing = width - lengthOf(body, meter) - sign.length;
  if (missing <= 0) return sign + body;
  meter.text(width);
  meter.read(width);
  if (align === "<") return sign + body + fill.repeat(missing);
  if (align === "=") return sign + fill.repeat(missing) + body;
  const before = align === "^" ? Math.floor(missing / 2) : missing;
  return fill.repeat(before) + sign + body + fill.repeat(missing - before);
}

const CONVERSION = /%(?:\(([^)]*)\))?([#0\- +]*)(\*|\d+)?(?:\.(\*|\d+)?)?[hlL]?([a-zA-Z%])?/y;

/** `format % values`, and the filter `format`. */
export function printf(format: string, values: Value, meter: Meter): string {
  const writer = new Writer(meter);
  const list = values instanceof Tuple ? values.items : [values];
  let used = 0;
  const next = () => {
    if (used >= list.length) throw new TemplateError("not enough arguments for format string");
    return list[used++];
  };
  let named = false;
  for (let at = 0; at < format.length; ) {
    const percent = format.indexOf("%", at);
    writer.add(format.slice(at, percent < 0 ? format.length : percent));
    if (percent < 0) break;
    CONVERSION.lastIndex = percent;
    const [whole, name, flags, width, precision, type] = CONVERSION.exec(format)!;
    if (type === undefined) throw new TemplateError("incomplete format");
    at = percent + whole.length;
    if (type === "%") {
      writer.add("%");
      continue;
    }
    const size = (given: string | undefined) =>
      given === "*" ? integer("format", next(), 0) : Number(given ?? 0);
    if (name !== undefined) {
      named = true;
      if (!(values instanceof Dict)) throw new TemplateError("format requires a mapping");
    }
    const wide = size(width);
    const exact = whole.includes(".") ? size(precision) : null;
    const value = name === undefined ? next() : entry(values as Dict, name);
    const left = flags.includes("-") || wide < 0;
    if (/[sra]/.test(type)) {
      const body = type === "s" ? toText(value, meter) : repr(value, meter);
      writer.add(padded("", cut(body, exact), Math.abs(wide), " ", left ? "<" : ">", meter));
    } else if (type === "c") {
      writer.add(typeof value === "number" ? String.fromCodePoint(value) : text("%c", value));
    } else if (/[diuxXoeEfFgG]/.test(type)) {
      if (value instanceof Undefined) value.fail();
      const form = {
        type,
        precision: /[eEfFgG]/.test(type) ? exact : null,
        marked: flags.includes("#"),
        group: "",
      };
      const body = digits(value, form);
      const sign = isNegative(value) ? "-" : flags.includes("+") ? "+" : flags.includes(" ") ? " " : "";
      const zeros = flags.includes("0") && !left;
      writer.add(
        padded(sign, body, Math.abs(wide), zeros ? "0" : " ", left ? "<" : zeros ? "=" : ">", meter),
      );
    } else throw new TemplateError(`unsupported format character '${type}'`);
  }
  if (used < list.length && !named && !(values instanceof Dict))
    throw new TemplateError("not all arguments converted during string formatting");
  return writer.text;
}

function entry(values: Dict, name: string): Value {
  const found = values.get(name);
  if (found === undefined) throw new TemplateError(`KeyError: '${name}'`);
  return found;
}

function cut(body: string, length: number | null): string {
  return length === null ? body : Array.from(body).slice(0, length).join("");
}

const SPEC = /^(?:([\s\S])?([<>=^]))?([-+ ])?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([a-zA-Z%])?$/u;

/** format(value, spec) */
function formatValue(value: Value, spec: string, meter: Meter): string {
  if (spec === "") return toText(value, meter);
  const parts = SPEC.exec(spec);
  if (parts === null) throw new TemplateError(`Invalid format specifier '${spec}'`);
  const [, fill, align, plus, marked, zero, width = "0", group = "", precision, type = ""] = parts;
  const exact = precision === undefined ? null : Number(precision);
  const filling = fill ?? (zero ? "0" : " ");
  if (typeof value === "string" || value instanceof Undefined) {
    if (type !== "" && type !== "s")
      throw new TemplateError(`Unknown format code '${type}' for object of type 'str'`);
    const body = cut(toText(value, meter), exact);
    return padded("", body, Number(width), filling, align ?? "<", meter);
  }
  if (typeof value !== "number" && typeof value !== "boolean" && !(value instanceof Float))
    throw new TemplateError(`unsupported format string passed to ${typeName(value)}.__format__`);
  const body = digits(value, { type, precision: exact, marked: marked === "#", group });
  const sign = isNegative(value) ? "-" : plus === "+" || plus === " " ? plus : "";
  return padded(sign, body, Number(width), filling, align ?? (zero ? "=" : ">"), meter);
}

/** text.format(...). `look` reads an attribute or element of a value as the template would. */
export function format(
  pattern: string,
  given: Arguments,
  meter: Meter,
  look: (object: Value, key: Value, isAttribute: boolean) => Value,
): string {
  let automatic = 0;
  const fieldOf = (field: string): Value => {
    const [, first, rest] = /^([^.[]*)([\s\S]*)$/.exec(field)!;
    const at = first === "" ? automatic++ : /^\d+$/.test(first) ? Number(first) : -1;
    let value = at < 0 ? given.named.get(first) : given.positional[at];
    if (value === undefined)
      throw new TemplateError(
        at < 0 ? `KeyError: '${first}'` : "Replacement index out of range for positional args",
      );
    for (const [, name, element] of rest.matchAll(/\.([^.[]+)|\[([^\]]*)\]/g)) {
      const key = name ?? (/^\d+$/.test(element) ? Number(element) : element);
      value = look(value, key, name !== undefined);
    }
    return value;
  };
  const written = (source: string, depth: number): string => {
    const writer = new Writer(meter);
    for (let at = 0; at < source.length; ) {
      const brace = source.slice(at).search(/[{}]/);
      writer.add(brace < 0 ? source.slice(at) : source.slice(at, at + brace));
      if (brace < 0) break;
      at += brace;
      if (source[at + 1] === source[at]) {
        writer.add(source[at]);
        at += 2;
        continue;
      }
      const end = source[at] === "{" ? closing(source, at) : -1;
      if (end < 0 || depth > 1)
        throw new TemplateError(
          source[at] === "{"
            ? "expected '}' before end of string"
            : "Single '}' encountered in format string",
        );
      const [, field, conversion, spec = ""] =
        /^([^!:]*)(?:!([a-z]))?(?::([\s\S]*))?$/.exec(source.slice(at + 1, end)) ?? [];
      if (field === undefined) throw new TemplateError("Invalid format string");
      const value = fieldOf(field);
      const shown =
        conversion === undefined ? value : conversion === "s" ? toText(value, meter) : repr(value, meter);
      writer.add(formatValue(shown, written(spec, depth + 1), meter));
      at = end + 1;
    }
    return writer.text;
  };
  return written(pattern, 0);
}

/** The end of the field that opens at `at`; -1: it does not close. */
function closing(source: string, at: number): number {
  let depth = 0;
  for (; at < source.length; at++) {
    if (source[at] === "{") depth++;
    else if (source[at] === "}" && --depth === 0) return at;
  }
  return -1;
}

/** What % accepts besides a tuple: a dict for names, and a list as one value. */
export function printfArguments({ positional, named }: Arguments): Value {
  if (positional.length > 0 && named.size > 0)
    throw new TemplateError("can't handle positional and keyword arguments at the same time");
  if (named.size === 0) return new Tuple(elementsOf(positional) ?? []);
  const dict = new Dict();
  for (const [name, value] of named) dict.set(name, value);
  return dict;
}
