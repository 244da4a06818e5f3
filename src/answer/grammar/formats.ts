/**
 * String formats that are enforced, as rules; others are annotations, as in the standard. Also says what each promises
 * together with a pattern, since client libraries write both. Each rule gives texts that the libraries accept (zod,
 * ajv-formats): it is narrower than the format, never wider.
 */

interface Format {
  /** The text between the quotes. */
  readonly rule: string;
  /** Characters of its shortest text, and of its longest. */
  readonly least: number;
  readonly most: number;
  /** Patterns that every text of the rule matches, as zod writes them; any other pattern replaces the rule. */
  readonly patterns?: readonly string[];
}

const UNBOUNDED = Number.POSITIVE_INFINITY;

const FORMATS: ReadonlyMap<string, Format> = new Map([
  ["date", { rule: "date", least: 10, most: 10 }],
  ["time", { rule: "time", least: 9, most: 21 }],
  ["date-time", { rule: 'date "T" time', least: 20, most: 32 }],
  ["uuid", { rule: "uuid", least: 36, most: 36 }],
  ["ipv4", { rule: 'octet "." octet "." octet "." octet', least: 7, most: 15 }],
  [
    "ipv6",
    {
      rule: 'hextet ":" hextet ":" hextet ":" hextet ":" hextet ":" hextet ":" hextet ":" hextet',
      least: 15,
      most: 39,
    },
  ],
  ["uri", { rule: "uri", least: 9, most: UNBOUNDED }],
  ["hostname", { rule: "hostname", least: 1, most: UNBOUNDED }],
  ["duration", { rule: "duration", least: 3, most: 40 }],
  [
    "email",
    {
      rule: "email",
      least: 6,
      most: UNBOUNDED,
      patterns: [
        "^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$",
        "^(?:[A-Za-z0-9_'+\\-]+\\.)*[A-Za-z0-9_'+\\-]*[A-Za-z0-9_+-]@(?:[A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$",
      ],
    },
  ],
]);

/** The rules that these name. */
export const FORMAT_RULES = `
date ::= [0-9]{4} "-" (long "-" ("0" [1-9] | [1-2] [0-9] | "3" [0-1]) | short "-" ("0" [1-9] | [1-2] [0-9] | "30") | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8])) | leap "-02-29"
long ::= nothing ("0" [13578] | "1" [02])
short ::= nothing ("0" [469] | "11")
leap ::= [0-9] [0-9] fourth | century "00"
fourth ::= nothing ("0" [48] | [2468] [048] | [13579] [26])
century ::= nothing ("0" [048] | [2468] [048] | [13579] [26])
time ::= ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | [+\\-] ([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9])
uuid ::= hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}
octet ::= "25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9] [0-9] | [0-9]
hextet ::= hex{1,4}
email ::= atom ("." atom){0,3} "@" (label "."){1,4} [A-Za-z]{2,10}
atom ::= [A-Za-z0-9_] ([+\\-]? [A-Za-z0-9_]){0,20}
label ::= [A-Za-z0-9] ("-"? [A-Za-z0-9]){0,30}
hostname ::= (label "."){0,4} [A-Za-z] [A-Za-z0-9]{0,30}
uri ::= "http" "s"? "://" hostname (":" [1-9] [0-9]{0,3})? ("/" path)? ("?" path)? ("#" path)?
path ::= ([A-Za-z0-9._~!$&()*+,;=:@/\\-] | "%" hex hex)*
duration ::= "P" (count "W" | days ("T" hours)? | "T" hours)
days ::= count "Y" (count "M")? (count "D")? | count "M" (count "D")? | count "D"
hours ::= count "H" (count "M")? (count "S")? | count "M" (count "S")? | count "S"
count ::= [1-9] [0-9]{0,3}
`;

/** The format if it is enforced; undefined: it is an annotation. */
export function keptFormat(name: string | undefined): Format | undefined {
  return name === undefined ? undefined : FORMATS.get(name);
}
