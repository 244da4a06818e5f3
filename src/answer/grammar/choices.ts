/**
 * Alternatives that XGrammar keeps apart. Where two of them begin with the same byte it may merge what follows so far that
 * it accepts texts that are none of them: "é", "a" and "abc" gave "abcbc" (0.1.27; mlc-ai/xgrammar#632 is the end of that).
 * So texts become a tree that branches byte by byte, and each other alternative becomes a rule that names another rule, so
 * that the library does not inline it. To be deleted when the library is newer.
 */
import type { Slices } from "../../format/slices.ts";
import { literal } from "./json-rules.ts";
import type { AddRule } from "./repeats.ts";
import type { Size } from "./size.ts";

/** One of these, each an expression; an expression. */
export function oneOf(expressions: readonly string[], rule: AddRule): string {
  const all = [...new Set(expressions)];
  return all.length === 1 ? all[0] : `(${all.map((one) => rule(`nothing ${one}`)).join(" | ")})`;
}

/** One of these texts; an expression. */
export function* oneText(texts: readonly string[], rule: AddRule): Slices<string> {
  return `nothing ${yield* after([...new Set(texts)].sort(), 0, rule)}`;
}

/** A grammar of these texts alone. */
export function* textsGrammar(texts: readonly string[], place: string, size: Size): Slices<string> {
  const rules: string[] = [];
  const rule = (body: string) => {
    size.add(body, place);
    return `t${rules.push(`t${rules.length} ::= ${body}`) - 1}`;
  };
  const root = rule(yield* oneText(texts, rule));
  return `root ::= ${root}\n${rules.join("\n")}\nnothing ::= ""`;
}

/** What follows the first `at` characters, in which the texts are equal; they are in order. */
function* after(texts: readonly string[], at: number, rule: AddRule): Slices<string> {
  yield;
  const [first, last] = [texts[0], texts[texts.length - 1]];
  let end = at;
  while (end < first.length && first[end] === last[end]) end++;
  // Not between the halves of a character.
  if (end > at && /[\ud800-\udbff]/.test(first[end - 1])) end--;
  const head = literal(first.slice(at, end));
  if (texts.length === 1) return head;
  const choices: string[] = [];
  for (let from = 0; from < texts.length; ) {
    const start = String.fromCodePoint(texts[from].codePointAt(end) ?? 0);
    let to = from + 1;
    while (to < texts.length && texts[from].length > end && texts[to].startsWith(start, end)) to++;
    const rest = yield* after(texts.slice(from, to), end, rule);
    // Characters beyond ASCII may begin with the same byte.
    choices.push(start > "\x7f" ? rule(`nothing ${rest}`) : rest);
    from = to;
  }
  return `${head} ${rule(choices.join(" | "))}`;
}
