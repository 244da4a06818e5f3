/**
 * Structural tags of XGrammar: texts that begin and end in a fixed way and contain what a grammar allows.
 */
import type { Grammar } from "./grammar.ts";

export interface Tag {
  readonly begin: string;
  readonly end: string;
}

/** A tag and the rules of its content. */
export interface FilledTag extends Tag {
  readonly rules: string;
}

/** A name inside a tag's begin, as JSON. */
export function literalTag(name: string): string {
  return JSON.stringify(name);
}

/** A text that consists of tags; separator null: just one. */
export function tagsGrammar(tags: readonly FilledTag[], separator: string | null): Grammar {
  const all = tags.map(written);
  return structural(
    separator === null
      ? { type: "or", elements: all }
      : { type: "tags_with_separator", tags: all, separator, at_least_one: true },
  );
}

/**
 * One tag, or a text of this grammar, which begins with another byte than tags do. One: the library takes no
 * tags_with_separator inside of an "or" (0.1.27).
 */
export function eitherGrammar(tags: readonly FilledTag[], other: Grammar): Grammar {
  return structural({ type: "or", elements: [...tags.map(written), formatOf(other)] });
}

/** A text of these rules, or of the other grammar; whole: rules of what comes before either. */
export function besideGrammar(
  rules: string,
  other: Grammar,
  whole: { readonly before: string; readonly header: string } | null,
): Grammar {
  const either = (element: unknown) => ({ type: "or", elements: [inRules(rules), element] });
  if (!whole) return structural(either(formatOf(other)));
  const { before, header } = whole;
  const answer = { type: "sequence", elements: [inRules(header), formatOf(other)] };
  return structural({ type: "sequence", elements: [inRules(before), either(answer)] });
}

function formatOf({ text, tags }: Grammar): unknown {
  return text === undefined ? (tags as { format: unknown }).format : inRules(text);
}

function inRules(rules: string) {
  return { type: "grammar", grammar: rules };
}

/** Any text, in which what begins with `trigger` is one of the tags. */
export function triggeredGrammar(tags: readonly FilledTag[], trigger: string): Grammar {
  return structural({ type: "triggered_tags", triggers: [trigger], tags: tags.map(written) });
}

function structural(format: Record<string, unknown>): Grammar {
  return { tags: { type: "structural_tag", format } };
}

function written({ begin, end, rules }: FilledTag) {
  return { type: "tag", begin, content: inRules(rules), end };
}
