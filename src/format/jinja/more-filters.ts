/**
 * Jinja2's filters that chat templates rarely use. Missing are those for web pages that need a library (striptags,
 * urlize, wordwrap, xmlattr), pprint and random: a template that names one is reported when it is read.
 */
import { element, items } from "./access.ts";
import { bind, integer, numeric } from "./arguments.ts";
import type { Filter } from "./filters.ts";
import type { Meter } from "./meter.ts";
import { Dict, iterate, TemplateError, toText, type Value } from "./values.ts";

/** Lists of `count` elements; the last one is padded, unless with None. */
const batch: Filter = (value, given, meter) => {
  const [count, filler = null] = bind("batch", given, ["linecount", "fill_with"]);
  const size = integer("batch", count, 0);
  const all = iterate(value, meter);
  if (size < 1) throw new TemplateError("batch: a count of at least 1 is required");
  const lists: Value[][] = [];
  for (let at = 0; at < all.length; at += size) lists.push(all.slice(at, at + size));
  meter.list(all.length + (filler === null ? 0 : size));
  const last = lists.at(-1);
  if (last && filler !== null) while (last.length < size) last.push(filler);
  return lists;
};

/** `count` lists whose lengths differ by at most one, longer ones first; shorter ones are padded. */
const slice: Filter = (value, given, meter) => {
  const [count, filler = null] = bind("slice", given, ["slices", "fill_with"]);
  const lists = integer("slice", count, 0);
  const all = iterate(value, meter);
  if (lists < 1) throw new TemplateError("slice: a count of at least 1 is required");
  meter.list(all.length + lists);
  const [least, longer] = [Math.floor(all.length / lists), all.length % lists];
  let at = 0;
  return Array.from({ length: lists }, (_, i) => {
    const part = all.slice(at, at + least + (i < longer ? 1 : 0));
    at += part.length;
    return filler !== null && i >= longer ? [...part, filler] : part;
  });
};

/** Like Python's urllib.parse.quote. */
function quoted(value: Value, meter: Meter, alsoSlash: boolean): string {
  const text = toText(value, meter);
  meter.read(9 * text.length);
  meter.text(9 * text.length);
  const encoded = encodeURIComponent(text.toWellFormed()).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return alsoSlash ? encoded.replaceAll("%20", "+") : encoded.replaceAll("%2F", "/");
}

const urlencode: Filter = (value, given, meter) => {
  bind("urlencode", given, []);
  if (typeof value === "string" || typeof value === "number") return quoted(value, meter, false);
  const pairs = value instanceof Dict ? items(value, meter) : iterate(value, meter);
  meter.list(pairs.length);
  return pairs
    .map((pair) => [0, 1].map((at) => quoted(element(pair, at, meter), meter, true)).join("="))
    .join("&");
};

const filesizeformat: Filter = (value, given) => {
  const [binary = false] = bind("filesizeformat", given, ["binary"]);
  const bytes = typeof value === "string" ? Number(value) : numeric("filesizeformat", value);
  const base = binary === true ? 1024 : 1000;
  const units = [..."kMGTPEZY"].map((letter) =>
    binary === true ? `${letter.toUpperCase()}iB` : `${letter}B`,
  );
  if (bytes === 1) return "1 Byte";
  if (bytes < base) return `${Math.trunc(bytes)} Bytes`;
  const at = units.findIndex((_, i) => bytes < base ** (i + 2));
  const power = at < 0 ? units.length - 1 : at;
  return `${(bytes / base ** (power + 1)).toFixed(1)} ${units[power]}`;
};

export const MORE_FILTERS: Readonly<Record<string, Filter>> = { batch, slice, urlencode, filesizeformat };
