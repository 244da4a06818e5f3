/**
 * JSON of requests, read with pauses: JSON.parse takes a second for five megabytes of small objects, in which a server
 * answers no other request. Bounds the depth of nesting and the number of objects and lists, so that later readers need not
 * worry about their stack, or about the time to visit each of them.
 * One idea: JSON.parse reads each string and number, and only the structure is read here; the result is that of JSON.parse
 * for the whole.
 */
import type { Slices } from "../../index.ts";
import { ApiError } from "./errors.ts";

export interface JsonBounds {
  /** For errors: "the body". */
  readonly what: string;
  readonly deepest: number;
  /** Objects and lists. */
  readonly most: number;
}

/** Bounds of a whole request. A conversation of 5,000 messages with their parts has 10,000 objects and lists. */
export const BODY_BOUNDS: JsonBounds = { what: "the body", deepest: 64, most: 20_000 };

/** Values between two pauses, and characters of a string. About 0.1 ms each. */
const VALUES = 1000;
const CHARACTERS = 2 ** 17;

type Open = { readonly list: unknown[] } | { readonly object: Record<string, unknown>; key: string };

/** The parsed value. ApiError 400 for invalid JSON, and beyond the bounds. */
export function* readJson(text: string, bounds: JsonBounds): Slices<unknown> {
  const reader = new Reader(text, bounds);
  const opened: Open[] = [];
  let values = 0;
  let objects = 0;
  for (;;) {
    if (++values % VALUES === 0) yield;
    let value: unknown;
    const c = reader.next();
    if (c === "{" || c === "[") {
      if (++objects > bounds.most)
        throw new ApiError(400, `${bounds.what} has more than ${bounds.most} objects and lists`);
      if (opened.length >= bounds.deepest)
        throw new ApiError(400, `${bounds.what} nests deeper than ${bounds.deepest} levels`);
      reader.at++;
      if (c === "[" && reader.next() !== "]") {
        opened.push({ list: [] });
        continue;
      }
      if (c === "{" && reader.next() !== "}") {
        opened.push({ object: {}, key: yield* readKey(reader) });
        continue;
      }
      reader.at++;
      value = c === "[" ? [] : {};
    } else value = c === '"' ? yield* readText(reader) : reader.word();
    // Ends what ends with it.
    for (;;) {
      const around = opened[opened.length - 1];
      if (around === undefined) {
        if (reader.next() !== "") throw reader.wrong();
        return value;
      }
      if ("list" in around) around.list.push(value);
      else put(around.object, around.key, value);
      const end = reader.next();
      if (end === ",") {
        reader.at++;
        if ("key" in around) around.key = yield* readKey(reader);
        break;
      }
      if (end !== ("list" in around ? "]" : "}")) throw reader.wrong();
      reader.at++;
      value = "list" in around ? around.list : around.object;
      opened.pop();
      if (++values % VALUES === 0) yield;
    }
  }
}

function* readKey(reader: Reader): Slices<string> {
  if (reader.next() !== '"') throw reader.wrong();
  const key = yield* readText(reader);
  if (reader.next() !== ":") throw reader.wrong();
  reader.at++;
  return key;
}

/** Sets a property as JSON.parse does: "__proto__" is a name like any other. */
function put(object: Record<string, unknown>, key: string, value: unknown): void {
  if (key !== "__proto__") object[key] = value;
  else Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

/** A string from its quote on; a long one in parts that split no escape. */
function* readText(reader: Reader): Slices<string> {
  const parts: string[] = [];
  let from = reader.at + 1;
  let at = from;
  for (let escapes = 1; ; ) {
    const quote = reader.quoteFrom(at);
    const slash = reader.slashFrom(at);
    const full = Math.max(at, from + CHARACTERS);
    if (full <= quote && full <= slash) {
      parts.push(reader.parsed(`"${reader.text.slice(from, full)}"`));
      from = at = full;
      yield;
    } else if (quote < slash) {
      parts.push(reader.parsed(`"${reader.text.slice(from, quote)}"`));
      reader.at = quote + 1;
      return parts.length === 1 ? parts[0] : parts.join("");
    } else {
      at = slash + (reader.text[slash + 1] === "u" ? 6 : 2);
      if (escapes++ % VALUES === 0) yield;
    }
  }
}

class Reader {
  at = 0;
  #quote = -1;
  #slash = -1;

  constructor(
    readonly text: string,
    readonly bounds: JsonBounds,
  ) {}

  /** The next character that is not a blank, without consuming it; "": none. */
  next(): string {
    for (; this.at < this.text.length; this.at++) {
      const c = this.text[this.at];
      if (c !== " " && c !== "\n" && c !== "\r" && c !== "\t") return c;
    }
    return "";
  }

  /** A number, true, false or null. */
  word(): unknown {
    WORD.lastIndex = this.at;
    const [word] = WORD.exec(this.text) ?? [];
    if (word === undefined) throw this.wrong();
    const value = this.parsed(word);
    this.at += word.length;
    return value;
  }

  /** The next quote. */
  quoteFrom(at: number): number {
    if (this.#quote < at) this.#quote = this.text.indexOf('"', at);
    if (this.#quote < 0) throw this.wrong(this.text.length);
    return this.#quote;
  }

  /** The next backslash; Infinity: none. Searched once, however many strings come before it. */
  slashFrom(at: number): number {
    if (this.#slash < at) {
      const found = this.text.indexOf("\\", at);
      this.#slash = found < 0 ? Number.POSITIVE_INFINITY : found;
    }
    return this.#slash;
  }

  parsed(token: string): string {
    try {
      return JSON.parse(token);
    } catch {
      throw this.wrong();
    }
  }

  wrong(at = this.at): ApiError {
    const { what } = this.bounds;
    const found = this.text.slice(at, at + 12);
    return new ApiError(
      400,
      `${what} is no JSON: at character ${at} it ${found === "" ? "ends early" : `goes on with ${JSON.stringify(found)}`}`,
    );
  }
}

/** Numbers cannot be long: an f64 has 17 digits, and its shortest decimal at most some 800. */
const WORD = /-?[\d.eE+-]{1,1100}|true|false|null/y;
