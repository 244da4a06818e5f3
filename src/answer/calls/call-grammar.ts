/**
 * The grammar of an answer that must call a tool, or whose calls must match. Decides whether one is needed; how calls
 * are written in it depends on the family.
 */
import type { GrammarToMake } from "../grammar/grammar.ts";
import type { AskedTool, CallChoice } from "./asked-calls.ts";
import type { CallFormat } from "./call-formats.ts";
import { controlGrammar } from "./control-grammar.ts";
import { taggedGrammar } from "./tagged-grammar.ts";

/**
 * isSingle: at most one call. answer: what an answer without calls has to be; null: anything. null: no grammar is needed.
 * Throws PlaceError; so does the making.
 */
export function callGrammar(
  { grammar }: CallFormat,
  tools: readonly AskedTool[],
  choice: CallChoice,
  isSingle: boolean,
  answer: GrammarToMake | null,
): GrammarToMake | null {
  const isForced = choice !== "auto";
  if (!isForced && !answer && !tools.some((tool) => tool.isStrict)) return null;
  const asked = {
    tools: typeof choice === "object" ? [choice] : tools,
    isForced,
    isSingle: isSingle || typeof choice === "object",
    answer: isForced ? null : answer,
  };
  return "tag" in grammar ? taggedGrammar(grammar, asked) : controlGrammar(grammar, asked);
}
