/**
 * Values as Gemma 4 writes them: JSON except that strings stand unescaped between two marks, and names have no quotes.
 * These are the rules of the notation; `gemma-call.ts` reads it.
 */
import { bareText } from "../grammar/bare-text.ts";
import { except, type Range } from "../grammar/characters.ts";
import { oneOf, oneText } from "../grammar/choices.ts";
import { COMMON_RULES, literal } from "../grammar/json-rules.ts";
import type { Notation } from "../grammar/notation.ts";

/** A name that needs no marks, as the template writes it. */
const BARE_NAME = /^[^\s:}\p{Cc}]([^:\p{Cc}]*[^\s:\p{Cc}])?$/u;

/** Characters of names that are in no schema. */
const NAME: readonly Range[] = [
  ...[[0x24, 0x24] as const, [0x2d, 0x2e] as const, [0x30, 0x39] as const],
  ...[[0x41, 0x5a] as const, [0x5f, 0x5f] as const, [0x61, 0x7a] as const],
];
const NAME_CLASS = "[$\\-.0-9A-Z_a-z]";

export interface GemmaNotation {
  /** The expression of the mark around strings. */
  readonly quote: string;
  /**
   * The shortest unique beginnings of marks: no text contains one. Each begins with <, and has
   * it nowhere else.
   */
  readonly without: readonly string[];
  /** Where the characters of a text are counted or follow a pattern, this character is excluded instead of the marks. */
  readonly leftOut: string;
}

export function gemmaNotation({ quote, without, leftOut }: GemmaNotation): Notation {
  const point = leftOut.charCodeAt(0);
  const marks = new Map(without.map((text) => [text, null]));
  const isSpelled = (text: string) => without.some((mark) => text.includes(mark));
  const isWritten = (value: unknown): boolean =>
    typeof value === "object" && value !== null
      ? Object.entries(value).flat().every(isWritten)
      : typeof value !== "string" || !isSpelled(value);
  /** Literals of one text each, with quotes as the grammar writes them. */
  const parts = (value: unknown): string => {
    if (typeof value === "string") return `${quote} ${literal(value)} ${quote}`;
    if (Array.isArray(value)) return `"[" ${value.map(parts).join(' "," ')} "]"`;
    if (typeof value !== "object" || value === null) return literal(JSON.stringify(value));
    const members = Object.entries(value).map(([key, one]) => `${name(key)} ":" ${parts(one)}`);
    return `"{" ${members.join(' "," ')} "}"`;
  };
  const name = (text: string) =>
    isSpelled(text) ? null : BARE_NAME.test(text) ? literal(text) : `${quote} ${literal(text)} ${quote}`;
  return {
    gap: '""',
    open: quote,
    close: quote,
    plain: except([
      [0, 8],
      [0xb, 0x1f],
      [point, point],
    ]),
    counted: { one: [`[^\\0-\\x08\\x0b-\\x1f${leftOut}]`], other: quote, many: "counted", end: quote },
    character: (character) => (character === leftOut ? null : character),
    *values(values, rule) {
      for (const unwritten of values) if (!isWritten(unwritten)) return { unwritten };
      const texts = values.filter((value) => typeof value === "string");
      const others = values.filter((value) => typeof value !== "string").map((value) => rule(parts(value)));
      if (texts.length === 0) return oneOf(others, rule);
      return oneOf([rule(`${quote} ${yield* oneText(texts, rule)} ${quote}`), ...others], rule);
    },
    name,
    names: { open: "", close: '""', characters: NAME, any: "name", rest: "plain", mayBeEmpty: false },
    isSorted: true,
    rules: `
object ::= "{" (member ("," member)*)? "}"
member ::= name ":" value
name ::= ${NAME_CLASS} plain
plain ::= "" | ${NAME_CLASS} plain
array ::= "[" (value ("," value)*)? "]"
string ::= ${quote} text
${bareText("text", { marks, end: quote, not: "\\0-\\x08\\x0b-\\x1f" })
  .map(([name, body]) => `${name} ::= ${body}`)
  .join("\n")}
counted ::= ${quote} | [^\\0-\\x08\\x0b-\\x1f${leftOut}] counted${COMMON_RULES}`,
  };
}
