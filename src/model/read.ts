/** Typed reading of untyped metadata: one error that names the key, what stood there and what would do. */
import { FormatError } from "../format/errors.ts";
import { describe, type JsonObject } from "../format/json.ts";

export type Metadata = JsonObject;

export function readNumber(from: Metadata, key: string, place: string, fallback?: number): number {
  const found = from[key] ?? fallback;
  if (typeof found === "number" && Number.isFinite(found)) return found;
  throw new FormatError(place, `${key} is ${shown(found)}`, "a number");
}

export function readString(from: Metadata, key: string, place: string, fallback?: string): string {
  const found = from[key] ?? fallback;
  if (typeof found === "string") return found;
  throw new FormatError(place, `${key} is ${shown(found)}`, "a string");
}

/** A JSON object under `key`, or null when there is none. */
export function readObject(from: Metadata, key: string, place: string): Metadata | null {
  const found = from[key];
  if (found === undefined || found === null) return null;
  if (typeof found === "object" && !Array.isArray(found)) return found as Metadata;
  throw new FormatError(place, `${key} is ${shown(found)}`, "an object");
}

function shown(found: unknown): string {
  return found === undefined ? "missing" : describe(found);
}
