/** A tool of a program: what the model is told of it, and the function behind it. Owns this form. */
import { jsonSchemaOf, type ObjectOf, type Schema } from "./schema.ts";
import type { DescribedTool } from "./tools.ts";

/** A tool that a model may call. `tool` makes one whose arguments have the type of its schema. */
export interface Tool<Asked extends Schema = Schema> {
  /** 1 to 64 letters, digits, dots, _ or -. */
  readonly name: string;
  readonly description?: string;
  /** What it is called with: a schema of an object. Default: nothing. */
  readonly parameters?: Asked;
  /** Arguments match the schema, by a grammar: true, or a model's way of writing calls that cannot is refused. */
  readonly strict?: boolean;
  /** For `runTools`: gives what the model is told, a text or what becomes JSON. */
  run?(input: ObjectOf<Asked>, options: { readonly signal?: AbortSignal }): unknown;
}

/** The tool itself: for the type of its function's input, which is that of its schema. */
export function tool<Asked extends Schema>(one: Tool<Asked>): Tool {
  return one as unknown as Tool;
}

/** Throws PlaceError for a schema that is none. */
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
