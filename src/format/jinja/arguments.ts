/** How functions of a template read what they are called with, by place or by name. */
import { type Arguments, numberOf, TemplateError, typeName, Undefined, type Value } from "./values.ts";

/** The arguments in the order of `names`; undefined where nothing was given. TemplateError for one too many. */
export function bind(
  what: string,
  { positional, named }: Arguments,
  names: readonly string[],
): (Value | undefined)[] {
  if (positional.length > names.length)
    throw new TemplateError(
      `${what} takes at most ${names.length} arguments; ${positional.length} were given`,
    );
  for (const name of named.keys())
    if (!names.includes(name)) throw new TemplateError(`${what} got an unexpected argument '${name}'`);
  return names.map((name, at) => (at < positional.length ? positional[at] : named.get(name)));
}

/** A whole number; `other` where nothing was given. */
export function integer(what: string, value: Value | undefined, other: number): number {
  if (value === undefined) return other;
  if (value instanceof Undefined) value.fail();
  if (typeof value === "number" || typeof value === "boolean") return Number(value);
  throw new TemplateError(`${what}: an integer is required, not '${typeName(value)}'`);
}

/** As `integer`, but None stands for nothing. */
export function integerOrNone(what: string, value: Value | undefined, other: number): number {
  return value === null ? other : integer(what, value, other);
}

export function text(what: string, value: Value | undefined): string {
  if (value instanceof Undefined) value.fail();
  if (typeof value === "string") return value;
  throw new TemplateError(`${what}: a string is required, not '${typeName(value ?? null)}'`);
}

/** A number as it counts, whatever its type. */
export function numeric(what: string, value: Value): number {
  if (value instanceof Undefined) value.fail();
  const number = numberOf(value);
  if (number === null) throw new TemplateError(`${what}: a number is required, not '${typeName(value)}'`);
  return number;
}
