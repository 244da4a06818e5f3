/**
 * JSON schemas as grammars: the whole text of one, with or without pauses, or rules to combine with others. How each
 * keyword becomes rules is in `schema-converter.ts`.
 */
import type { Slices } from "../../format/slices.ts";
import { badValue } from "../errors.ts";
import { ObjectFields } from "../object-fields.ts";
import { JSON_COMPACT, JSON_SPACED, type Notation } from "./notation.ts";
import { Converter, type SchemaRules } from "./schema-converter.ts";
import { Size } from "./size.ts";

const MOST_CHARACTERS = 100_000;

/**
 * The grammar's text, from rule "root" on. isStrict: properties that are not named are not allowed unless the schema
 * says so. size: of all that is compiled together. Throws PlaceError with its place for what is not a schema, is not supported,
 * or is too large.
 */
export function* schemaSlices(
  schema: unknown,
  place: string,
  isStrict: boolean,
  size = new Size(),
): Slices<string> {
  return wholeText(yield* rulesOf(schema, place, isStrict, size, JSON_COMPACT, "").schema(), JSON_COMPACT);
}

/** Arguments of a call as Python writes JSON: an object, whatever else the schema allows. */
export function* argumentSlices(
  schema: unknown,
  place: string,
  isStrict: boolean,
  size: Size,
): Slices<string> {
  return wholeText(yield* argumentRules(schema, place, isStrict, size, JSON_SPACED, ""), JSON_SPACED);
}

/** The same in any notation: the name of their rule, and the rules without those of the notation. prefix: of the names. */
export function argumentRules(
  schema: unknown,
  place: string,
  isStrict: boolean,
  size: Size,
  notation: Notation,
  prefix: string,
): Slices<SchemaRules> {
  return rulesOf(schema, place, isStrict, size, notation, prefix).schema(["object"]);
}

function rulesOf(
  schema: unknown,
  place: string,
  isStrict: boolean,
  size: Size,
  notation: Notation,
  prefix: string,
): Converter {
  const length = JSON.stringify(schema)?.length ?? 0;
  if (length > MOST_CHARACTERS)
    throw badValue(place, `${length} characters long`, `up to ${MOST_CHARACTERS}`);
  const fields = new ObjectFields(schema, place);
  return new Converter(fields, place, isStrict, size, notation, prefix);
}

/**
 * Arguments of a call as Qwen3-Coder writes them: `<parameter=NAME>`, the value, `</parameter>`, lines of their own. Strings
 * have no quotes, so the only possible requirement is an enumeration; other values are JSON. Properties without a
 * name in the schema are not written.
 */
export function* xmlSlices(schema: unknown, place: string, isStrict: boolean, size: Size): Slices<string> {
  return wholeText(yield* rulesOf(schema, place, isStrict, size, JSON_SPACED, "").xml(), JSON_SPACED);
}

function wholeText({ root, rules }: SchemaRules, notation: Notation): string {
  return `root ::= ${root}\n${rules.join("\n")}${notation.rules}`;
}
