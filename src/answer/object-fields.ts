/**
 * Reads one JSON object, field by field, with errors that name the place, what was found and what is allowed. null
 * counts as absent, since clients send it so.
 */
import { badValue, type PlaceError } from "./errors.ts";

export interface NumberRange {
  low: number;
  high: number;
  integer?: boolean;
}

export class ObjectFields {
  readonly #object: Readonly<Record<string, unknown>>;
  readonly #place: string;

  /** place: "" for the whole, "messages[0]" inside. Throws PlaceError unless `value` is an object. */
  constructor(value: unknown, place = "") {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw badValue(place || "the body", shown(value), "an object");
    this.#object = value as Record<string, unknown>;
    this.#place = place;
  }

  /** The place of a field, for errors. */
  place(name: string): string {
    return this.#place === "" ? name : `${this.#place}.${name}`;
  }

  wrong(name: string, allowed: string): PlaceError {
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

  object(name: string): ObjectFields | undefined {
    const found = this.any(name);
    return found === undefined ? undefined : this.inside(found, this.place(name));
  }

  /** A list of objects. */
  objects(name: string): ObjectFields[] | undefined {
    const place = this.place(name);
    return this.list(name)?.map((item, at) => this.inside(item, `${place}[${at}]`));
  }

  /** The object itself, to be passed on. */
  get record(): Readonly<Record<string, unknown>> {
    return this.#object;
  }

  protected inside(value: unknown, place: string): ObjectFields {
    return new ObjectFields(value, place);
  }
}

/** A value of a request for an error message: short, on one line. */
export function shown(value: unknown): string {
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
