/** response_format: what an answer has to be. Owns its fields. */
import type { Grammar } from "../grammar/grammars.ts";
import { schemaGrammar } from "../grammar/schema-grammar.ts";
import type { Fields } from "./fields.ts";

/** null: any text. */
export function readFormat(fields: Fields): Grammar | null {
  const format = fields.object("response_format");
  const type = format?.choice("type", ["text", "json_object", "json_schema"]);
  if (!format || type === "text") return null;
  if (type === undefined) throw format.wrong("type", "text, json_object, json_schema");
  if (type === "json_object") return { text: schemaGrammar({ type: "object" }, "response_format", false) };
  const described = format.object("json_schema");
  const schema = described?.any("schema");
  if (!described || schema === undefined) throw format.wrong("json_schema", "an object with name and schema");
  const isStrict = described.boolean("strict") !== false;
  return { text: schemaGrammar(schema, described.place("schema"), isStrict) };
}
