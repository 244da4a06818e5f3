/**
 * Typed reading of untyped metadata. An error names the key, the value found and the values allowed. Numbers are
 * checked against their bounds (`bounds.ts`).
 */
import { FormatError } from "../format/errors.ts";
import { describe, type JsonObject } from "../format/json.ts";
import { type Bound, outside } from "./bounds.ts";

export type Metadata = JsonObject;

/** Key-values of a file. A fallback is used if the key is missing; null is a value like any other. */
export class Fields {
  /** place: for errors. prefix: put before every key ("llama."). */
  constructor(
    readonly values: Metadata,
    readonly place: string,
    readonly prefix = "",
  ) {}

  /** undefined: missing. */
  value(key: string): unknown {
    const name = this.prefix + key;
    return Object.hasOwn(this.values, name) ? this.values[name] : undefined;
  }

  has(key: string): boolean {
    return this.value(key) !== undefined;
  }

  number(key: string, bound: Bound, fallback?: number): number {
    const found = this.has(key) ? this.value(key) : fallback;
    if (typeof found !== "number") throw this.error(key, found, "a number");
    const allowed = outside(found, bound);
    if (allowed !== null) throw this.error(key, found, allowed);
    return found;
  }

  /** null: missing, or null in the file. */
  numberOrNull(key: string, bound: Bound): number | null {
    return this.value(key) == null ? null : this.number(key, bound);
  }

  text(key: string, fallback?: string): string {
    const found = this.has(key) ? this.value(key) : fallback;
    if (typeof found === "string") return found;
    throw this.error(key, found, "a text");
  }

  flag(key: string, fallback?: boolean): boolean {
    const found = this.has(key) ? this.value(key) : fallback;
    if (typeof found === "boolean") return found;
    throw this.error(key, found, "true or false");
  }

  /** The object under `key`; null: missing, or null in the file. */
  object(key: string): Fields | null {
    const found = this.value(key);
    if (found == null) return null;
    if (typeof found === "object" && !Array.isArray(found) && !ArrayBuffer.isView(found))
      return new Fields(found as Metadata, `${this.place}: ${this.prefix}${key}`);
    throw this.error(key, found, "an object");
  }

  /** The list under `key` (or a typed array of a GGUF); null: missing, or null in the file. */
  list(key: string): readonly unknown[] | null {
    const found = this.value(key);
    if (found == null) return null;
    if (Array.isArray(found)) return found;
    if (ArrayBuffer.isView(found)) return Array.from(found as unknown as ArrayLike<number>);
    throw this.error(key, found, "a list");
  }

  error(key: string, found: unknown, allowed: string): FormatError {
    return new FormatError(this.place, `${this.prefix}${key} is ${describe(found)}`, allowed);
  }
}
