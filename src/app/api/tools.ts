/**
 * The tools of a request: what the template is told, how calls are read from the answer, and the grammar that forces
 * one. Owns tools, tool_choice and parallel_tool_calls. What cannot be promised with a model's way of writing calls is
 * refused.
 */
import type { Slices } from "../../index.ts";
import type { Grammar, GrammarToMake } from "../grammar/grammars.ts";
import { schemaSlices } from "../grammar/schema-grammar.ts";
import { Size } from "../grammar/size.ts";
import { type FilledTag, tagsGrammar, triggeredGrammar } from "../grammar/tags.ts";
import type { CallOptions } from "./answer.ts";
import { type CallFormat, callFormat } from "./call-formats.ts";
import { badValue, unsupported } from "./errors.ts";
import { type Fields, shown } from "./fields.ts";
import { TOOL, TOOL_CHOICE, TOOL_CHOICE_FUNCTION, TOOL_FUNCTION } from "./known-fields.ts";
import type { Served } from "./served.ts";

export interface Tools {
  /** For the template; null: it is told of none. */
  readonly described: readonly unknown[] | null;
  readonly calls: CallOptions | null;
  /** Made once it is known that the prompt fits: throws ApiError 400. null: the answer is free. */
  readonly grammar: GrammarToMake | null;
}

interface Tool {
  readonly name: string;
  readonly place: string;
  readonly description: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Its arguments are to match; undefined: nothing was said. */
  readonly isStrict: boolean | undefined;
}

const NONE: Tools = { described: null, calls: null, grammar: null };
const MOST_TOOLS = 128;
/** Template and grammar write names as they are. */
const NAME = /^[\w.-]{1,64}$/;

export function readTools(fields: Fields, served: Served): Tools {
  const given = fields.objects("tools") ?? [];
  if (given.length > MOST_TOOLS) throw fields.wrong("tools", `up to ${MOST_TOOLS}`);
  const tools = given.map(readTool);
  const twice = tools.find(({ name }, at) => tools.findIndex((tool) => tool.name === name) < at);
  if (twice) throw badValue(`${twice.place}.function.name`, shown(twice.name), "names that differ");
  const choice = readChoice(fields, tools);
  const isSingle = fields.boolean("parallel_tool_calls") === false;
  if (tools.length === 0 || choice === "none") return NONE;

  const { model, names } = served;
  const format = model.chatTemplate && callFormat(model.chatTemplate);
  if (!format)
    throw unsupported(
      "tools",
      `the chat template of ${names[0]} has no tools, or calls that this server cannot read`,
    );
  return {
    described: tools.map(describe),
    calls: { reader: format.reader(tools), marks: format.marks, isSingle },
    grammar: grammarOf(format, tools, choice, isSingle),
  };
}

function readTool(fields: Fields, at: number): Tool {
  fields.choice("type", ["function"]);
  const described = fields.hold(TOOL).object("function")?.hold(TOOL_FUNCTION);
  if (!described) throw fields.wrong("function", "an object with name and parameters");
  const name = described.requiredText("name");
  if (!NAME.test(name)) throw described.wrong("name", "1 to 64 letters, digits, dots, _ or -");
  const parameters = described.object("parameters")?.record ?? { type: "object", properties: {} };
  return {
    name,
    place: `tools[${at}]`,
    description: described.text("description") ?? "",
    parameters,
    isStrict: described.boolean("strict"),
  };
}

/** In the order in which published examples write it, which is how models have seen it. */
function describe({ name, description, parameters }: Tool) {
  return { type: "function", function: { name, description, parameters } };
}

/** "auto", "none", "required", or the tool that has to be called. */
function readChoice(fields: Fields, tools: readonly Tool[]): "auto" | "none" | "required" | Tool {
  const found = fields.any("tool_choice");
  if (found === undefined || found === "auto" || found === "none") return found ?? "auto";
  if (tools.length === 0) throw fields.wrong("tool_choice", "auto or none, as no tools are given");
  if (found === "required") return found;
  const named = fields.object("tool_choice");
  if (named?.any("type") !== "function")
    throw fields.wrong(
      "tool_choice",
      'auto, none, required, {"type": "function", "function": {"name": ...}}',
    );
  const name = named.hold(TOOL_CHOICE).object("function")?.hold(TOOL_CHOICE_FUNCTION).text("name");
  const tool = tools.find((tool) => tool.name === name);
  if (!tool)
    throw badValue("tool_choice.function.name", shown(name), tools.map((tool) => tool.name).join(", "));
  return tool;
}

function grammarOf(
  { tag, trigger, separator }: CallFormat,
  tools: readonly Tool[],
  choice: "auto" | "required" | Tool,
  isSingle: boolean,
): GrammarToMake | null {
  const made = (tools: readonly Tool[], grammarOf: (filled: readonly FilledTag[]) => Grammar) => ({
    *make(): Slices<Grammar> {
      // They are compiled together, and bounded together.
      const size = new Size();
      const filled: FilledTag[] = [];
      for (const { name, place, parameters, isStrict } of tools) {
        const where = `${place}.function.parameters`;
        const rules = yield* schemaSlices(parameters, where, isStrict !== false, size);
        filled.push({ ...tag!(name), rules });
      }
      return { ...grammarOf(filled), weight: size.weight };
    },
  });
  if (choice !== "auto") {
    if (!tag)
      throw unsupported(
        "tool_choice",
        "with this model's way of writing calls, tool_choice can be auto or none",
      );
    const isOne = isSingle || choice !== "required";
    return made(choice === "required" ? tools : [choice], (filled) =>
      tagsGrammar(filled, isOne ? null : separator),
    );
  }
  const strict = tools.find((tool) => tool.isStrict);
  if (!strict) return null;
  if (!tag || trigger === null)
    throw unsupported(
      `${strict.place}.function.strict`,
      "with this model's way of writing calls, strict arguments need tool_choice required or a named tool, or are not possible",
    );
  return made(tools, (filled) => triggeredGrammar(filled, trigger));
}
