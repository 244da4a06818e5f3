/**
 * JSON as rules of a grammar, in XGrammar's notation. Owns the rules that every schema starts from, and how a text
 * becomes a literal of a rule. Escapes of surrogates are left out, so that an escape is one character.
 */
import { PLAIN } from "./characters.ts";
import type { Characters } from "./counted.ts";
import { FORMAT_RULES } from "./formats.ts";

/** What may stand after a comma and a colon: nothing, or as Python writes JSON, which is how models have seen calls. */
export const COMPACT = '""';
export const SPACED = '" "?';

export function jsonRules(gap: string): string {
  return `
value ::= object | array | string | number | boolean | null
object ::= "{" (member ("," ${gap} member)*)? "}"
member ::= string ":" ${gap} value
array ::= "[" (value ("," ${gap} value)*)? "]"
string ::= "\\"" text
text ::= "\\"" | ${PLAIN} text | "\\\\" escape text
plain ::= "\\"" | ${PLAIN} plain
escape ::= ["\\\\/bfnrt] | "u" ([0-9A-Ca-cE-Fe-f] hex | [Dd] [0-7]) hex hex
hex ::= [0-9A-Fa-f]
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [+\\-]? [0-9]+)?
integer ::= "0" | "-"? [1-9] [0-9]*
boolean ::= "true" | "false"
null ::= "null"
nothing ::= ""${FORMAT_RULES}`;
}

/** The characters of a string, up to its second quote. */
export const CHARACTERS: Characters = {
  one: [PLAIN, '"\\\\" escape'],
  other: '"\\""',
  many: "text",
  end: '"\\""',
};

/** A text as a literal. */
export function literal(text: string): string {
  return `"${text.replace(/["\\]/g, "\\$&").replace(/\p{Cc}/gu, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`)}"`;
}
