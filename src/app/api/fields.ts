/**
 * Reads one JSON object of a request, field by field. Owns the errors that name the place, what was found and what is
 * allowed. null counts as absent, as clients send it; `hold` sees to the fields that nobody reads.
 */
import { ArgumentError } from "../../index.ts";
import { type ApiError, badValue } from "./errors.ts";
import { type FieldTable, holdToTable, type UnknownField } from "./field-rules.ts";

export interface NumberRange {
  low: number;
  high: number;
  integer?: boolean;
}

export class Fields {
  readonly #object: Readonly<Record<string, unknown>>;
  readonly #place: string;
  readonly #unknown: UnknownField;

  /**
   * place: "" for the request itself, "messages[0]" inside. unknown: hears of fields that `hold` has no rule for, here
   * and in what lies inside. Throws ApiError unless `value` is an object.
   */
  constructor(value: unknown, place = "", unknown: UnknownField = () => {}) {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw badValue(place || "the body", shown(value), "an object");
    this.#object = value as Record<string, unknown>;
    this.#place = place;
    this.#unknown = unknown;
  }

  /** Refuses what the table refuses, and tells of what it does not know. */
  hold(table: FieldTable): this {
    holdToTable(this.#object, table, { place: (name) => this.place(name), unknown: this.#unknown });
    return this;
  }

  /** A field that is there and means nothing here. */
  tellUnknown(name: string): void {
    this.#unknown(this.place(name));
  }

  /** Where a field is, for errors. */
  place(name: string): string {
    return this.#place === "" ? name : `${this.#place}.${name}`;
  }

  wrong(name: string, allowed: string): ApiError {
    return badValue(this.place(name), shown(this.#object[name]), allowed);
  }

  has(name: string): boolean {
    return this.any(name) !== undefined;
  }

  any(name: string): unknown {
    return Object.hasOwn(this.#object, name) ? (this.#object[name] ?? undefined) : undefined;
  }

  number(name: string, { low, high, integer }: NumberRange): number | undefined {
    const found = this.any(name);
    if (found === undefined) return undefined;
    if (typeof found === "number" && found >= low && found <= high && (!integer || Number.isInteger(found)))
      return found;
    throw this.wrong(name, `${integer ? "integers" : "numbers"} ${low} to ${high}`);
  }

  boolean(name: string): boolean | undefined {
    const found = this.any(name);
    if (found === undefined || typeof found === "boolean") return found;
    throw this.wrong(name, "true, false");
  }

  text(name: string): string | undefined {
    const found = this.any(name);
    if (found === undefined || typeof found === "string") return found;
    throw this.wrong(name, "a text");
  }

  requiredText(name: string): string {
    const found = this.text(name);
    if (found === undefined) throw this.wrong(name, "a text");
    return found;
  }

  choice<Choice extends string>(name: string, choices: readonly Choice[]): Choice | undefined {
    const found = this.any(name);
    if (found === undefined) return undefined;
    const choice = choices.find((known) => known === found);
    if (choice === undefined) throw this.wrong(name, choices.join(", "));
    return choice;
  }

  list(name: string): readonly unknown[] | undefined {
    const found = this.any(name);
    if (found === undefined || Array.isArray(found)) return found;
    throw this.wrong(name, "a list");
  }

  object(name: string): Fields | undefined {
    const found = this.any(name);
    return found === undefined ? undefined : new Fields(found, this.place(name), this.#unknown);
  }

  /** A list of objects. */
  objects(name: string): Fields[] | undefined {
    const place = this.place(name);
    return this.list(name)?.map((item, at) => new Fields(item, `${place}[${at}]`, this.#unknown));
  }

  /** The object itself, for those who pass it on. */
  get record(): Readonly<Record<string, unknown>> {
    return this.#object;
  }
}

/** A value of a request in an error message: short, and one line. */
export function shown(value: unknown): string {
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** Runs what checks options of the library; its ArgumentError becomes one about the request's own name. */
export function checked<T>(names: Readonly<Record<string, string>>, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    throw badValue(names[error.argument] ?? error.argument, shown(error.found), error.allowed);
  }
}
