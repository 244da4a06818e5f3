/**
 * The normalizers of a tokenizer.json. Only those whose results equal the Rust library's are accepted, and only if they
 * cannot lengthen a text many times.
 */
import { FormatError, UnsupportedError } from "./errors.ts";
import { asObject, describe, type JsonObject } from "./json.ts";
import { filePattern } from "./tokenizer-patterns.ts";

type Normalizer = (text: string) => string;

const PLACE = "tokenizer.json: normalizer";
/** How much normalizers may lengthen a text. Published ones replace a character by up to three. */
const MOST_GROWTH = 16;
/** Characters that a Prepend may insert. */
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
      // Character by character: JavaScript lowercases a sigma at the end of a word differently.
      return (text) => text.replace(/\p{Changes_When_Lowercased}/gu, (character) => character.toLowerCase());
    case "Prepend": {
      const prefix = textOf(part, "prepend");
      return (text) => (text === "" ? "" : prefix + text);
    }
    case "Replace": {
      const content = textOf(part, "content");
      const pattern = filePattern(part.pattern, PLACE);
      const { String: plain } = part.pattern as JsonObject;
      // Faster, if the content has no special meaning in JavaScript.
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

/** The length of the text without trailing whitespace. */
function withoutBlanks(text: string): number {
  let length = text.length;
  while (length > 0 && /\p{White_Space}/u.test(text[length - 1])) length--;
  return length;
}

/** The factor by which a Replace lengthens a character; 1 if it does not. */
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
