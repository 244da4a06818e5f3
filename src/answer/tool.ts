/** A tool of a program: its description for the model, and its function. */
import { jsonSchemaOf, type ObjectOf, type Schema } from "./schema.ts";
import type { DescribedTool } from "./tools.ts";

/** A tool that a model may call. `tool` makes one whose arguments have the type of its schema. */
export interface Tool<Asked extends Schema = Schema> {
  /** 1 to 64 letters, digits, dots, _ or -. */
  readonly name: string;
  readonly description?: string;
  /** Its arguments: the schema of an object. Default: none. */
  readonly parameters?: Asked;
  /** true: a grammar makes arguments match the schema; a model whose calls cannot be constrained is refused. */
  readonly strict?: boolean;
  /** For `runTools`: returns the result for the model, a string or a value for JSON. */
  run?(input: ObjectOf<Asked>, options: { readonly signal?: AbortSignal }): unknown;
}

/** Returns the tool itself, typed: its function's input has the type of its schema. */
export function tool<Asked extends Schema>(one: Tool<Asked>): Tool {
  return one as unknown as Tool;
}

/** Throws PlaceError for an invalid schema. */
export function toolsOf(tools: readonly Tool[]): DescribedTool[] {
  return tools.map(({ name, description = "", parameters, strict }, at) => {
    const place = `tools[${at}]`;
    const schema = parameters && jsonSchemaOf(parameters, `${place}.parameters`);
    return {
      ...{ name, description, place, isStrict: strict },
      parameters: schema ?? { type: "object", properties: {} },
    };
  });
}
