/**
 * JSON as rules of a grammar, in XGrammar's notation. Owns the rules that every schema starts from, and how a text
 * becomes a literal of a rule. Escapes of surrogates are left out, so that an escape is one character.
 */
import { PLAIN } from "./characters.ts";
import type { Characters } from "./counted.ts";

export const BLANK = "[ \\n\\t]*";
export const JSON_RULES = `
value ::= object | array | string | number | boolean | null
object ::= "{" ${BLANK} (member (${BLANK} "," ${BLANK} member)*)? ${BLANK} "}"
member ::= string ${BLANK} ":" ${BLANK} value
array ::= "[" ${BLANK} (value (${BLANK} "," ${BLANK} value)*)? ${BLANK} "]"
string ::= "\\"" text
text ::= "\\"" | ${PLAIN} text | "\\\\" escape text
plain ::= "\\"" | ${PLAIN} plain
escape ::= ["\\\\/bfnrt] | "u" ([0-9A-Ca-cE-Fe-f] hex | [Dd] [0-7]) hex hex
hex ::= [0-9A-Fa-f]
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [+\\-]? [0-9]+)?
integer ::= "0" | "-"? [1-9] [0-9]*
boolean ::= "true" | "false"
null ::= "null"
nothing ::= ""
date ::= [0-9]{4} "-" (long "-" ("0" [1-9] | [1-2] [0-9] | "3" [0-1]) | short "-" ("0" [1-9] | [1-2] [0-9] | "30") | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8])) | leap "-02-29"
long ::= nothing ("0" [13578] | "1" [02])
short ::= nothing ("0" [469] | "11")
leap ::= [0-9] [0-9] fourth | century "00"
fourth ::= nothing ("0" [48] | [2468] [048] | [13579] [26])
century ::= nothing ("0" [048] | [2468] [048] | [13579] [26])
time ::= ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | [+\\-] ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9])
uuid ::= hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}
`;

/** Formats of strings that are kept, without their quotes; others are comments, as the standard has it. */
const FORMATS = new Map([
  ["date", "date"],
  ["time", "time"],
  ["date-time", 'date "T" time'],
  ["uuid", "uuid"],
]);

/** The expression of a format that is kept. */
export function formatRule(format: string | undefined): string | undefined {
  return format === undefined ? undefined : FORMATS.get(format);
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
