/** The filter `tojson` as Hugging Face defines it: Python's json.dumps with non-ASCII characters kept. */
import { LITERAL } from "../tokenizer.ts";
import { bind, integerOrNone, text } from "./arguments.ts";
import { type Meter, Writer } from "./meter.ts";
import {
  type Arguments,
  Dict,
  elementsOf,
  Float,
  floatText,
  isTrue,
  TemplateError,
  typeName,
  type Value,
} from "./values.ts";

interface Form {
  readonly ascii: boolean;
  /** Indentation of one level; null: everything on one line. */
  readonly indent: string | null;
  readonly between: string;
  readonly afterKey: string;
  readonly sorted: boolean;
}

const NAMES = ["ensure_ascii", "indent", "separators", "sort_keys"];

export function toJson(value: Value, given: Arguments, meter: Meter): string {
  const [ascii = false, indent = null, separators = null, sorted = false] = bind("tojson", given, NAMES);
  const pair = elementsOf(separators);
  if (separators !== null && pair?.length !== 2)
    throw new TemplateError("tojson: separators must be two strings");
  const width = typeof indent === "string" ? indent.length : integerOrNone("tojson", indent, 0);
  meter.text(width);
  const form: Form = {
    ascii: isTrue(ascii),
    indent: indent === null ? null : typeof indent === "string" ? indent : " ".repeat(Math.max(0, width)),
    between: pair ? text("tojson", pair[0]) : indent === null ? ", " : ",",
    afterKey: pair ? text("tojson", pair[1]) : ": ",
    sorted: isTrue(sorted),
  };
  const writer = new Writer(meter);
  write(value, form, "\n", writer);
  return writer.text;
}

/** margin: a line break with the indentation of the surrounding level. */
function write(value: Value, form: Form, margin: string, writer: Writer): void {
  const elements = elementsOf(value);
  if (elements) {
    writeAll("[", "]", elements, form, margin, writer, (item, inner) => write(item, form, inner, writer));
  } else if (value instanceof Dict) {
    let entries = [...value.entries()].map(([key, item]) => [keyText(key), item] as const);
    // As in Python, by code points.
    if (form.sorted) entries = entries.sort(([a], [b]) => (a < b ? -1 : 1));
    writeAll("{", "}", entries, form, margin, writer, ([key, item], inner) => {
      writer.add(quoted(key, form, writer.meter));
      writer.add(form.afterKey);
      write(item, form, inner, writer);
    });
  } else if (typeof value === "string") writer.add(quoted(value, form, writer.meter));
  else writer.add(keyText(value));
}

function writeAll<Item>(
  open: string,
  close: string,
  items: readonly Item[],
  { indent, between }: Form,
  margin: string,
  writer: Writer,
  one: (item: Item, margin: string) => void,
): void {
  writer.add(open);
  const inner = indent === null ? "" : margin + indent;
  for (const [at, item] of items.entries()) {
    if (at > 0) writer.add(between);
    writer.add(inner);
    one(item, indent === null ? margin : inner);
  }
  if (items.length > 0 && indent !== null) writer.add(margin);
  writer.add(close);
}

/** Everything but texts, lists and dicts; also as a key. */
function keyText(value: Value): string {
  if (typeof value === "string") return value;
  if (value === null) return "null";
  if (typeof value === "boolean" || typeof value === "number") return String(value);
  if (value instanceof Float)
    return Number.isFinite(value.value) ? floatText(value.value) : jsonNames[String(value.value)];
  throw new TemplateError(`Object of type ${typeName(value)} is not JSON serializable`);
}

const jsonNames: Record<string, string> = { NaN: "NaN", Infinity: "Infinity", "-Infinity": "-Infinity" };

function quoted(value: string, { ascii }: Form, meter: Meter): string {
  meter.read(value.length);
  const json = JSON.stringify(value);
  // The mark of `Tokenizer.protect` is kept unescaped so that it still works.
  const spelled = (unit: string) =>
    unit === LITERAL ? unit : `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return ascii ? json.replace(/[\x7f-\uffff]/g, spelled) : json;
}
