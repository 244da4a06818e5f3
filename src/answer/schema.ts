/**
 * What an answer may be asked to match: a JSON schema, or a schema of a library that follows Standard Schema with its
 * JSON schema (zod from 4.2 on, arktype, valibot through toStandardJsonSchema). Recognises which it is, and checks answers
 * against it. (https://standardschema.dev)
 */
import { PlaceError, unsupported } from "./errors.ts";

/** A JSON schema as data. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** The parts of the standard that are needed here. */
export interface StandardSchema<Output = unknown> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
    readonly jsonSchema?: {
      readonly input: (options: { readonly target: "draft-2020-12" }) => Record<string, unknown>;
    };
  };
}

type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly StandardIssue[] };

interface StandardIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** What an answer may be asked to match: a JSON schema, or one of a library (zod, arktype, valibot). */
export type Schema = JsonSchema | StandardSchema;

/** The type that a schema gives; unknown for a JSON schema, which TypeScript does not read. */
export type ObjectOf<Asked> =
  Asked extends StandardSchema<infer Output> ? Output : Asked extends undefined ? undefined : unknown;

function isStandard(schema: Schema): schema is StandardSchema {
  const found = (schema as Partial<StandardSchema>)["~standard"];
  return typeof found === "object" && found !== null && typeof found.validate === "function";
}

/** The JSON schema of the text that the model writes, before a library transforms it. Throws PlaceError. */
export function jsonSchemaOf(schema: Schema, place: string): JsonSchema {
  // Types of arktype are functions.
  if (
    (typeof schema !== "object" && typeof schema !== "function") ||
    schema === null ||
    Array.isArray(schema)
  )
    throw new PlaceError(
      "argument",
      place,
      `${place} is no schema; allowed: a JSON schema, a Standard Schema`,
    );
  if (!isStandard(schema)) return schema;
  const { vendor, jsonSchema } = schema["~standard"];
  if (!jsonSchema)
    throw unsupported(
      place,
      `${place} is a schema of ${vendor} without a JSON schema. zod from 4.2 on and arktype do; for valibot wrap it in toStandardJsonSchema of @valibot/to-json-schema; or give the JSON schema itself`,
    );
  try {
    return jsonSchema.input({ target: "draft-2020-12" });
  } catch (error) {
    throw unsupported(place, `${place} has no JSON schema: ${(error as Error).message}`);
  }
}

/** The value that the schema returns. Throws PlaceError for a value that it refuses. */
export async function checkedBy(schema: Schema, value: unknown, place: string): Promise<unknown> {
  if (!isStandard(schema)) return value;
  const result = await schema["~standard"].validate(value);
  if (result.issues === undefined) return result.value;
  const [{ message, path = [] }] = result.issues;
  const at = [place, ...path.map((key) => String(typeof key === "object" ? key.key : key))].join(".");
  throw new PlaceError("argument", at, `${at}: ${message}`);
}
