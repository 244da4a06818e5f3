/** The global functions of templates: Jinja2's own and Hugging Face's two. */
import { bind, integer, text } from "./arguments.ts";
import type { Meter } from "./meter.ts";
import {
  type Arguments,
  Callable,
  Dict,
  elementsOf,
  iterate,
  TemplateError,
  Thing,
  toText,
  type Value,
} from "./values.ts";

/** The exception of a template that calls raise_exception. */
export class Raised extends Error {}

/** The result of `namespace()`: the only value that a template may change. */
export class Namespace extends Thing {
  readonly type = "Namespace";
  readonly #attributes = new Map<string, Value>();

  attribute(name: string): Value | undefined {
    return this.#attributes.get(name);
  }

  set(name: string, value: Value): void {
    this.#attributes.set(name, value);
  }
}

export function globals(now: Date, meter: Meter): Map<string, Value> {
  const functions: Record<string, (given: Arguments) => Value> = {
    raise_exception: (given) => {
      throw new Raised(toText(bind("raise_exception", given, ["message"])[0] ?? null, meter));
    },
    strftime_now: (given) => {
      const format = text("strftime_now", bind("strftime_now", given, ["format"])[0]);
      // A code becomes at most about twenty characters.
      meter.text(format.length * 20);
      meter.read(format.length * 20);
      return strftime(now, format);
    },
    range: (given) => range(given, meter),
    dict: (given) => dict("dict", given, meter),
    namespace: (given) => {
      const made = new Namespace();
      for (const [name, value] of dict("namespace", given, meter).entries())
        made.set(toText(name, meter), value);
      return made;
    },
    cycler: (given) => cycler(given.positional),
    joiner: (given) => {
      const [separator = ", "] = bind("joiner", given, ["sep"]);
      let used = false;
      return new Callable(() => {
        const found = used ? separator : "";
        used = true;
        return found;
      });
    },
  };
  return new Map(Object.entries(functions).map(([name, call]) => [name, new Callable(call)]));
}

/** A dict from pairs or another dict, plus named arguments. */
function dict(what: string, { positional, named }: Arguments, meter: Meter): Dict {
  if (positional.length > 1)
    throw new TemplateError(`${what} expected at most 1 argument, got ${positional.length}`);
  const made = new Dict();
  const [given] = positional;
  if (given instanceof Dict) {
    meter.list(given.size);
    for (const [key, value] of given.entries()) made.set(key, value);
  } else if (given !== undefined) {
    for (const pair of iterate(given, meter)) {
      meter.spend(1);
      const [key, value, ...more] = elementsOf(pair) ?? [];
      if (key === undefined || value === undefined || more.length > 0)
        throw new TemplateError(`${what} takes pairs of a key and a value`);
      made.set(key, value);
    }
  }
  for (const [name, value] of named) made.set(name, value);
  return made;
}

function range({ positional, named }: Arguments, meter: Meter): Value {
  if (named.size > 0 || positional.length < 1 || positional.length > 3)
    throw new TemplateError("range expected 1 to 3 arguments");
  const numbers = positional.map((value) => integer("range", value, 0));
  const [from, to, step = 1] = numbers.length === 1 ? [0, numbers[0]] : numbers;
  if (step === 0) throw new TemplateError("range() arg 3 must not be zero");
  const count = Math.max(0, Math.ceil((to - from) / step));
  meter.list(count);
  return Array.from({ length: count }, (_, at) => from + at * step);
}

class Cycler extends Thing {
  readonly type = "Cycler";
  #at = 0;

  constructor(readonly items: readonly Value[]) {
    super();
  }

  attribute(name: string): Value | undefined {
    const current = this.items[this.#at];
    if (name === "current") return current;
    if (name === "reset" || name === "next")
      return new Callable(() => {
        this.#at = name === "next" ? (this.#at + 1) % this.items.length : 0;
        return name === "next" ? current : null;
      });
    return undefined;
  }
}

function cycler(items: readonly Value[]): Value {
  if (items.length === 0) throw new TemplateError("at least one item has to be provided");
  return new Cycler(items);
}

/** Python's strftime in English; unknown codes are kept. "-" before a code drops leading zeros. */
function strftime(now: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const name = (options: Intl.DateTimeFormatOptions) => new Intl.DateTimeFormat("en-US", options).format(now);
  const day = (month: number, date: number) => Date.UTC(now.getFullYear(), month, date) / 86400000;
  const codes: Record<string, () => string> = {
    Y: () => String(now.getFullYear()),
    y: () => two(now.getFullYear() % 100),
    m: () => two(now.getMonth() + 1),
    d: () => two(now.getDate()),
    e: () => String(now.getDate()).padStart(2, " "),
    j: () => String(day(now.getMonth(), now.getDate()) - day(0, 1) + 1).padStart(3, "0"),
    H: () => two(now.getHours()),
    I: () => two(((now.getHours() + 11) % 12) + 1),
    M: () => two(now.getMinutes()),
    S: () => two(now.getSeconds()),
    p: () => (now.getHours() < 12 ? "AM" : "PM"),
    B: () => name({ month: "long" }),
    b: () => name({ month: "short" }),
    A: () => name({ weekday: "long" }),
    a: () => name({ weekday: "short" }),
    F: () => `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`,
    T: () => `${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}`,
    "%": () => "%",
  };
  return format.replace(/%(-?)([A-Za-z%])/g, (whole, bare: string, code: string) => {
    const found = Object.hasOwn(codes, code) ? codes[code]() : whole;
    return bare ? found.replace(/^[0 ]+(?=.)/, "") : found;
  });
}
