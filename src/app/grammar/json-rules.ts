/**
 * JSON as rules of a grammar, in XGrammar's notation. Owns the rules that every schema starts from, and how a text
 * becomes a literal of a rule. Escapes of surrogates are left out, so that an escape is one character.
 */
export const BLANK = "[ \\n\\t]*";
/** A character that stands for itself in a JSON string. */
const PLAIN = '[^\\0-\\x1f"\\\\]';

/** From a code point to another, both in. */
export type Range = readonly [low: number, high: number];

/** What PLAIN is, up to where the library knows ranges: beyond U+FFFF it lets anything pass (0.1.27). */
const PLAIN_RANGES: readonly Range[] = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, 0xd7ff],
];

/** The plain characters that are in one of these ranges, or in none; "[]": there is no such. */
export function rangeClass(ranges: readonly Range[], isNot: boolean): string {
  const asked = isNot ? complement(ranges) : ranges;
  const both = asked.flatMap(([low, high]) =>
    PLAIN_RANGES.map(([least, most]): Range => [Math.max(low, least), Math.min(high, most)]),
  );
  const parts = both
    .filter(([low, high]) => low <= high)
    .map(([low, high]) => `${inClass(low)}-${inClass(high)}`);
  return `[${parts.join("")}]`;
}

function complement(ranges: readonly Range[]): Range[] {
  const left: Range[] = [];
  let from = 0;
  for (const [low, high] of [...ranges].sort(([a], [b]) => a - b)) {
    if (low > from) left.push([from, low - 1]);
    from = Math.max(from, high + 1);
  }
  return [...left, [from, 0x10ffff]];
}

export const JSON_RULES = `
value ::= object | array | string | number | boolean | null
object ::= "{" ${BLANK} (member (${BLANK} "," ${BLANK} member)*)? ${BLANK} "}"
member ::= string ${BLANK} ":" ${BLANK} value
array ::= "[" ${BLANK} (value (${BLANK} "," ${BLANK} value)*)? ${BLANK} "]"
string ::= "\\"" char* "\\""
char ::= ${PLAIN} | "\\\\" (["\\\\/bfnrt] | "u" ([0-9A-Ca-cE-Fe-f] hex | [Dd] [0-7]) hex hex)
hex ::= [0-9A-Fa-f]
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [+\\-]? [0-9]+)?
integer ::= "0" | "-"? [1-9] [0-9]*
boolean ::= "true" | "false"
null ::= "null"
date ::= [0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [1-2] [0-9] | "3" [0-1])
time ::= ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | [+\\-] ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9])
uuid ::= hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}
`;

/** Formats of strings that are kept, without their quotes; others are comments, as the standard has it. */
export const FORMATS: Readonly<Record<string, string>> = {
  date: "date",
  time: "time",
  "date-time": 'date "T" time',
  uuid: "uuid",
};

/** A text as a literal. */
export function literal(text: string): string {
  return `"${text.replace(/["\\]/g, "\\$&").replace(/\p{Cc}/gu, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`)}"`;
}

/** JSON strings that are none of `names`, written without escapes; an expression. */
export function stringExcept(names: readonly string[]): string {
  return `"\\"" ${textExcept(names.map((name) => [...name]))} "\\""`;
}

/** Texts that are none of these; by their first characters, deeper where a name begins alike. */
function textExcept(names: readonly (readonly string[])[]): string {
  const isName = names.some((name) => name.length === 0);
  const firsts = [...new Set(names.filter((name) => name.length > 0).map(([first]) => first))];
  if (firsts.length === 0) return isName ? `${PLAIN}+` : `${PLAIN}*`;
  const others = `[^\\0-\\x1f"\\\\${firsts.map((first) => inClass(first.codePointAt(0) ?? 0)).join("")}] ${PLAIN}*`;
  const same = firsts.map((first) => {
    const rest = names.filter((name) => name[0] === first).map((name) => name.slice(1));
    return `${literal(first)} ${textExcept(rest)}`;
  });
  return `(${[...(isName ? [] : ['""']), others, ...same].join(" | ")})`;
}

/** A code point inside of brackets. */
function inClass(point: number): string {
  return `\\U${point.toString(16).padStart(8, "0")}`;
}
