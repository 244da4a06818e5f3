/** Reads the arguments of a template's function calls, by position or by name. */
import { type Arguments, numberOf, TemplateError, typeName, Undefined, type Value } from "./values.ts";

/** The arguments in the order of `names`; undefined if not given. Throws TemplateError for one too many. */
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

/** An integer; `other` if not given. */
export function integer(what: string, value: Value | undefined, other: number): number {
  if (value === undefined) return other;
  if (value instanceof Undefined) value.fail();
  if (typeof value === "number" || typeof value === "boolean") return Number(value);
  throw new TemplateError(`${what}: an integer is required, not '${typeName(value)}'`);
}

/** Like `integer`, but None counts as not given. */
export function integerOrNone(what: string, value: Value | undefined, other: number): number {
  return value === null ? other : integer(what, value, other);
}

export function text(what: string, value: Value | undefined): string {
  if (value instanceof Undefined) value.fail();
  if (typeof value === "string") return value;
  throw new TemplateError(`${what}: a string is required, not '${typeName(value ?? null)}'`);
}

/** The value as a number, whatever its type. */
export function numeric(what: string, value: Value): number {
  if (value instanceof Undefined) value.fail();
  const number = numberOf(value);
  if (number === null) throw new TemplateError(`${what}: a number is required, not '${typeName(value)}'`);
  return number;
}
