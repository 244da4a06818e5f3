/**
 * The keywords of schemas: which of them narrow what a schema allows, and which types it leaves. These are the tables; how
 * a keyword becomes rules is in `schema-converter.ts`. What no draft knows is an annotation, as in the standard, unless
 * it looks like a misspelled keyword.
 */
import { unsupported } from "../errors.ts";
import type { ObjectFields } from "../object-fields.ts";
import { keptFormat } from "./formats.ts";

const BOUNDS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];

/** Further keywords of each type. */
const BY_TYPE = {
  object: ["properties", "required", "additionalProperties", "propertyNames"],
  array: ["items", "prefixItems", "minItems", "maxItems"],
  string: ["minLength", "maxLength", "pattern", "format"],
  integer: BOUNDS,
  number: BOUNDS,
  boolean: [],
  null: [],
} satisfies Record<string, string[]>;

export type TypeName = keyof typeof BY_TYPE;
const TYPES = Object.keys(BY_TYPE) as TypeName[];

/** A schema with one of these may have a type, and no other keyword that narrows. oneOf is read as anyOf. */
export const ALONE = ["$ref", "anyOf", "oneOf", "allOf"];

const KEPT = new Set(["type", "enum", "const", ...ALONE, ...Object.values(BY_TYPE).flat()]);

/** These narrow, by some draft or by OpenAPI, and are not supported. */
const NOT_KEPT = new Set([
  ...[
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "additionalItems",
  ],
  ...["patternProperties", "minProperties", "maxProperties", "unevaluatedItems"],
  ...["unevaluatedProperties", "dependentRequired", "dependentSchemas", "dependencies", "nullable"],
  ...["$dynamicRef", "$recursiveRef", "extends", "disallow", "divisibleBy"],
]);

/** Values with which a keyword has no effect. */
const HARMLESS: Readonly<Record<string, (value: unknown) => boolean>> = {
  uniqueItems: (value) => value === false,
  nullable: (value) => value === false,
  minProperties: (value) => value === 0,
  unevaluatedItems: isAnything,
  unevaluatedProperties: isAnything,
  additionalItems: isAnything,
  patternProperties: isEmpty,
  dependentRequired: isEmpty,
  dependentSchemas: isEmpty,
  dependencies: isEmpty,
};

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

function isAnything(value: unknown): boolean {
  return value === true || isEmpty(value);
}

/** Whether the value allows any name, in the form in which zod writes records. */
export function isAnyName(value: unknown): boolean {
  if (isAnything(value)) return true;
  const entries = Object.entries((value as object | null) ?? {});
  return entries.length === 1 && entries[0][0] === "type" && entries[0][1] === "string";
}

/** The keywords of a schema that narrow it. PlaceError for one that is not supported. */
export function narrowingKeywords(fields: ObjectFields): string[] {
  return Object.keys(fields.record).filter((key) => {
    const value = fields.record[key];
    // null counts as absent, except where it is a value.
    if (value === null && key !== "const") return false;
    if (key === "propertyNames" && isAnyName(value)) return false;
    if (KEPT.has(key)) return true;
    if (NOT_KEPT.has(key)) {
      if (Object.hasOwn(HARMLESS, key) && HARMLESS[key](value)) return false;
      if (key === "nullable" && value === true) return true;
      throw notKept(fields.place(key), "");
    }
    const meant = key.startsWith("x-") ? undefined : keywordLike(key);
    if (meant === undefined) return false;
    throw unsupported(fields.place(key), `${fields.place(key)} is no keyword of schemas; there is ${meant}`);
  });
}

const LONGEST = 24;
/** By their letters alone: minlength, min_length. */
const BY_LETTERS = new Map([...KEPT, ...NOT_KEPT].map((key) => [lettersOf(key), key]));
/** Shorter names are close to words that mean something else. */
const LEAST_LETTERS = 6;

function keywordLike(key: string): string | undefined {
  if (key.length > LONGEST) return undefined;
  const letters = lettersOf(key);
  const same = BY_LETTERS.get(letters);
  if (same !== undefined || letters.length < LEAST_LETTERS) return same;
  for (const [known, keyword] of BY_LETTERS)
    if (known.length >= LEAST_LETTERS && isOneSlipApart(known, letters)) return keyword;
  return undefined;
}

function lettersOf(key: string): string {
  return key.replace(/[_-]/g, "").toLowerCase();
}

/** One letter inserted, missing or different, or two swapped. */
function isOneSlipApart(a: string, b: string): boolean {
  let same = 0;
  while (same < a.length && a[same] === b[same]) same++;
  const [x, y] = [a.slice(same), b.slice(same)];
  const isSwapped = x.length > 1 && x[0] === y[1] && x[1] === y[0] && x.slice(2) === y.slice(2);
  return isSwapped || x.slice(1) === y.slice(1) || x === y.slice(1) || x.slice(1) === y;
}

/** The types that a schema allows, of those that are left; null: any. PlaceError when there are none. */
export function typesOf(fields: ObjectFields, left: readonly TypeName[] | null): readonly TypeName[] | null {
  const own = ownTypes(fields);
  if (own === null || left === null) return own ?? left;
  const both = own.flatMap((type): TypeName[] => {
    if (left.includes(type)) return [type];
    if (type === "integer" && left.includes("number")) return [type];
    return type === "number" && left.includes("integer") ? ["integer"] : [];
  });
  if (both.length === 0) throw fields.wrong("type", `of ${left.join(", ")}, as the type around it says`);
  return [...new Set(both)];
}

function ownTypes(fields: ObjectFields): TypeName[] | null {
  const types = namedTypes(fields);
  // The form of OpenAPI 3.0.
  const isNullable = types !== null && fields.any("nullable") === true;
  return isNullable ? [...new Set<TypeName>([...types, "null"])] : types;
}

/** Properties or items alone say what the type is. */
function namedTypes(fields: ObjectFields): TypeName[] | null {
  const found = fields.any("type");
  if (found === undefined) {
    if (fields.has("properties")) return ["object"];
    return fields.has("items") || fields.has("prefixItems") ? ["array"] : null;
  }
  const types: unknown[] = Array.isArray(found) ? found : [found];
  if (types.length === 0 || !types.every((type) => TYPES.includes(type as TypeName)))
    throw fields.wrong("type", `of ${TYPES.join(", ")} one or a list`);
  return [...new Set(types as TypeName[])];
}

/** Whether a value is of one of these types. */
export function isOfTypes(value: unknown, types: readonly TypeName[] | null): boolean {
  if (types === null) return true;
  if (value === null) return types.includes("null");
  if (Array.isArray(value)) return types.includes("array");
  if (typeof value === "number")
    return types.includes("number") || (Number.isInteger(value) && types.includes("integer"));
  return types.includes(typeof value as TypeName);
}

/** PlaceError for a keyword that none of these types has. */
export function checkKeywords(
  fields: ObjectFields,
  narrowing: readonly string[],
  types: readonly TypeName[] | null,
): void {
  for (const key of narrowing) {
    if (key === "type" || (key === "nullable" && types !== null)) continue;
    // Formats that are not enforced are annotations, on any type: int32, email.
    if (key === "format" && keptFormat(fields.text(key)) === undefined) continue;
    const of = TYPES.filter((type) => (BY_TYPE[type] as string[]).includes(key));
    if (!of.some((type) => types?.includes(type)))
      throw notKept(fields.place(key), of.length === 0 ? "without a type" : `without "type": "${of[0]}"`);
  }
}

export function refuseBeside(
  fields: ObjectFields,
  keyword: string,
  all: readonly string[],
  allowed: readonly string[],
): void {
  const beside = all.find((key) => key !== keyword && !allowed.includes(key));
  if (beside !== undefined) throw notKept(fields.place(beside), `together with ${keyword}`);
}

export function notKept(place: string, why: string) {
  return unsupported(place, `${place} ${why === "" ? "" : `${why} `}is not supported in schemas`);
}
