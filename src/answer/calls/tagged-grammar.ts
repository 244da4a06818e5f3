/** Grammars of calls that are text: they begin and end in a fixed way, as structural tags do. */
import type { Slices } from "../../format/slices.ts";
import { unsupported } from "../errors.ts";
import type { Grammar, GrammarToMake } from "../grammar/grammar.ts";
import type { Mark } from "../grammar/marks.ts";
import { argumentSlices } from "../grammar/schema-grammar.ts";
import { Size } from "../grammar/size.ts";
import { eitherGrammar, type FilledTag, type Tag, tagsGrammar, triggeredGrammar } from "../grammar/tags.ts";
import { NOTHING, plus } from "../grammar/weight.ts";
import type { AskedCalls } from "./asked-calls.ts";

export interface TaggedCalls {
  /** What stands before and after a call's arguments. */
  readonly tag: (name: string) => Tag;
  /** The grammar of its arguments. Default: JSON, as Python writes it. */
  readonly rules?: (schema: unknown, place: string, isStrict: boolean, size: Size) => Slices<string>;
  /** The text with which only calls begin; null: a call cannot be recognised by its beginning. */
  readonly trigger: string | null;
  /** Between two calls; null: the family makes one at a time. */
  readonly separator: string | null;
}

/** Throws PlaceError for what cannot be distinguished from calls. */
export function taggedGrammar(
  { tag, rules: rulesOf = argumentSlices, trigger, separator }: TaggedCalls,
  { tools, isForced, isSingle, answer }: AskedCalls,
): GrammarToMake {
  const made = (grammarOf: (filled: readonly FilledTag[], answer: Grammar | null) => Grammar) => ({
    *make(mark: Mark): Slices<Grammar> {
      // They are compiled together, so one bound holds for all.
      const size = new Size();
      const filled: FilledTag[] = [];
      for (const { name, place, parameters, isStrict } of tools) {
        const rules = yield* rulesOf(parameters, `${place}.parameters`, isStrict !== false, size);
        filled.push({ ...tag(name), rules });
      }
      const other = answer && (yield* answer.make(mark));
      return { ...grammarOf(filled, other), weight: plus(size.weight, other?.weight ?? NOTHING, 1) };
    },
  });
  if (isForced) return made((filled) => tagsGrammar(filled, isSingle ? null : separator));
  if (answer) {
    if (trigger === null)
      throw unsupported(
        "tools",
        "with this model's way of writing calls, tools together with a schema need tool_choice required, a named tool, or none",
      );
    return made((filled, other) => eitherGrammar(filled, other!));
  }
  if (trigger === null)
    throw unsupported(
      `${tools.find((tool) => tool.isStrict)?.place}.strict`,
      "with this model's way of writing calls, strict arguments need tool_choice required or a named tool",
    );
  return made((filled) => triggeredGrammar(filled, trigger));
}
