/**
 * What a tokenizer.json does to text before it is cut: its normalizers. Only those whose results equal the Rust library's
 * are let through, and only as far as they cannot make a text many times as long.
 */
import { FormatError, UnsupportedError } from "./errors.ts";
import { asObject, describe, type JsonObject } from "./json.ts";
import { filePattern } from "./tokenizer-patterns.ts";

type Normalizer = (text: string) => string;

const PLACE = "tokenizer.json: normalizer";
/** By how much normalizers may lengthen a text. Published ones replace a character by one of up to three. */
const MOST_GROWTH = 16;
/** Characters that a Prepend may put in front. */
const LONGEST_PREFIX = 64;

/** The normalizers of a tokenizer.json, one after the other. */
export function normalizerOf(parts: readonly JsonObject[]): Normalizer {
  const growth = parts.map(growthOf).reduce((product, one) => product * one, 1);
  if (growth > MOST_GROWTH)
    throw new UnsupportedError(
      `a normalizer that makes texts ${growth} times as long (${PLACE}; at most ${MOST_GROWTH})`,
    );
  const normalizers = parts.map(normalizer);
  return (text) => normalizers.reduce((normal, one) => one(normal), text);
}

function normalizer(part: JsonObject): Normalizer {
  switch (part.type) {
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = part.type;
      return (text) => text.normalize(form);
    }
    case "Lowercase":
      // Character by character: JavaScript writes a sigma at the end of a word in another way.
      return (text) => text.replace(/\p{Changes_When_Lowercased}/gu, (character) => character.toLowerCase());
    case "Prepend": {
      const prefix = textOf(part, "prepend");
      return (text) => (text === "" ? "" : prefix + text);
    }
    case "Replace": {
      const content = textOf(part, "content");
      const pattern = filePattern(part.pattern, PLACE);
      const { String: plain } = part.pattern as JsonObject;
      // Faster, where JavaScript reads nothing else into the content.
      if (typeof plain === "string" && !content.includes("$"))
        return (text) => text.replaceAll(plain, content);
      return (text) => text.replaceAll(pattern, () => content);
    }
    case "Strip": {
      const [left, right] = [part.strip_left !== false, part.strip_right !== false];
      return (text) => {
        const rest = left ? text.replace(/^\p{White_Space}+/u, "") : text;
        return right ? rest.slice(0, withoutBlanks(rest)) : rest;
      };
    }
  }
  throw new UnsupportedError(`the normalizer ${describe(part)} of tokenizer.json`);
}

/** How long the text is without the blanks at its end. */
function withoutBlanks(text: string): number {
  let length = text.length;
  while (length > 0 && /\p{White_Space}/u.test(text[length - 1])) length--;
  return length;
}

/** How many characters a Replace makes of one; 1 for what does not lengthen. */
function growthOf(part: JsonObject): number {
  if (part.type === "Prepend" && textOf(part, "prepend").length > LONGEST_PREFIX)
    throw new UnsupportedError(
      `the normalizer Prepend of ${textOf(part, "prepend").length} characters (${PLACE}; at most ${LONGEST_PREFIX})`,
    );
  if (part.type !== "Replace") return 1;
  const { String: found } = asObject(part.pattern, `${PLACE}.pattern`);
  const least = typeof found === "string" && found !== "" ? found.length : 1;
  return Math.max(1, textOf(part, "content").length / least);
}

function textOf(part: JsonObject, name: string): string {
  const found = part[name];
  if (typeof found === "string") return found;
  throw new FormatError(`${PLACE}.${name}`, describe(found), "a text");
}
