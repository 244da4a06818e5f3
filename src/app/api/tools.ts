/** The tools of a request. Reads the fields tools, tool_choice and parallel_tool_calls; `answer/tools.ts` has the rest. */
import { shown } from "../../answer/object-fields.ts";
import { type AskedTools, askTools, type DescribedTool, MOST_TOOLS } from "../../answer/tools.ts";
import { badValue } from "./errors.ts";
import type { Fields } from "./fields.ts";
import type { Format } from "./format.ts";
import { TOOL, TOOL_CHOICE, TOOL_CHOICE_FUNCTION, TOOL_FUNCTION } from "./known-fields.ts";
import type { Served } from "./served.ts";

/** format: what an answer without calls must match. */
export function readTools(fields: Fields, { model }: Served, format: Format | null): AskedTools {
  const given = fields.objects("tools") ?? [];
  if (given.length > MOST_TOOLS) throw fields.wrong("tools", `up to ${MOST_TOOLS}`);
  const tools = given.map(readTool);
  const choice = readChoice(fields, tools);
  const isSingle = fields.boolean("parallel_tool_calls") === false;
  return askTools(model.chatTemplate, tools, choice, isSingle, format?.grammar ?? null);
}

function readTool(fields: Fields, at: number): DescribedTool {
  fields.choice("type", ["function"]);
  const described = fields.hold(TOOL).object("function")?.hold(TOOL_FUNCTION);
  if (!described) throw fields.wrong("function", "an object with name and parameters");
  return {
    name: described.requiredText("name"),
    place: `tools[${at}].function`,
    description: described.text("description") ?? "",
    parameters: described.object("parameters")?.record ?? { type: "object", properties: {} },
    isStrict: described.boolean("strict"),
  };
}

function readChoice(
  fields: Fields,
  tools: readonly DescribedTool[],
): "auto" | "none" | "required" | DescribedTool {
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
