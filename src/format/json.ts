/**
 * JSON as checkpoints need it: one parse that also refuses what JSON.parse lets through, a name given twice in one
 * object (the last would win silently) and nesting deep enough to be an attack. Knows nothing of any schema.
 */
import { FormatError } from "./errors.ts";

const MAX_DEPTH = 64;

/** A parsed object, before anything is known of its fields. */
export type JsonObject = { readonly [key: string]: unknown };

/** Parses `text`; FormatError at `place` for bad JSON, a repeated name in an object, nesting beyond 64. */
export function parseJson(text: string, place: string): unknown {
  let value: unknown;
  refuseDepth(text, place);
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(place, `bad JSON (${(cause as Error).message})`, undefined, { cause });
  }
  refuseRepeatedNames(text, place);
  return value;
}

/** The value as an object; FormatError at `place` when it is anything else. */
export function asObject(value: unknown, place: string): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new FormatError(place, `${describe(value)} where an object belongs`);
}

/** A value in an error message: short, whatever it is. */
export function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function refuseDepth(text: string, place: string): void {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '"') at = stringEnd(text, at);
    else if (char === "{" || char === "[") {
      if (++depth > MAX_DEPTH) throw new FormatError(place, `JSON nested ${depth} deep`, `${MAX_DEPTH}`);
    } else if (char === "}" || char === "]") depth--;
  }
}

/** `text` is known to be valid JSON: a string directly before a colon is a name of the innermost object. */
function refuseRepeatedNames(text: string, place: string): void {
  const open: Set<string>[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === "{") open.push(new Set());
    else if (char === "}") open.pop();
    else if (char === '"') {
      const end = stringEnd(text, at);
      if (isName(text, end + 1)) {
        const name = JSON.parse(text.slice(at, end + 1)) as string;
        const names = open[open.length - 1];
        if (names.has(name))
          throw new FormatError(place, `the name ${describe(name)} twice in one JSON object`);
        names.add(name);
      }
      at = end;
    }
  }
}

/** Index of the quote that closes the string opened at `at` (or the text's length: JSON.parse reports that). */
function stringEnd(text: string, at: number): number {
  for (at++; at < text.length && text[at] !== '"'; at++) if (text[at] === "\\") at++;
  return at;
}

function isName(text: string, at: number): boolean {
  while (" \t\r\n".includes(text[at])) at++;
  return text[at] === ":";
}
