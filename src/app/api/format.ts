/**
 * What an answer must match, by any of the names that clients use for it: OpenAI's response_format, llama.cpp's
 * json_schema and the schema next to json_object, vLLM's guided_json, guided_choice and structured_outputs. These
 * fields are read here.
 */
import { PlaceError } from "../../answer/errors.ts";
import { textsGrammar } from "../../answer/grammar/choices.ts";
import type { GrammarToMake, OpenGrammar } from "../../answer/grammar/grammar.ts";
import { schemaToMake } from "../../answer/grammar/made.ts";
import { Size } from "../../answer/grammar/size.ts";
import { NibbleError } from "../../index.ts";
import { checkRoom } from "./admit.ts";
import { unsupported } from "./errors.ts";
import type { Fields } from "./fields.ts";
import { JSON_SCHEMA, RESPONSE_FORMAT, STRUCTURED_OUTPUTS } from "./known-fields.ts";
import type { Served } from "./served.ts";

export interface Format {
  /** The field that requires it. */
  readonly place: string;
  /** Made once the prompt is known to fit; throws ApiError 400. */
  readonly grammar: GrammarToMake;
}

const MOST_CHOICES = 1000;
/** Most characters of all choices together. */
const MOST_CHARACTERS = 100_000;

/** ApiError 400, with its place, for a format that no text matches or that cannot be followed; 503 when too many wait. */
export async function openFormat(served: Served, request: Request, format: Format): Promise<OpenGrammar> {
  checkRoom(served);
  const { place } = format;
  try {
    return await served.grammars.open(format.grammar, request.signal);
  } catch (error) {
    const isOurs = error instanceof NibbleError && error.code === "argument";
    if (!isOurs || error instanceof PlaceError) throw error;
    throw new PlaceError("argument", place, `${place}: ${error.message}`);
  }
}

/** null: any text. ApiError 400 where two fields require a format. */
export function readFormat(fields: Fields): Format | null {
  const structured = fields.object("structured_outputs")?.hold(STRUCTURED_OUTPUTS);
  const [asked, other] = [
    readResponseFormat(fields),
    bySchema(fields, "json_schema"),
    bySchema(fields, "guided_json"),
    byChoice(fields, "guided_choice"),
    structured && bySchema(structured, "json"),
    structured && byChoice(structured, "choice"),
    structured?.boolean("json_object") ? anyObject(structured.place("json_object")) : null,
  ].filter((one) => one !== null && one !== undefined);
  if (asked === undefined) return null;
  if (other) throw unsupported(other.place, `${other.place} is not possible together with ${asked.place}`);
  return asked;
}

function readResponseFormat(fields: Fields): Format | null {
  const format = fields.object("response_format")?.hold(RESPONSE_FORMAT);
  const types = ["text", "json_object", "json_schema"] as const;
  const type = format?.choice("type", types);
  if (!format) return null;
  if (type === undefined) throw format.wrong("type", types.join(", "));
  // llama.cpp has the schema here, for either type.
  const here = bySchema(format, "schema");
  if (here && (type === "text" || format.has("json_schema")))
    throw format.wrong("schema", "a schema only with json_object, or with json_schema instead of that field");
  const place = fields.place("response_format");
  if (here || type === "text") return here && { ...here, place };
  if (type === "json_object") return anyObject(place);
  const described = format.object("json_schema")?.hold(JSON_SCHEMA);
  const schema = described && bySchema(described, "schema", described.boolean("strict") !== false);
  if (!schema) throw format.wrong("json_schema", "an object with name and schema");
  return { ...schema, place };
}

function anyObject(place: string): Format {
  return { place, grammar: schemaToMake({ type: "object" }, place, false) };
}

function bySchema(fields: Fields, name: string, isStrict = true): Format | null {
  const schema = fields.any(name);
  if (schema === undefined) return null;
  const place = fields.place(name);
  return { place, grammar: schemaToMake(schema, place, isStrict) };
}

/** One of these texts. */
function byChoice(fields: Fields, name: string): Format | null {
  const choices = fields.list(name);
  if (choices === undefined || choices.length === 0) return null;
  const isText = (choice: unknown): choice is string => typeof choice === "string" && choice !== "";
  const isShort = () => choices.length <= MOST_CHOICES && choices.join("").length <= MOST_CHARACTERS;
  if (!choices.every(isText) || !isShort())
    throw fields.wrong(
      name,
      `up to ${MOST_CHOICES} texts of ${MOST_CHARACTERS} characters in all, none empty`,
    );
  const place = fields.place(name);
  return {
    place,
    grammar: {
      *make() {
        const size = new Size();
        const text = yield* textsGrammar(choices, place, size);
        return { text, weight: size.weight };
      },
    },
  };
}
