/**
 * What a tokenizer.json does to text around the joining: normalizer, pre-tokenizer and decoder. The kept library
 * (@huggingface/tokenizers) normalizes and translates the patterns, which are written for Oniguruma; byte spelling,
 * ▁ and the decoders are ours. Refuses to know the vocabulary. Only parts whose results equal those of the Rust
 * library are let through; any other is an UnsupportedError that names it.
 */
import { SequenceNormalizer, SplitPreTokenizer } from "@huggingface/tokenizers";
import { FormatError, UnsupportedError } from "./errors.ts";
import { asObject, describe, type JsonObject } from "./json.ts";
import { spellBytes, unspellBytes, utf8Bytes } from "./tokenizer-bytes.ts";
import { checkPattern } from "./tokenizer-patterns.ts";
import type { Vocabulary } from "./tokenizer-pieces.ts";
import { cutAtSpaces, cutByPatterns, GPT2_PATTERNS, SPACE } from "./tokenizer-words.ts";

export type Pipeline = Pick<Vocabulary, "words" | "spell" | "unspell" | "dropsFirstSpace"> & {
  normalize(text: string): string;
};

type Section = Parameters<Vocabulary["words"]>[1];
type Stage = (words: string[], section: Section) => string[];

const PLACE = "tokenizer.json";

/** The pipeline of a parsed tokenizer.json. `pieces`: the texts that joining can give. */
export function pipelineOf(json: JsonObject, pieces: ReadonlyMap<string, number>): Pipeline {
  const parts = flatten(json.pre_tokenizer, "pretokenizers", "pre_tokenizer");
  const bytes = parts.some(({ type }) => type === "ByteLevel");
  const normalizer = normalizerOf(json.normalizer);
  const stages = parts.map((part) => stageOf(part, json.normalizer));
  // Byte vocabularies are cut by their patterns; the others join across spaces and are cut where that is safe.
  const cut = bytes ? (word: string) => [word] : cutAtSpaces(pieces.keys());
  const decoder = decoderOf(json.decoder, bytes);
  return {
    normalize: (text) => normalizer?.normalize(text) ?? text,
    words(text, section) {
      let words = [text];
      for (const stage of stages) words = stage(words, section);
      return words.flatMap((word) => (word === "" ? [] : cut(word)));
    },
    spell: bytes ? spellBytes : (word) => word,
    ...decoder,
  };
}

// The library's declarations import each other without endings, which "nodenext" does not resolve (@huggingface/tokenizers
// 0.2.0): what is used of it is declared here, until that resolves.
declare module "@huggingface/tokenizers" {
  class SequenceNormalizer {
    constructor(config: { type: "Sequence"; normalizers: readonly unknown[] });
    normalize(text: string): string;
  }
  class SplitPreTokenizer {
    constructor(config: JsonObject);
    readonly pattern: RegExp;
  }
}

/** By how much normalizers may lengthen a text. Published ones replace a character by one of up to three. */
const MOST_GROWTH = 16;
/** Characters that a Prepend may put in front. */
const LONGEST_PREFIX = 64;

/** The library's sequence of one: it takes any normalizer, and a page's bundle leaves the library's models out. */
function normalizerOf(part: unknown): SequenceNormalizer | null {
  if (part === undefined || part === null) return null;
  const parts = flatten(part, "normalizers", "normalizer");
  const growth = parts.map(growthOf).reduce((product, one) => product * one, 1);
  if (growth > MOST_GROWTH)
    throw new UnsupportedError(
      `a normalizer that makes texts ${growth} times as long (${PLACE}; at most ${MOST_GROWTH})`,
    );
  const normalizers = parts.map((one) =>
    // In a replacement JavaScript would read $& and the like; in the Rust library it is plain text.
    typeof one.content === "string" ? { ...one, content: one.content.replaceAll("$", "$$$$") } : one,
  );
  return built("normalizer", part, () => new SequenceNormalizer({ type: "Sequence", normalizers }));
}

/** How many characters a Replace makes of one; 1 for what does not lengthen. */
function growthOf({ type, pattern, content, prepend }: JsonObject): number {
  // The library would write out whatever stands there.
  for (const [kind, key, value] of [
    ["Prepend", "prepend", prepend],
    ["Replace", "content", content],
  ])
    if (type === kind && typeof value !== "string")
      throw new FormatError(`${PLACE}: normalizer.${key}`, describe(value), "a text");
  if (type === "Prepend" && (prepend as string).length > LONGEST_PREFIX)
    throw new UnsupportedError(
      `the normalizer Prepend of ${(prepend as string).length} characters (${PLACE}; at most ${LONGEST_PREFIX})`,
    );
  if (type !== "Replace") return 1;
  const least = patternLength(pattern, `${PLACE}: normalizer`);
  return Math.max(1, (content as string).length / least);
}

/**
 * Checks a pattern of the file and gives the fewest characters that it matches. The library prints a line and goes on
 * without a pattern that it does not know.
 */
function patternLength(value: unknown, where: string): number {
  const pattern = asObject(value, `${where}.pattern`);
  const text = pattern.Regex ?? pattern.String;
  if (typeof text !== "string" || text === "")
    throw new FormatError(`${where}.pattern`, describe(value), "{ String: text } or { Regex: text }");
  if (pattern.Regex === undefined) return text.length;
  checkPattern(text, where);
  return 1;
}

function splitOf(part: JsonObject): RegExp {
  patternLength(part.pattern, `${PLACE}: pre_tokenizer`);
  return built("pre-tokenizer", part, () => new SplitPreTokenizer(part)).pattern;
}

/** What stands between the matches of the pattern. */
function between(pattern: RegExp): (word: string) => string[] {
  return (word) => {
    const kept: string[] = [];
    let from = 0;
    for (const match of word.matchAll(pattern)) {
      kept.push(word.slice(from, match.index));
      from = match.index + match[0].length;
    }
    return [...kept, word.slice(from)].filter((text) => text !== "");
  };
}

/** The library's own message may hold any value of the file, in JavaScript's words. */
function built<Part>(name: string, part: unknown, build: () => Part): Part {
  try {
    return build();
  } catch {
    throw new UnsupportedError(`the ${name} ${describe(part)} of ${PLACE}`);
  }
}

/** The parts of a Sequence, at any depth; one part otherwise. */
function flatten(value: unknown, list: string, where: string): JsonObject[] {
  if (value === undefined || value === null) return [];
  const part = asObject(value, `${PLACE}: ${where}`);
  if (part.type !== "Sequence") return [part];
  const parts = part[list];
  if (!Array.isArray(parts)) throw new FormatError(`${PLACE}: ${where}.${list}`, describe(parts), "a list");
  return parts.flatMap((inner, at) => flatten(inner, list, `${where}[${at}]`));
}

function stageOf(part: JsonObject, normalizer: unknown): Stage {
  switch (part.type) {
    case "ByteLevel": {
      if (part.add_prefix_space === true) break;
      if (part.use_regex === false) return (words) => words;
      const cut = cutByPatterns(GPT2_PATTERNS);
      return (words) => words.flatMap(cut);
    }
    case "Digits": {
      const cut = cutByPatterns([part.individual_digits === true ? /\p{N}/gu : /\p{N}+/gu]);
      return (words) => words.flatMap(cut);
    }
    case "Metaspace":
      return metaspace(part);
    case "Split": {
      if (part.behavior === "Isolated" || (part.behavior === "Removed" && part.invert !== true)) {
        const pattern = splitOf(part);
        const cut = part.behavior === "Isolated" ? cutByPatterns([pattern]) : between(pattern);
        return (words) => words.flatMap(cut);
      }
      // Gemma splits at spaces that its normalizer has already replaced.
      if (isSpace(part.pattern) && replacesSpaces(normalizer)) return (words) => words;
      throw new UnsupportedError(
        `the pre-tokenizer Split with the behavior ${describe(part.behavior)} (${PLACE})`,
      );
    }
  }
  throw new UnsupportedError(`the pre-tokenizer ${describe(part)} of ${PLACE}`);
}

function isSpace(pattern: unknown): boolean {
  return (pattern as { String?: unknown } | undefined)?.String === " ";
}

function replacesSpaces(normalizer: unknown): boolean {
  return flatten(normalizer, "normalizers", "normalizer").some(
    (part) => part.type === "Replace" && isSpace(part.pattern),
  );
}

/** Spaces become ▁, and one more comes in front: of every section ("always"), of the text ("first"), or never. */
function metaspace(part: JsonObject): Stage {
  if ((part.replacement ?? SPACE) !== SPACE)
    throw new UnsupportedError(`the pre-tokenizer ${describe(part)} of ${PLACE}`);
  const scheme = part.add_prefix_space === false ? "never" : (part.prepend_scheme ?? "always");
  return (words, section) =>
    words.flatMap((word) => {
      const spaced = word.replaceAll(" ", SPACE);
      const prefix = scheme === "always" || (scheme === "first" && section.first);
      const whole = prefix && !spaced.startsWith(SPACE) ? SPACE + spaced : spaced;
      return part.split === false ? [whole] : whole.split(/(?=\u2581)/u);
    });
}

/** How tokens become text. Known: ByteLevel; ▁ as a space, with byte tokens, with or without a first space dropped. */
function decoderOf(value: unknown, bytes: boolean): Pick<Pipeline, "unspell" | "dropsFirstSpace"> {
  const parts = flatten(value, "decoders", "decoder");
  if (parts.some(({ type }) => type === "ByteLevel") || (bytes && parts.length === 0)) {
    return { unspell: unspellBytes, dropsFirstSpace: false };
  }
  let dropsFirstSpace = false;
  for (const part of parts) {
    const { type, content, start, stop } = part;
    if (type === "Metaspace") {
      dropsFirstSpace = part.prepend_scheme !== "never" && part.add_prefix_space !== false;
    } else if (type === "Strip" && content === " " && start === 1 && (stop ?? 0) === 0) {
      dropsFirstSpace = true;
    } else if (type !== "ByteFallback" && type !== "Fuse" && !(type === "Replace" && content === " ")) {
      throw new UnsupportedError(`the decoder ${describe(part)} of ${PLACE}`);
    }
  }
  return { unspell: (text) => utf8Bytes(text.replaceAll(SPACE, " ")), dropsFirstSpace };
}
