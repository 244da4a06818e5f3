/**
 * Ways of writing the values that a schema allows: JSON, and JSON that leaves out what would end it where it stands.
 * This is what the rules of a schema need to know of them. Escapes of surrogates are excluded, so that an escape is one
 * character.
 */
import type { Slices } from "../../format/slices.ts";
import { bareText } from "./bare-text.ts";
import { ESCAPED, except, type Range } from "./characters.ts";
import { oneText } from "./choices.ts";
import type { Characters } from "./counted.ts";
import { COMMON_RULES, literal } from "./json-rules.ts";
import type { AddRule } from "./repeats.ts";

export interface Notation {
  /** What may stand after a comma and a colon; an expression. */
  readonly gap: string;
  /** The marks around a string; expressions. */
  readonly open: string;
  readonly close: string;
  /** Characters that represent themselves where characters are counted or follow a pattern. */
  readonly plain: readonly Range[];
  readonly counted: Characters;
  /** A character of a pattern as a string contains it; null: it cannot. */
  character(character: string): string | null;
  /** One of these values; an expression, or the first value that cannot be written. */
  values(values: readonly unknown[], rule: AddRule): Slices<string | { readonly unwritten: unknown }>;
  /** A property's name before its colon; an expression, or null: it cannot be written. */
  name(name: string): string | null;
  /** Names that are not in the schema. */
  readonly names: OtherNames;
  /** Properties stand in the order of their names, as the family's template has them. */
  readonly isSorted: boolean;
  /** The rules that expressions of it name, COMMON_RULES among them: object, array, string, value. */
  readonly rules: string;
}

export interface OtherNames {
  readonly open: string;
  readonly close: string;
  readonly characters: readonly Range[];
  /** The rules of any of them, and of what follows their first character. */
  readonly any: string;
  readonly rest: string;
  readonly mayBeEmpty: boolean;
}

const QUOTE = '"\\""';
const ESCAPE = '"\\\\" escape';
/** Characters that a JSON string must escape, as part of a class. */
const NOT_PLAIN = '\\0-\\x1f"\\\\';
const BAR: Range = [0x7c, 0x7c];

/**
 * JSON. without: texts that must not occur in it, since they would end it: each begins with <|, and is written
 * with an escaped |. Counted characters and patterns escape each |.
 */
function json(gap: string, without: readonly string[]): Notation {
  const isHeld = without.length > 0;
  const not = isHeld ? `${NOT_PLAIN}|` : NOT_PLAIN;
  const plain = except(isHeld ? [...ESCAPED, BAR] : ESCAPED);
  const escaped = (text: string) => (isHeld ? text.replaceAll("<|", "<\\u007c") : text);
  const marks = new Map(without.map((text) => [text, null]));
  const text = isHeld
    ? bareText("text", { marks, end: QUOTE, not: NOT_PLAIN, others: [ESCAPE] })
    : [["text", `${QUOTE} | [^${NOT_PLAIN}] text | ${ESCAPE} text`]];
  return {
    gap,
    open: QUOTE,
    close: QUOTE,
    plain,
    counted: { one: [`[^${not}]`, ESCAPE], other: QUOTE, many: isHeld ? "counted" : "text", end: QUOTE },
    character: (character) =>
      isHeld && character === "|" ? "\\u007c" : JSON.stringify(character).slice(1, -1),
    values: (values, rule) =>
      oneText(
        values.map((value) => escaped(JSON.stringify(value))),
        rule,
      ),
    name: (name) => literal(escaped(JSON.stringify(name))),
    names: { open: QUOTE, close: QUOTE, characters: plain, any: "string", rest: "plain", mayBeEmpty: true },
    isSorted: false,
    rules: `
object ::= "{" (member ("," ${gap} member)*)? "}"
member ::= string ":" ${gap} value
array ::= "[" (value ("," ${gap} value)*)? "]"
string ::= ${QUOTE} text
${text.map(([name, body]) => `${name} ::= ${body}`).join("\n")}
plain ::= ${QUOTE} | [^${not}] plain
counted ::= ${QUOTE} | [^${not}] counted | ${ESCAPE} counted
escape ::= ["\\\\/bfnrt] | "u" ([0-9A-Ca-cE-Fe-f] hex | [Dd] [0-7]) hex hex${COMMON_RULES}`,
  };
}

const SPACE = '" "?';

export const JSON_COMPACT = json('""', []);
/** JSON as Python writes it, which is the form that models were trained on. */
export const JSON_SPACED = json(SPACE, []);
/** Beginnings of the control tokens that end a message of Harmony, or begin one. */
export const HARMONY_BEGINNINGS: readonly string[] = ["<|c", "<|e", "<|r", "<|s"];
export const JSON_IN_HARMONY = json(SPACE, HARMONY_BEGINNINGS);
