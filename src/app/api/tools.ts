/**
 * The tools of a request: what the template is told, how calls are read from the answer, and the grammar that forces
 * one. Owns tools, tool_choice and parallel_tool_calls. What cannot be promised with a model's way of writing calls is
 * refused.
 */

import { callFormat } from "../../answer/calls/call-formats.ts";
import { type AskedTool, callGrammar } from "../../answer/calls/call-grammar.ts";
import type { GrammarToMake } from "../../answer/grammar/grammars.ts";
import { shown } from "../../answer/object-fields.ts";
import type { CallOptions } from "../../answer/parts.ts";
import { badValue, unsupported } from "./errors.ts";
import type { Fields } from "./fields.ts";
import { TOOL, TOOL_CHOICE, TOOL_CHOICE_FUNCTION, TOOL_FUNCTION } from "./known-fields.ts";
import type { Served } from "./served.ts";

export interface Tools {
  /** For the template; null: it is told of none. */
  readonly described: readonly unknown[] | null;
  readonly calls: CallOptions | null;
  /** Made once it is known that the prompt fits: throws ApiError 400. null: the answer is free. */
  readonly grammar: GrammarToMake | null;
}

interface Tool extends AskedTool {
  readonly description: string;
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
  if (twice) throw badValue(`${twice.place}.name`, shown(twice.name), "names that differ");
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
    grammar: callGrammar(format, tools, choice, isSingle),
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
    place: `tools[${at}].function`,
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
