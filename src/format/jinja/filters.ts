/** Jinja2's filters over values of any type and over texts. Those over lists are in `list-filters.ts`. */
import { attribute, items } from "./access.ts";
import { bind, integer, integerOrNone, numeric, text } from "./arguments.ts";
import { toJson } from "./json.ts";
import type { Meter } from "./meter.ts";
import { fixed, printf, printfArguments } from "./printf.ts";
import { capitalize, join, lines, replace, strip, TEXT_METHODS } from "./text-methods.ts";
import {
  type Arguments,
  Dict,
  Float,
  isTrue,
  iterate,
  lengthOf,
  numberOf,
  TemplateError,
  toText,
  Undefined,
  type Value,
} from "./values.ts";

export type Filter = (value: Value, given: Arguments, meter: Meter) => Value;

/** A filter over the text of any value, without arguments. */
const ofText =
  (work: (text: string) => Value): Filter =>
  (value, given, meter) => {
    bind("the filter", given, []);
    const found = toText(value, meter);
    meter.read(found.length);
    return work(found);
  };

const withDefault: Filter = (value, given) => {
  const [other = "", orFalse = false] = bind("default", given, ["default_value", "boolean"]);
  return value instanceof Undefined || (isTrue(orFalse) && !isTrue(value)) ? other : value;
};

const length: Filter = (value, _, meter) => lengthOf(value, meter);

const ENTITIES: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  "'": "&#39;",
  '"': "&#34;",
};

const escapeHtml: Filter = (value, _, meter) => {
  const found = toText(value, meter);
  meter.read(found.length * 5);
  meter.text(found.length * 5);
  return found.replace(/[&<>'"]/g, (character) => ENTITIES[character]);
};

export const FILTERS: Readonly<Record<string, Filter>> = {
  abs: (value) => {
    const number = Math.abs(numeric("abs", value));
    return value instanceof Float ? new Float(number) : number;
  },
  attr: (value, given, meter) => {
    const name = text("attr", bind("attr", given, ["name"])[0]);
    // Not an entry of a dict, which only brackets and dots find.
    return value instanceof Dict && value.has(name)
      ? new Undefined(`'dict object' has no attribute '${name}'`)
      : attribute(value, name, meter);
  },
  capitalize: ofText(capitalize),
  center: (value, given, meter) => {
    const [width = 80] = bind("center", given, ["width"]);
    return TEXT_METHODS.center(toText(value, meter), { positional: [width], named: new Map() }, meter);
  },
  count: length,
  d: withDefault,
  default: withDefault,
  e: escapeHtml,
  escape: escapeHtml,
  forceescape: escapeHtml,
  float: (value, given) => {
    const [other = new Float(0)] = bind("float", given, ["default"]);
    if (value instanceof Undefined) value.fail();
    const number = typeof value === "string" ? parseNumber(value) : numberOf(value);
    return number === null ? other : new Float(number);
  },
  format: (value, given, meter) => printf(toText(value, meter), printfArguments(given), meter),
  indent: (value, given, meter) => {
    const [width = 4, first = false, blank = false] = bind("indent", given, ["width", "first", "blank"]);
    const count = typeof width === "string" ? width.length : Math.max(0, integer("indent", width, 4));
    meter.text(count);
    const margin = typeof width === "string" ? width : " ".repeat(count);
    const all = lines(`${text("indent", value instanceof Undefined ? "" : value)}\n`, false, meter);
    const indented = all.map((line, at) =>
      at === 0 || (line === "" && !isTrue(blank)) ? line : margin + line,
    );
    meter.text(all.length * count);
    return (isTrue(first) ? margin : "") + join("\n", indented, meter);
  },
  int: (value, given) => {
    const [other = 0, base] = bind("int", given, ["default", "base"]);
    if (value instanceof Undefined) value.fail();
    const number =
      typeof value === "string" ? parseInteger(value, integer("int", base, 10)) : numberOf(value);
    if (number === null || !Number.isFinite(number)) return other;
    if (!Number.isSafeInteger(Math.trunc(number))) throw new TemplateError(`int: ${number} is beyond 2^53`);
    return Math.trunc(number) + 0;
  },
  items: (value, _, meter) => {
    if (value instanceof Undefined) return [];
    if (value instanceof Dict) return items(value, meter);
    throw new TemplateError("Can only get item pairs from a mapping.");
  },
  length,
  list: (value, _, meter) => iterate(value, meter),
  lower: ofText((found) => found.toLowerCase()),
  replace: (value, given, meter) => {
    const [old, fresh, most] = bind("replace", given, ["old", "new", "count"]);
    const found = toText(value, meter);
    return replace(
      found,
      toText(old ?? null, meter),
      toText(fresh ?? null, meter),
      integerOrNone("replace", most, -1),
      meter,
    );
  },
  reverse: (value, _, meter) => {
    if (value === null || numberOf(value) !== null) throw new TemplateError("argument must be iterable");
    const all = iterate(value, meter);
    meter.list(all.length);
    const reversed = [...all].reverse();
    return typeof value === "string" ? reversed.join("") : reversed;
  },
  round: (value, given) => {
    const [precision, method = "common"] = bind("round", given, ["precision", "method"]);
    const places = Math.max(-300, Math.min(300, integer("round", precision, 0)));
    const number = numeric("round", value);
    if (method === "common") {
      return value instanceof Float ? new Float(rounded(number, places)) : rounded(number, places);
    }
    if (method !== "ceil" && method !== "floor")
      throw new TemplateError("method must be common, ceil or floor");
    return new Float(Math[method](number * 10 ** places) / 10 ** places);
  },
  safe: (value, _, meter) => toText(value, meter),
  string: (value, _, meter) => toText(value, meter),
  title: ofText((found) =>
    found.replace(/[^-\s({[<]+/g, (word) => word[0].toUpperCase() + word.slice(1).toLowerCase()),
  ),
  tojson: toJson,
  trim: (value, given, meter) => {
    const [chars = null] = bind("trim", given, ["chars"]);
    return strip(toText(value, meter), chars === null ? null : text("trim", chars), "both", meter);
  },
  truncate: (value, given, meter) => {
    const names = ["length", "killwords", "end", "leeway"];
    const [most, kill = false, ending = "...", leeway] = bind("truncate", given, names);
    const end = text("truncate", ending);
    const wanted = integer("truncate", most, 255);
    const characters = iterate(toText(value, meter), meter);
    if (characters.length <= wanted + integerOrNone("truncate", leeway, 5)) return characters.join("");
    const cut = characters.slice(0, Math.max(0, wanted - lengthOf(end, meter))).join("");
    return (isTrue(kill) || !cut.includes(" ") ? cut : cut.slice(0, cut.lastIndexOf(" "))) + end;
  },
  upper: ofText((found) => found.toUpperCase()),
  wordcount: ofText((found) => {
    let words = 0;
    for (const _ of found.matchAll(/[\p{L}\p{N}_]+/gu)) words++;
    return words;
  }),
};

/** Python's round: half to even. places: digits after the point, or zeros if negative. */
function rounded(number: number, places: number): number {
  if (!Number.isFinite(number) || places > 100) return number;
  const scale = 10 ** Math.max(0, -places);
  return Math.sign(number) * Number(fixed(Math.abs(number) / scale, Math.max(0, places))) * scale;
}

/** Characters of a written number; a longer text is not a number, and costs no time. */
const LONGEST_NUMBER = 400;

function parseNumber(source: string): number | null {
  if (source.length > LONGEST_NUMBER) return null;
  const plain = source
    .trim()
    .replace(/(?<=\d)_(?=\d)/g, "")
    .toLowerCase();
  const named = /^([+-]?)(inf|infinity|nan)$/.exec(plain);
  if (named) return named[2] === "nan" ? Number.NaN : named[1] === "-" ? -Infinity : Infinity;
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/.test(plain) ? Number(plain) : null;
}

/** int(text, base), or else the integer part of float(text). */
function parseInteger(source: string, base: number): number | null {
  if (source.length > LONGEST_NUMBER) return null;
  const plain = source
    .trim()
    .replace(/(?<=\w)_(?=\w)/g, "")
    .toLowerCase();
  const [, sign, prefix, digits] = /^([+-]?)(0[xob])?([0-9a-z]+)$/.exec(plain) ?? [];
  const named = prefix === undefined ? 0 : { "0x": 16, "0o": 8, "0b": 2 }[prefix]!;
  const used = base === 0 ? named || 10 : base;
  if (digits !== undefined && (named === 0 || named === used) && used >= 2 && used <= 36) {
    const known = Array.from(digits).every((digit) => Number.parseInt(digit, 36) < used);
    if (known) return Number.parseInt(digits, used) * (sign === "-" ? -1 : 1);
  }
  return parseNumber(source);
}

/** The texts of the elements, for `join` and the like. */
export function texts(values: readonly Value[], meter: Meter): string[] {
  meter.list(values.length);
  return values.map((value) => toText(value, meter));
}
