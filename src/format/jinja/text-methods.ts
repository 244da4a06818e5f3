/** The methods of Python's str that templates can call. Other names are undefined, as in Python. */
import { bind, integer, integerOrNone, text } from "./arguments.ts";
import type { Meter } from "./meter.ts";
import {
  type Arguments,
  elementsOf,
  hasPairs,
  isEqual,
  isTrue,
  iterate,
  lengthOf,
  TemplateError,
  Tuple,
  typeName,
  type Value,
} from "./values.ts";

export type Method<Self> = (self: Self, given: Arguments, meter: Meter) => Value;

/** Python's str.isspace. It differs from JavaScript's \s: U+FEFF is not included, the ASCII separators are. */
const BLANK = "[\\t-\\r\\x1c-\\x20\\x85\\p{Z}]";
const BLANKS = new RegExp(`${BLANK}+`, "gu");

/** The same for one character; faster. */
function isBlank(character: string): boolean {
  const code = character.charCodeAt(0);
  if (code < 0x1680)
    return (code >= 9 && code <= 13) || (code >= 28 && code <= 32) || code === 0x85 || code === 0xa0;
  return (
    code === 0x1680 ||
    (code >= 0x2000 && code <= 0x200a) ||
    [0x2028, 0x2029, 0x202f, 0x205f, 0x3000].includes(code)
  );
}

/** Line ends of str.splitlines, including the ASCII separators. */
const LINE_ENDS = "\\r\\n|[\\n\\r\\v\\f\\x1c-\\x1e\\x85\\u2028\\u2029]";
const LINE_END = new RegExp(LINE_ENDS, "g");

/** str.strip, lstrip and rstrip. chars: the characters to remove; null: whitespace. */
export function strip(
  self: string,
  chars: string | null,
  sides: "both" | "left" | "right",
  meter: Meter,
): string {
  meter.read(self.length + (chars?.length ?? 0));
  const set = chars === null ? null : new Set(chars);
  const goes = (character: string) => (set ? set.has(character) : isBlank(character));
  let [from, to] = [0, self.length];
  const width = (at: number) => (self.codePointAt(at)! > 0xffff ? 2 : 1);
  if (sides !== "right") while (from < to && goes(self.slice(from, from + width(from)))) from += width(from);
  while (sides !== "left" && to > from) {
    const start =
      to > from + 1 && /[\uDC00-\uDFFF]/.test(self[to - 1]) && width(to - 2) === 2 ? to - 2 : to - 1;
    if (!goes(self.slice(start, to))) break;
    to = start;
  }
  return self.slice(from, to);
}

/** str.splitlines */
export function lines(self: string, keepEnds: boolean, meter: Meter): string[] {
  meter.read(self.length);
  const found: string[] = [];
  let from = 0;
  for (const end of self.matchAll(LINE_END)) {
    const after = end.index + end[0].length;
    found.push(self.slice(from, keepEnds ? after : end.index));
    meter.element(found.length);
    from = after;
  }
  if (from < self.length) found.push(self.slice(from));
  return found;
}

export function replace(self: string, old: string, fresh: string, most: number, meter: Meter): string {
  meter.read(self.length);
  let count = 0;
  // Between all characters if the old text is empty.
  if (old === "") count = lengthOf(self, meter) + 1;
  else for (let at = self.indexOf(old); at >= 0; at = self.indexOf(old, at + old.length)) count++;
  count = most < 0 ? count : Math.min(count, most);
  const length = self.length + count * (fresh.length - old.length);
  meter.text(length);
  meter.read(length);
  meter.spend(count);
  if (count === 0) return self;
  if (most < 0) return self.replaceAll(old === "" ? /(?:)/gu : old, () => fresh);
  let left = count;
  return self.replace(old === "" ? /(?:)/gu : new RegExp(escaped(old), "gu"), (found) =>
    left-- > 0 ? fresh : found,
  );
}

const escaped = (plain: string) => plain.replace(/[$()*+.?[\\\]^{|}/]/g, "\\$&");

export function join(separator: string, items: readonly string[], meter: Meter): string {
  const length =
    items.reduce((sum, item) => sum + item.length, 0) + separator.length * Math.max(0, items.length - 1);
  meter.spend(items.length);
  meter.text(length);
  meter.read(length);
  return items.join(separator);
}

/** Whether `test` holds for all characters; false for an empty text. */
const all = (self: string, test: RegExp) => self !== "" && test.test(self);

export function isUpper(self: string): boolean {
  return /\p{Cased}/u.test(self) && self === self.toUpperCase();
}

export function isLower(self: string): boolean {
  return /\p{Cased}/u.test(self) && self === self.toLowerCase();
}

export function capitalize(self: string): string {
  const [first = ""] = self;
  return first.toUpperCase() + self.slice(first.length).toLowerCase();
}

function split(self: string, given: Arguments, meter: Meter, fromRight: boolean): string[] {
  const [separator = null, most] = bind("split", given, ["sep", "maxsplit"]);
  const limit = integer("split", most, -1);
  meter.read(self.length);
  const found: string[] = [];
  const push = (part: string) => {
    found.push(part);
    meter.element(found.length);
  };
  const more = () => limit < 0 || found.length < limit;
  if (separator === null) {
    const rest = strip(self, null, fromRight ? "right" : "left", meter);
    const gaps: [number, number][] = [];
    for (const gap of rest.matchAll(BLANKS)) {
      gaps.push([gap.index, gap.index + gap[0].length]);
      meter.element(gaps.length);
    }
    let edge = fromRight ? rest.length : 0;
    for (const [start, end] of fromRight ? gaps.reverse() : gaps) {
      if (!more()) break;
      push(fromRight ? rest.slice(end, edge) : rest.slice(edge, start));
      edge = fromRight ? start : end;
    }
    const last = fromRight ? rest.slice(0, edge) : rest.slice(edge);
    if (last !== "") push(last);
  } else {
    const mark = text("split", separator);
    if (mark === "") throw new TemplateError("empty separator");
    let edge = fromRight ? self.length : 0;
    while (more()) {
      const at = fromRight
        ? edge < mark.length
          ? -1
          : self.lastIndexOf(mark, edge - mark.length)
        : self.indexOf(mark, edge);
      if (at < 0) break;
      push(fromRight ? self.slice(at + mark.length, edge) : self.slice(edge, at));
      edge = fromRight ? at : at + mark.length;
    }
    push(fromRight ? self.slice(0, edge) : self.slice(edge));
  }
  return fromRight ? found.reverse() : found;
}

/** The text between start and end, counted in characters, and its offset in UTF-16 units. */
function window(
  self: string,
  start: Value | undefined,
  end: Value | undefined,
  meter: Meter,
): [string, number] {
  if (start === undefined && end === undefined) return [self, 0];
  const length = lengthOf(self, meter);
  const place = (value: Value | undefined, other: number) => {
    const at = integerOrNone("slice", value, other);
    return Math.min(length, at < 0 ? Math.max(0, at + length) : at);
  };
  const [from, to] = [place(start, 0), place(end, length)];
  if (!hasPairs(self)) return [self.slice(from, to), from];
  const characters = Array.from(self);
  return [characters.slice(from, to).join(""), characters.slice(0, from).join("").length];
}

function find(what: string, last: boolean, fails: boolean): Method<string> {
  return (self, given, meter) => {
    const [sub, start, end] = bind(what, given, ["sub", "start", "end"]);
    const [part, before] = window(self, start, end, meter);
    const wanted = text(what, sub);
    meter.read(part.length);
    const at = last ? part.lastIndexOf(wanted) : part.indexOf(wanted);
    if (at < 0 && fails) throw new TemplateError("substring not found");
    return at < 0 ? -1 : lengthOf(self.slice(0, before + at), meter);
  };
}

function affix(what: string, test: (self: string, affix: string) => boolean): Method<string> {
  return (self, given, meter) => {
    const [affixes, start, end] = bind(what, given, ["affix", "start", "end"]);
    const [part] = window(self, start, end, meter);
    const wanted = affixes instanceof Tuple ? affixes.items : [affixes ?? null];
    meter.spend(wanted.length);
    return wanted.some((one) => {
      const found = text(`${what} first arg must be str or a tuple of str`, one);
      meter.read(found.length);
      return test(part, found);
    });
  };
}

function justify(what: string, before: (missing: number, width: number) => number): Method<string> {
  return (self, given, meter) => {
    const [width, fill = " "] = bind(what, given, ["width", "fillchar"]);
    const wanted = integer(what, width, 0);
    const missing = wanted - lengthOf(self, meter);
    if (missing <= 0) return self;
    meter.text(wanted);
    meter.read(wanted);
    const filling = text(what, fill);
    const left = before(missing, wanted);
    return filling.repeat(left) + self + filling.repeat(missing - left);
  };
}

function partition(last: boolean): Method<string> {
  return (self, given, meter) => {
    const separator = text("partition", bind("partition", given, ["sep"])[0]);
    meter.read(self.length);
    const at = last ? self.lastIndexOf(separator) : self.indexOf(separator);
    if (at < 0) return new Tuple(last ? ["", "", self] : [self, "", ""]);
    return new Tuple([self.slice(0, at), separator, self.slice(at + separator.length)]);
  };
}

const plain =
  (work: (self: string) => Value): Method<string> =>
  (self, given, meter) => {
    bind("the method", given, []);
    meter.read(self.length);
    return work(self);
  };

const stripper =
  (sides: "both" | "left" | "right"): Method<string> =>
  (self, given, meter) => {
    const [chars = null] = bind("strip", given, ["chars"]);
    return strip(self, chars === null ? null : text("strip", chars), sides, meter);
  };

export const TEXT_METHODS: Readonly<Record<string, Method<string>>> = {
  capitalize: plain(capitalize),
  casefold: plain((self) => self.replaceAll("ß", "ss").toLowerCase()),
  center: justify("center", (missing, width) => (missing >> 1) + (missing & width & 1)),
  count: (self, given, meter) => {
    const [sub, start, end] = bind("count", given, ["sub", "start", "end"]);
    const [part] = window(self, start, end, meter);
    const wanted = text("count", sub);
    meter.read(part.length);
    if (wanted === "") return lengthOf(part, meter) + 1;
    let count = 0;
    for (let at = part.indexOf(wanted); at >= 0; at = part.indexOf(wanted, at + wanted.length)) count++;
    return count;
  },
  endswith: affix("endswith", (self, end) => self.endsWith(end)),
  find: find("find", false, false),
  index: find("index", false, true),
  isalnum: plain((self) => all(self, /^[\p{L}\p{N}]+$/u)),
  isalpha: plain((self) => all(self, /^\p{L}+$/u)),
  isascii: plain((self) => /^[\0-\x7f]*$/.test(self)),
  isdecimal: plain((self) => all(self, /^\p{Nd}+$/u)),
  isdigit: plain((self) => all(self, /^[\p{Nd}²³¹⁰⁴-⁹₀-₉①-⑨]+$/u)),
  islower: plain(isLower),
  isnumeric: plain((self) => all(self, /^\p{N}+$/u)),
  isspace: plain((self) => self !== "" && self.replace(BLANKS, "") === ""),
  istitle: plain((self) => /\p{Cased}/u.test(self) && self === titled(self)),
  isupper: plain(isUpper),
  join: (self, given, meter) => {
    const items = iterate(bind("join", given, ["iterable"])[0] ?? null, meter);
    const texts = items.map((item, at) => {
      if (typeof item === "string") return item;
      throw new TemplateError(`sequence item ${at}: expected str instance, ${typeName(item)} found`);
    });
    return join(self, texts, meter);
  },
  ljust: justify("ljust", () => 0),
  lower: plain((self) => self.toLowerCase()),
  lstrip: stripper("left"),
  partition: partition(false),
  removeprefix: (self, given) => {
    const prefix = text("removeprefix", bind("removeprefix", given, ["prefix"])[0]);
    return self.startsWith(prefix) ? self.slice(prefix.length) : self;
  },
  removesuffix: (self, given) => {
    const suffix = text("removesuffix", bind("removesuffix", given, ["suffix"])[0]);
    return suffix !== "" && self.endsWith(suffix) ? self.slice(0, -suffix.length) : self;
  },
  replace: (self, given, meter) => {
    const [old, fresh, count] = bind("replace", given, ["old", "new", "count"]);
    return replace(self, text("replace", old), text("replace", fresh), integer("replace", count, -1), meter);
  },
  rfind: find("rfind", true, false),
  rindex: find("rindex", true, true),
  rjust: justify("rjust", (missing) => missing),
  rpartition: partition(true),
  rsplit: (self, given, meter) => split(self, given, meter, true),
  rstrip: stripper("right"),
  split: (self, given, meter) => split(self, given, meter, false),
  splitlines: (self, given, meter) => {
    const [keep = false] = bind("splitlines", given, ["keepends"]);
    return lines(self, isTrue(keep), meter);
  },
  startswith: affix("startswith", (self, start) => self.startsWith(start)),
  strip: stripper("both"),
  swapcase: plain((self) =>
    Array.from(self, (one) => (one === one.toUpperCase() ? one.toLowerCase() : one.toUpperCase())).join(""),
  ),
  title: plain(titled),
  upper: plain((self) => self.toUpperCase()),
  zfill: (self, given, meter) => {
    const width = integer("zfill", bind("zfill", given, ["width"])[0], 0);
    const missing = width - lengthOf(self, meter);
    if (missing <= 0) return self;
    meter.text(width);
    meter.read(width);
    const sign = /^[+-]/.exec(self)?.[0] ?? "";
    return sign + "0".repeat(missing) + self.slice(sign.length);
  },
};

/** str.title: every run of letters begins with a capital. */
function titled(self: string): string {
  return self.replace(/\p{Cased}+/gu, (word) => capitalize(word));
}

/** The methods of list and tuple that change nothing. */
export const LIST_METHODS: Readonly<Record<string, Method<Value>>> = {
  count: (self, given, meter) => listIndex(self, given, meter).length,
  index: (self, given, meter) => {
    const [at] = listIndex(self, given, meter);
    if (at === undefined) throw new TemplateError("the value is not in the list");
    return at;
  },
  copy: (self) => self,
};

function listIndex(self: Value, given: Arguments, meter: Meter): number[] {
  const [value = null] = bind("index", given, ["value"]);
  const elements = elementsOf(self)!;
  meter.spend(elements.length);
  return elements.flatMap((item, at) => (isEqual(item, value, meter) ? [at] : []));
}
