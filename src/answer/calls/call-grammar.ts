/**
 * The grammar that an answer keeps which has to call a tool, or whose calls have to match. Owns what is promised with
 * which way of writing calls; what cannot be is refused.
 */
import type { Slices } from "../../format/slices.ts";
import { unsupported } from "../errors.ts";
import type { Grammar, GrammarToMake } from "../grammar/grammar.ts";
import { SPACED } from "../grammar/json-rules.ts";
import { schemaSlices } from "../grammar/schema-grammar.ts";
import { Size } from "../grammar/size.ts";
import { eitherGrammar, type FilledTag, tagsGrammar, triggeredGrammar } from "../grammar/tags.ts";
import { NOTHING, plus } from "../grammar/weight.ts";
import type { CallFormat } from "./call-formats.ts";
import type { CalledTool } from "./written-call.ts";

function jsonArguments(schema: unknown, place: string, isStrict: boolean, size: Size): Slices<string> {
  return schemaSlices(schema, place, isStrict, size, SPACED);
}

/** A tool whose calls may be held to its schema. */
export interface AskedTool extends CalledTool {
  /** For errors: "tools[0].function". */
  readonly place: string;
  /** Its arguments are to match; undefined: nothing was said. */
  readonly isStrict: boolean | undefined;
}

/** "auto": the model decides; "required": a call of any tool; or the tool that has to be called. */
export type CallChoice = "auto" | "required" | AskedTool;

/**
 * isSingle: one call at most. answer: what an answer without calls has to be, and then it may call one; null: anything. null: no grammar is needed.
 * Throws PlaceError; so does the making.
 */
export function callGrammar(
  { tag, rules: rulesOf = jsonArguments, trigger, separator }: CallFormat,
  tools: readonly AskedTool[],
  choice: CallChoice,
  isSingle: boolean,
  answer: GrammarToMake | null,
): GrammarToMake | null {
  const made = (
    tools: readonly AskedTool[],
    grammarOf: (filled: readonly FilledTag[], answer: Grammar | null) => Grammar,
  ) => ({
    *make(): Slices<Grammar> {
      // They are compiled together, and bounded together.
      const size = new Size();
      const filled: FilledTag[] = [];
      for (const { name, place, parameters, isStrict } of tools) {
        const rules = yield* rulesOf(parameters, `${place}.parameters`, isStrict !== false, size);
        filled.push({ ...tag!(name), rules });
      }
      const other = answer && choice === "auto" ? yield* answer.make() : null;
      return { ...grammarOf(filled, other), weight: plus(size.weight, other?.weight ?? NOTHING, 1) };
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
  if (answer) {
    if (!tag || trigger === null)
      throw unsupported(
        "tools",
        "with this model's way of writing calls, tools beside a schema need tool_choice required, a named tool, or none",
      );
    return made(tools, (filled, other) => eitherGrammar(filled, other!));
  }
  const strict = tools.find((tool) => tool.isStrict);
  if (!strict) return null;
  if (!tag || trigger === null)
    throw unsupported(
      `${strict.place}.strict`,
      "with this model's way of writing calls, strict arguments need tool_choice required or a named tool, or are not possible",
    );
  return made(tools, (filled) => triggeredGrammar(filled, trigger));
}
