/**
 * Rules that every schema starts from, in XGrammar's notation, and how a text becomes a literal of a rule. What differs
 * between ways of writing values stands in `notation.ts`.
 */
import { FORMAT_RULES } from "./formats.ts";

/**
 * Of values that all notations write as JSON does. Digits are bounded, so that a number is not too large when it is read back.
 */
export const COMMON_RULES = `
value ::= object | array | string | number | boolean | null
number ::= "-"? ("0" | [1-9] [0-9]{0,19}) ("." [0-9]+)? ([eE] [+\\-]? [0-9]{1,2})?
integer ::= "0" | "-"? [1-9] [0-9]{0,19}
boolean ::= "true" | "false"
null ::= "null"
hex ::= [0-9A-Fa-f]
nothing ::= ""${FORMAT_RULES}`;

/** A text as a literal. */
export function literal(text: string): string {
  return `"${text.replace(/["\\]/g, "\\$&").replace(/\p{Cc}/gu, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`)}"`;
}
