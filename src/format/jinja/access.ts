/**
 * Attributes, methods, elements and slices. As in Jinja2's sandbox, a dot looks for a method first and brackets for an
 * element; methods that would change a value do not exist.
 */
import { bind, integerOrNone } from "./arguments.ts";
import type { Meter } from "./meter.ts";
import { format } from "./printf.ts";
import { LIST_METHODS, type Method, TEXT_METHODS } from "./text-methods.ts";
import {
  Callable,
  Dict,
  elementsOf,
  Group,
  hasPairs,
  isHashable,
  iterate,
  TemplateError,
  Thing,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

const DICT_METHODS: Readonly<Record<string, Method<Dict>>> = {
  get: (self, given) => {
    const [key = null, other = null] = bind("get", given, ["key", "default"]);
    const found = self.get(key);
    return found === undefined ? other : found;
  },
  items: (self, _, meter) => items(self, meter),
  keys: (self, _, meter) => iterate(self, meter),
  values: (self, _, meter) => {
    meter.list(self.size);
    return Array.from(self.entries(), ([, value]) => value);
  },
  copy: (self) => self,
};

export function items(dict: Dict, meter: Meter): Value[] {
  meter.list(dict.size);
  return Array.from(dict.entries(), (entry) => new Tuple(entry));
}

/** Methods that Hugging Face's sandbox denies to templates because they would change a value. */
const CHANGING_DICTS = /^(?:clear|pop|popitem|setdefault|update)$/;
const CHANGING_LISTS = /^(?:append|clear|extend|insert|pop|remove|reverse|sort)$/;

function methodOf(object: Value, name: string, meter: Meter): Value | undefined {
  const bound = <Self extends Value>(methods: Readonly<Record<string, Method<Self>>>, self: Self) =>
    Object.hasOwn(methods, name) ? new Callable((given) => methods[name](self, given, meter)) : undefined;
  if (typeof object === "string") {
    if (name === "format")
      return new Callable((given) =>
        format(object, given, meter, (of, key, dotted) =>
          dotted ? attribute(of, String(key), meter) : element(of, key, meter),
        ),
      );
    return bound(TEXT_METHODS, object);
  }
  if (object instanceof Dict) return bound(DICT_METHODS, object);
  if (object instanceof Thing) return object.attribute(name);
  return elementsOf(object) ? bound(LIST_METHODS, object) : undefined;
}

function isKept(object: Value, name: string): boolean {
  if (name.startsWith("__")) return true;
  if (object instanceof Dict) return CHANGING_DICTS.test(name);
  return Array.isArray(object) && CHANGING_LISTS.test(name);
}

/** object.name */
export function attribute(object: Value, name: string, meter: Meter): Value {
  if (object instanceof Undefined) object.fail();
  const method = methodOf(object, name, meter);
  if (method !== undefined) return method;
  if (isKept(object, name))
    return new Undefined(`access to attribute '${name}' of '${typeName(object)}' object is unsafe.`);
  if (object instanceof Group && (name === "grouper" || name === "list")) return object[name];
  const found = object instanceof Dict ? object.get(name) : undefined;
  return found === undefined ? nothing(object, name) : found;
}

/** object[key] */
export function element(object: Value, key: Value, meter: Meter): Value {
  if (object instanceof Undefined) object.fail();
  if (key instanceof Undefined) return nothing(object, "Undefined");
  // Jinja2 treats a value that cannot be a key as missing.
  if (object instanceof Dict && !isHashable(key)) return nothing(object, typeName(key));
  const found = object instanceof Dict ? object.get(key) : elementAt(object, key, meter);
  if (found !== undefined) return found;
  if (typeof key === "string") {
    const method = methodOf(object, key, meter);
    if (method !== undefined) return method;
  }
  return nothing(object, typeof key === "string" || typeof key === "number" ? key : typeName(key));
}

function elementAt(object: Value, key: Value, meter: Meter): Value | undefined {
  if (typeof key !== "number" && typeof key !== "boolean") return undefined;
  if (typeof object !== "string") return elementsOf(object)?.at(Number(key));
  meter.read(object.length);
  return (hasPairs(object) ? Array.from(object) : object).at(Number(key));
}

function nothing(object: Value, key: string | number): Undefined {
  const type = object === null ? "None" : `${typeName(object)} object`;
  return new Undefined(
    typeof key === "number" ? `${type} has no element ${key}` : `'${type}' has no attribute '${key}'`,
  );
}

/** object[start:stop:step] */
export function slice(object: Value, bounds: readonly (Value | undefined)[], meter: Meter): Value {
  if (object instanceof Undefined) object.fail();
  const elements = elementsOf(object);
  if (typeof object !== "string" && elements === null)
    throw new TemplateError(`'${typeName(object)}' object is not subscriptable by a slice`);
  const [start, stop, step] = bounds;
  const by = integerOrNone("slice", step, 1);
  if (by === 0) throw new TemplateError("slice step cannot be zero");
  if (typeof object === "string") meter.read(object.length);
  const all = typeof object === "string" ? (hasPairs(object) ? Array.from(object) : object) : elements!;
  const { length } = all;
  const [least, most] = by > 0 ? [0, length] : [-1, length - 1];
  const place = (value: Value | undefined, other: number) => {
    if (value === undefined || value === null) return other;
    const at = integerOrNone("slice", value, other);
    return Math.max(least, Math.min(most, at < 0 ? at + length : at));
  };
  const from = place(start, by > 0 ? least : most);
  const to = place(stop, by > 0 ? most : least);
  const count = Math.max(0, Math.ceil((to - from) / by));
  if (by === 1 && typeof all === "string") return all.slice(from, to);
  // For slices with a step, a text is split into a list of characters.
  meter.list(count);
  const taken = Array.from({ length: count }, (_, at) => all[from + at * by] as Value);
  if (typeof object === "string") return taken.join("");
  return object instanceof Tuple ? new Tuple(taken) : taken;
}
