/** Patterns of a tokenizer.json: those of publishers pass, and what a backtracking matcher could not end is refused. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { UnsupportedError } from "../../src/format/errors.ts";
import { checkPattern } from "../../src/format/tokenizer-patterns.ts";

const UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const LEAD = "[^\\r\\n\\p{L}\\p{N}]?";
const SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const BLANKS = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const PUBLISHED = {
  "GPT-2": "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  "Llama 3": `${SHORT}|${LEAD}\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${BLANKS}`,
  "Qwen 2": `${SHORT}|${LEAD}\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${BLANKS}`,
  "Qwen 3.5": `${SHORT}|${LEAD}[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${BLANKS}`,
  "GPT-4o": `${LEAD}${UPPER}*${LOWER}+${SHORT}?|${LEAD}${UPPER}+${LOWER}*${SHORT}?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${BLANKS}`,
  Tekken: `${LEAD}${UPPER}*${LOWER}+|${LEAD}${UPPER}+${LOWER}*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${BLANKS}`,
  "DeepSeek V3": `[!"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_\`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|${BLANKS}`,
  "DeepSeek V3, Chinese": "[一-龥぀-ゟ゠-ヿ]+",
  "DeepSeek LLM": "\\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+",
  digits: "\\p{N}{1,3}",
  "three digits": "[0-9][0-9][0-9]",
  Falcon: "[\\p{P}$+<=>^~|`]+",
};

describe("patterns of publishers", () => {
  it.each(Object.entries(PUBLISHED))("%s", (_, pattern) => {
    checkPattern(pattern, "test");
  });
});

describe("patterns that may go back without end", () => {
  it.each([
    ["nested repetitions", "(a+)+$"],
    ["a repeated choice", "(?:a|a)*b"],
    ["a repeated group", "(?:ab)+c"],
    ["two that share characters", "\\s*\\s*x"],
    ["a repetition before what may fail", "a+b"],
    ["an end", "\\s+$"],
    ["blanks without the last alternative", "\\s*[\\r\\n]+"],
    ["blanks whose last alternative comes first", "\\s+|\\s+(?!\\S)"],
    ["words without the other order", `${UPPER}*${LOWER}+|x`],
    ["many limited ones", `${"a{1,9}".repeat(9)}b`],
    ["many choices", `${"a?".repeat(30)}${"a".repeat(30)}`],
    ["a group with a repetition that goes back", "(?:a+b)?c"],
    ["a reference", "(a)\\1"],
    ["a look behind", "(?<=a)b"],
    ["a look ahead with a repetition", "a(?=b+c)"],
    ["a lazy repetition", "a+?b"],
    ["a possessive repetition", "a++b"],
    ["an empty match", "a*|b"],
    ["a class in a class", "[a[b]]+"],
    ["an open group", "(a"],
    ["too many characters", "a".repeat(4097)],
  ])("%s", (_, pattern) => {
    expect(() => checkPattern(pattern, "test")).toThrow(UnsupportedError);
  });

  it("what passes takes time in proportion to the text", () => {
    // Steps of a matcher that goes back as JavaScript's does, over the parts that a passed pattern can have.
    const atom = fc.constantFrom("a", "b", "[ab]", "[^a]");
    const repeated = fc.constantFrom("", "", "?", "*", "+", "{1,3}");
    const item = fc.tuple(atom, repeated);
    const alternative = fc.array(item, { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(alternative, { minLength: 1, maxLength: 3 }), (alternatives) => {
        const pattern = alternatives.map((items) => items.map((parts) => parts.join("")).join("")).join("|");
        try {
          checkPattern(pattern, "test");
        } catch {
          return;
        }
        for (const text of ["a", "b", "ab", "aab"].map((unit) => unit.repeat(400).slice(0, 400)))
          expect(stepsToCut(alternatives, `${text}c`), pattern).toBeLessThan(400 * 200);
      }),
      { numRuns: 2000 },
    );
  });
});

/** How many characters a backtracking matcher looks at to cut the whole text. */
function stepsToCut(alternatives: [string, string][][], text: string): number {
  let steps = 0;
  const limits: Record<string, [number, number]> = {
    "": [1, 1],
    "?": [0, 1],
    "*": [0, 1e9],
    "+": [1, 1e9],
    "{1,3}": [1, 3],
  };
  const matches = (atom: string, at: number) => {
    steps++;
    return at < text.length && new RegExp(`^${atom}$`).test(text[at]);
  };
  const match = (items: [string, string][], at: number): number => {
    if (items.length === 0) return at;
    const [[atom, sign], ...rest] = items;
    const [least, most] = limits[sign];
    let count = 0;
    while (count < most && matches(atom, at + count)) count++;
    for (; count >= least; count--) {
      const end = match(rest, at + count);
      if (end >= 0) return end;
    }
    return -1;
  };
  for (let at = 0; at < text.length; ) {
    let end = -1;
    for (const items of alternatives) if (end < 0) end = match(items, at);
    at = Math.max(end, at + 1);
  }
  return steps;
}
