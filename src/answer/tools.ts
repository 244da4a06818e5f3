/**
 * Tools of a question: their form in the template, how calls are read from the answer, and the grammar that
 * forces a call. What cannot be guaranteed with a model's way of writing calls is refused.
 */
import type { ChatTemplate } from "../format/template.ts";
import type { AskedTool, CallChoice } from "./calls/asked-calls.ts";
import { callFormat } from "./calls/call-formats.ts";
import { callGrammar } from "./calls/call-grammar.ts";
import { badValue, unsupported } from "./errors.ts";
import type { GrammarToMake } from "./grammar/grammar.ts";
import { shown } from "./object-fields.ts";
import type { CallReading } from "./parts.ts";

export interface AskedTools {
  /** For the template; null: it gets none. */
  readonly described: readonly unknown[] | null;
  readonly calls: CallReading | null;
  /** Made once the prompt is known to fit; throws PlaceError. null: the answer is free. */
  readonly grammar: GrammarToMake | null;
}

export interface DescribedTool extends AskedTool {
  readonly description: string;
}

export const MOST_TOOLS = 128;
/** Template and grammar write names as they are. */
const NAME = /^[\w.-]{1,64}$/;

/** isSingle: at most one call. answer: what an answer without calls has to be. Throws PlaceError. */
export function askTools(
  template: ChatTemplate | null,
  tools: readonly DescribedTool[],
  choice: CallChoice | "none",
  isSingle: boolean,
  answer: GrammarToMake | null,
): AskedTools {
  for (const [at, { name, place }] of tools.entries()) {
    if (!NAME.test(name))
      throw badValue(`${place}.name`, shown(name), "1 to 64 letters, digits, dots, _ or -");
    if (tools.findIndex((tool) => tool.name === name) < at)
      throw badValue(`${place}.name`, shown(name), "names that differ");
  }
  if (tools.length === 0 || choice === "none") return { described: null, calls: null, grammar: answer };
  const format = template && callFormat(template);
  if (!format)
    throw unsupported("tools", "this model's chat template has no tools, or calls that cannot be read here");
  return {
    described: tools.map(describe),
    calls: { reader: () => format.reader(tools), marks: format.marks, isSingle },
    grammar: callGrammar(format, tools, choice, isSingle, answer),
  };
}

/** In the order of published examples, which is what models were trained on. */
function describe({ name, description, parameters }: DescribedTool) {
  return { type: "function", function: { name, description, parameters } };
}
