/**
 * Jinja2's filters over lists, and the table of all filters. None and undefined count as empty where Jinja2 does so.
 */
import { element, items } from "./access.ts";
import { bind, text } from "./arguments.ts";
import { FILTERS, type Filter, texts } from "./filters.ts";
import type { Meter } from "./meter.ts";
import { MORE_FILTERS } from "./more-filters.ts";
import { operate } from "./operators.ts";
import { test } from "./tests.ts";
import { join } from "./text-methods.ts";
import {
  type Arguments,
  compare,
  Dict,
  Group,
  isEqual,
  isTrue,
  iterate,
  orUndefined,
  TemplateError,
  Undefined,
  type Value,
} from "./values.ts";

/** "a.b.0", or a number: the attribute to read from an element. None: the element itself. */
function getter(path: Value | undefined, meter: Meter, other?: Value): (item: Value) => Value {
  if (path === undefined || path === null) return (item) => item;
  const steps = (typeof path === "number" ? [path] : text("attribute", path).split(".")).map((step) =>
    typeof step === "string" && /^\d+$/.test(step) ? Number(step) : step,
  );
  return (item) => {
    const found = steps.reduce((value: Value, step) => element(value, step, meter), item);
    return found instanceof Undefined && other !== undefined ? other : found;
  };
}

/** Compares texts without case, unless it is case-sensitive. */
function sortable(item: Value, withCase: Value, meter: Meter): Value {
  if (typeof item !== "string" || isTrue(withCase)) return item;
  meter.read(item.length);
  return item.toLowerCase();
}

function sorted(
  values: readonly Value[],
  keys: readonly ((item: Value) => Value)[],
  backwards: Value,
  meter: Meter,
): Value[] {
  meter.list(values.length);
  const sign = isTrue(backwards) ? -1 : 1;
  const entries = values.map((value) => ({ value, by: keys.map((key) => key(value)) }));
  entries.sort((a, b) => {
    for (const [at, key] of a.by.entries()) {
      const order = compare(key, b.by[at], meter);
      if (order !== 0) return sign * order;
    }
    return 0;
  });
  return entries.map(({ value }) => value);
}

/** The smallest (sign 1) or largest (-1) element. */
function extreme(sign: 1 | -1): Filter {
  return (value, given, meter) => {
    const [withCase = false, path] = bind("min", given, ["case_sensitive", "attribute"]);
    const all = iterate(value, meter);
    if (all.length === 0) return new Undefined("No aggregated item, sequence was empty.");
    const get = getter(path, meter);
    const key = (item: Value) => sortable(get(item), withCase, meter);
    return all.reduce((best, item) => (compare(key(item), key(best), meter) * sign < 0 ? item : best));
  };
}

/** select, reject, selectattr, rejectattr: the elements for which a test holds, or does not. */
function selecting(byAttribute: boolean, wanted: boolean): Filter {
  return (value, { positional, named }, meter) => {
    // As in Jinja2: an empty value, None included, gives nothing.
    if (!isTrue(value)) return [];
    if (byAttribute && positional.length === 0)
      throw new TemplateError("Missing parameter for attribute name");
    const path = byAttribute ? positional[0] : undefined;
    const [name, ...more] = byAttribute ? positional.slice(1) : positional;
    const get = getter(path, meter);
    if (named.size > 0) throw new TemplateError("a test takes no named arguments");
    const holds = (item: Value) =>
      name === undefined ? isTrue(get(item)) : test(text("the name of a test", name), get(item), more, meter);
    const all = iterate(value, meter);
    meter.list(all.length);
    return all.filter((item) => holds(item) === wanted);
  };
}

const ALL_FILTERS: Readonly<Record<string, Filter>> = {
  ...FILTERS,
  ...MORE_FILTERS,
  dictsort: (value, given, meter) => {
    const names = ["case_sensitive", "by", "reverse"];
    const [withCase = false, by = "key", backwards = false] = bind("dictsort", given, names);
    if (!(value instanceof Dict)) throw new TemplateError("dictsort takes a mapping");
    if (by !== "key" && by !== "value")
      throw new TemplateError('You can only sort by either "key" or "value"');
    const get = getter(by === "key" ? 0 : 1, meter);
    return sorted(items(value, meter), [(item) => sortable(get(item), withCase, meter)], backwards, meter);
  },
  groupby: (value, given, meter) => {
    const names = ["attribute", "default", "case_sensitive"];
    const [path, other, withCase = false] = bind("groupby", given, names);
    const get = getter(path, meter, other);
    const key = (item: Value) => sortable(get(item), withCase, meter);
    const groups: Group[] = [];
    let last: Value = null;
    for (const item of sorted(iterate(value, meter), [key], false, meter)) {
      const by = key(item);
      if (groups.length > 0 && isEqual(by, last, meter)) groups[groups.length - 1].list.push(item);
      else groups.push(new Group(get(item), [item]));
      last = by;
    }
    return groups;
  },
  first: (value, _, meter) => orUndefined(iterate(value, meter)[0], "No first item, sequence was empty."),
  join: (value, given, meter) => {
    const [separator = "", path] = bind("join", given, ["d", "attribute"]);
    const get = getter(path, meter);
    const all = iterate(value, meter);
    meter.list(all.length);
    return join(text("join", separator), texts(all.map(get), meter), meter);
  },
  last: (value, _, meter) => orUndefined(iterate(value, meter).at(-1), "No last item, sequence was empty."),
  map: (value, given, meter) => {
    if (!isTrue(value)) return [];
    const { positional, named } = given;
    const all = iterate(value, meter);
    meter.list(all.length);
    if (positional.length === 0) {
      const [path, other] = bind("map", given, ["attribute", "default"]);
      if (path === undefined) throw new TemplateError("map requires a filter argument");
      return all.map(getter(path, meter, other));
    }
    const name = text("the name of a filter", positional[0]);
    return all.map((item) => filter(name, item, { positional: positional.slice(1), named }, meter));
  },
  max: extreme(-1),
  min: extreme(1),
  reject: selecting(false, false),
  rejectattr: selecting(true, false),
  select: selecting(false, true),
  selectattr: selecting(true, true),
  sort: (value, given, meter) => {
    const names = ["reverse", "case_sensitive", "attribute"];
    const [backwards = false, withCase = false, path] = bind("sort", given, names);
    const paths = typeof path === "string" ? path.split(",") : [path];
    const keys = paths.map((one) => {
      const get = getter(one, meter);
      return (item: Value) => sortable(get(item), withCase, meter);
    });
    return sorted(iterate(value, meter), keys, backwards, meter);
  },
  sum: (value, given, meter) => {
    const [path, start = 0] = bind("sum", given, ["attribute", "start"]);
    const get = getter(path, meter);
    return iterate(value, meter).reduce<Value>((sum, item) => operate("+", sum, get(item), meter), start);
  },
  unique: (value, given, meter) => {
    const [withCase = false, path] = bind("unique", given, ["case_sensitive", "attribute"]);
    const get = getter(path, meter);
    const seen = new Dict();
    return iterate(value, meter).filter((item) => {
      meter.spend(1);
      const key = sortable(get(item), withCase, meter);
      if (seen.has(key)) return false;
      seen.set(key, null);
      return true;
    });
  },
};

export function isFilter(name: string): boolean {
  return Object.hasOwn(ALL_FILTERS, name);
}

export function filter(name: string, value: Value, given: Arguments, meter: Meter): Value {
  if (!isFilter(name)) throw new TemplateError(`No filter named '${name}'.`);
  meter.spend(1);
  return ALL_FILTERS[name](value, given, meter);
}
