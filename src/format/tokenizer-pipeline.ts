/**
 * A tokenizer.json's processing around the merges: normalizer, pre-tokenizer and decoder. Only parts whose results
 * equal those of the Rust library are accepted; any other is an UnsupportedError that names it.
 */
import { FormatError, UnsupportedError } from "./errors.ts";
import { asObject, describe, type JsonObject } from "./json.ts";
import { spellBytes, unspellBytes, utf8Bytes } from "./tokenizer-bytes.ts";
import { normalizerOf } from "./tokenizer-normalizer.ts";
import { filePattern } from "./tokenizer-patterns.ts";
import type { Vocabulary } from "./tokenizer-pieces.ts";
import {
  cutAtSpaces,
  cutByPatterns,
  cutEach,
  GPT2_PATTERNS,
  SPACE,
  type WordCut,
  type Words,
} from "./tokenizer-words.ts";

export type Pipeline = Pick<Vocabulary, "words" | "spell" | "unspell" | "dropsFirstSpace"> & {
  normalize(text: string): string;
};

type Section = Parameters<Vocabulary["words"]>[1];
type Stage = (words: Words, section: Section) => Words;

const PLACE = "tokenizer.json";

/** The pipeline of a parsed tokenizer.json. `pieces`: the texts that merging can produce. */
export function pipelineOf(json: JsonObject, pieces: ReadonlyMap<string, number>): Pipeline {
  const parts = flatten(json.pre_tokenizer, "pretokenizers", "pre_tokenizer");
  const bytes = parts.some(({ type }) => type === "ByteLevel");
  const normalize = normalizerOf(flatten(json.normalizer, "normalizers", "normalizer"));
  const stages = parts.map((part) => stageOf(part, json.normalizer));
  // Byte vocabularies are cut by their patterns; the others merge across spaces and are cut where that is safe.
  const last: Stage = bytes ? (words) => words : each(cutAtSpaces(pieces.keys()));
  const decoder = decoderOf(json.decoder, bytes);
  return {
    normalize,
    words(text, section) {
      if (text === "") return [];
      return [...stages, last].reduce<Words>((words, stage) => stage(words, section), [[text]]);
    },
    spell: bytes ? spellBytes : (word) => word,
    ...decoder,
  };
}

const each =
  (cut: WordCut): Stage =>
  (words) =>
    cutEach(words, cut);

/** The text between the matches of the pattern. */
function between(pattern: RegExp): WordCut {
  return (word) => {
    const kept: string[] = [];
    let from = 0;
    for (const match of word.matchAll(pattern)) {
      kept.push(word.slice(from, match.index));
      from = match.index + match[0].length;
    }
    kept.push(word.slice(from));
    return [kept.filter((text) => text !== "")];
  };
}

/** The parts of a Sequence, at any depth; otherwise the part itself. */
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
      return each(cutByPatterns(GPT2_PATTERNS));
    }
    case "Digits": {
      return each(cutByPatterns([part.individual_digits === true ? /\p{N}/gu : /\p{N}+/gu]));
    }
    case "Metaspace":
      return metaspace(part);
    case "Split": {
      if (part.behavior === "Isolated" || (part.behavior === "Removed" && part.invert !== true)) {
        const pattern = filePattern(part.pattern, `${PLACE}: pre_tokenizer`);
        return each(part.behavior === "Isolated" ? cutByPatterns([pattern]) : between(pattern));
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

/** Spaces become ▁, and one more is inserted before every section ("always"), before the text ("first"), or never. */
function metaspace(part: JsonObject): Stage {
  if ((part.replacement ?? SPACE) !== SPACE)
    throw new UnsupportedError(`the pre-tokenizer ${describe(part)} of ${PLACE}`);
  const scheme = part.add_prefix_space === false ? "never" : (part.prepend_scheme ?? "always");
  return (words, section) =>
    cutEach(words, (word) => {
      const spaced = word.replaceAll(" ", SPACE);
      const prefix = scheme === "always" || (scheme === "first" && section.first);
      const whole = prefix && !spaced.startsWith(SPACE) ? SPACE + spaced : spaced;
      return [part.split === false ? [whole] : whole.split(/(?=\u2581)/u)];
    });
}

/** How tokens become text. Known: ByteLevel; ▁ as a space, with byte tokens, with or without dropping a first space. */
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
