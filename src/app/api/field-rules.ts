/**
 * How a request's fields are treated. A known field is kept (this server reads it),
 * harmless (it changes no answer; the reason is given) or refused (it would change the answer, unless its value has
 * no effect); unknown ones are reported or refused. The tables are in `known-fields.ts`.
 */
import { ApiError, unsupported } from "./errors.ts";

type FieldRule =
  | { readonly kind: "kept" }
  | { readonly kind: "harmless"; readonly why: string }
  | { readonly kind: "refused"; readonly wayOut: string; readonly isNeutral: (value: unknown) => boolean };

/** By name. A Map, for a request may have a field "constructor". */
export type FieldTable = ReadonlyMap<string, FieldRule>;

/** Values of a refused field that have no effect, in addition to null: a list, or a predicate. */
type Neutral = readonly unknown[] | ((value: unknown) => boolean);

/** false, 0, "", [] and {}: the values without effect of most fields. */
export const EMPTY: Neutral = (value) =>
  typeof value === "object" && value !== null ? Object.keys(value).length === 0 : !value;

export function kept(...names: readonly string[]): FieldTable {
  return new Map(names.map((name) => [name, { kind: "kept" }]));
}

export function harmless(why: string, ...names: readonly string[]): FieldTable {
  return new Map(names.map((name) => [name, { kind: "harmless", why }]));
}

export function refused(wayOut: string, neutrals: Readonly<Record<string, Neutral>>): FieldTable {
  return new Map(
    Object.entries(neutrals).map(([name, neutral]) => {
      const isNeutral = typeof neutral === "function" ? neutral : (value: unknown) => neutral.includes(value);
      return [name, { kind: "refused", wayOut, isNeutral }];
    }),
  );
}

/** Joins tables of rules. If two rules have the same name, the later one is used. */
export function fieldTable(...parts: readonly FieldTable[]): FieldTable {
  return new Map(parts.flatMap((part) => [...part]));
}

/** ApiError 400 for a refused field with a value that has an effect; `unknown` is called for names without a rule. */
export function holdToTable(
  object: Readonly<Record<string, unknown>>,
  known: FieldTable,
  { place, unknown }: { place: (name: string) => string; unknown: UnknownField },
): void {
  for (const [name, value] of Object.entries(object)) {
    if (value === null || value === undefined) continue;
    const rule = known.get(name);
    if (rule === undefined) unknown(place(name));
    else if (rule.kind === "refused" && !rule.isNeutral(value))
      throw unsupported(place(name), `${place(name)} is not supported. ${rule.wayOut}`.trimEnd());
  }
}

/** Called for a field without a rule, with its place: "messages[0].mood". */
export type UnknownField = (place: string) => void;

const MOST_NAMES = 50;
const LONGEST_NAME = 80;

/** isStrict: such a request is refused with 400; else `note` is called once for each name, and for 50 names at most. */
export function unknownFields(isStrict: boolean, note: (text: string) => void): UnknownField {
  const noted = new Set<string>();
  return (place) => {
    // The same field of every message is one name.
    const name = printable(place.replace(/\[\d+\]/g, "[]"));
    if (isStrict)
      throw new ApiError(
        400,
        `${printable(place)} is not known to this server, which was started with --strict`,
        {
          param: printable(place),
          code: "unknown_parameter",
        },
      );
    if (noted.has(name) || noted.size > MOST_NAMES) return;
    noted.add(name);
    note(
      noted.size > MOST_NAMES
        ? "requests have more unknown fields than are reported"
        : `requests have a field ${name} that is not known here; it is left out (--strict refuses it)`,
    );
  };
}

/** Short, and without characters that control a terminal or look like others. */
function printable(name: string): string {
  const cut = name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME)}...` : name;
  return cut.replace(/[^\x21-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
