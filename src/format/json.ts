/**
 * JSON for checkpoints: one parse that also refuses what JSON.parse accepts: a name given twice in one object (the last
 * would win silently) and nesting deep enough to be an attack.
 */
import { FormatError } from "./errors.ts";

const MAX_DEPTH = 64;

const SPACE = 0x20;
const QUOTE = 0x22;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** A parsed object whose fields are not checked yet. */
export type JsonObject = { readonly [key: string]: unknown };

/**
 * Parses `text`; throws FormatError at `place` for invalid JSON, a repeated name in an object, or nesting beyond 64.
 */
export function parseJson(text: string, place: string): unknown {
  try {
    scan(text, place);
    return JSON.parse(text);
  } catch (cause) {
    if (cause instanceof FormatError) throw cause;
    throw new FormatError(place, `invalid JSON (${(cause as Error).message})`, undefined, { cause });
  }
}

/** The value as an object; throws FormatError at `place` if it is anything else. */
export function asObject(value: unknown, place: string): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new FormatError(place, `${describe(value)} where an object belongs`);
}

/** A value in an error message: short, whatever it is. */
export function describe(value: unknown): string {
  if (value === undefined) return "missing";
  if (typeof value === "number" && !Number.isFinite(value))
    return Number.isNaN(value) ? "not a number" : "infinite";
  const { length } = value !== null && typeof value === "object" ? (value as { length?: unknown }) : {};
  // A huge list from a hostile file is not written out for the 60 characters that are shown.
  if (ArrayBuffer.isView(value) || (Array.isArray(value) && value.length > 16)) return `a list of ${length}`;
  let text: string;
  try {
    text = JSON.stringify(value) ?? typeof value;
  } catch {
    // A bigint, a cycle, or an object that cannot be converted.
    text = typeof value;
  }
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/**
 * One pass over brackets and strings, which need not be valid JSON: a string directly before a colon is a name of the
 * innermost object. It works on character codes: a tokenizer.json has 35 million of them.
 */
function scan(text: string, place: string): void {
  /** For each open object the names so far; null for an array. */
  const open: (Set<string> | null)[] = [];
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      const end = stringEnd(text, at);
      if (isName(text, end + 1)) addName(open.at(-1), text.slice(at, end + 1), place);
      at = end;
    } else if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
      open.push(code === OPEN_OBJECT ? new Set() : null);
      if (open.length > MAX_DEPTH)
        throw new FormatError(place, `JSON nested ${open.length} deep`, `${MAX_DEPTH}`);
    } else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) open.pop();
  }
}

function addName(names: Set<string> | null | undefined, quoted: string, place: string): void {
  const name = quoted.includes("\\") ? (JSON.parse(quoted) as string) : quoted.slice(1, -1);
  if (names?.has(name)) throw new FormatError(place, `the name ${describe(name)} twice in one JSON object`);
  names?.add(name);
}

/** The index of the quote that closes the string opened at `at` (or the text's length: JSON.parse reports that). */
function stringEnd(text: string, at: number): number {
  for (at++; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) break;
    if (code === BACKSLASH) at++;
  }
  return at;
}

function isName(text: string, at: number): boolean {
  while (text.charCodeAt(at) <= SPACE) at++;
  return text.charCodeAt(at) === COLON;
}
