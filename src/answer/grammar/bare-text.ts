/**
 * Text without quotes, as rules: for notations that write strings without them. The rules name each other, since XGrammar tries
 * most of the vocabulary again at each token where alternatives are repeated by a star (0.1.27; lab/LOG.md, 2026-11-28).
 */
import { literal } from "./json-rules.ts";

export interface BareText {
  /**
   * Texts that must not occur in it, each with what follows where it occurs all the same: an expression, or null: it cannot
   * occur. All begin with the same character, and have it nowhere else.
   */
  readonly marks: ReadonlyMap<string, string | null>;
  /** What may end it anywhere; null: only a mark does. */
  readonly end: string | null;
  /** Characters that do not represent themselves, written as in a class. */
  readonly not?: string;
  /** Expressions that may also occur in it. */
  readonly others?: readonly string[];
}

/**
 * The rules of such a text; the first of them has the name `name`. As a mark has its first character only once, a text that
 * departs from a mark starts again, and no other look back is needed.
 */
export function bareText(
  name: string,
  { marks, end, not = "", others = [] }: BareText,
): (readonly [name: string, body: string])[] {
  const all = [...marks.keys()];
  const first = all[0][0];
  const begun = [...new Set(all.flatMap((mark) => [...mark].map((_, length) => mark.slice(0, length))))];
  const at = (text: string) => (text === "" ? name : `${name}${begun.indexOf(text)}`);
  return begun.map((text): readonly [string, string] => {
    const nexts = [...new Set(all.filter((mark) => mark.startsWith(text)).map((mark) => mark[text.length]))];
    const after = nexts.flatMap((next) => {
      const more = text + next;
      if (begun.includes(more)) return [`${literal(next)} ${at(more)}`];
      const follows = marks.get(more);
      return follows === null ? [] : [`${literal(next)} ${follows}`];
    });
    const plain = `[^${not}${[...new Set([first, ...nexts])].map(inClass).join("")}]`;
    const choices = [
      ...(end === null ? [] : [end]),
      ...after,
      ...(text === "" ? [] : [`${literal(first)} ${at(first)}`]),
      `${plain} ${name}`,
      ...others.map((other) => `${other} ${name}`),
    ];
    return [at(text), choices.join(" | ")];
  });
}

function inClass(character: string): string {
  return character.replace(/[\\\]^-]/, "\\$&");
}
