/**
 * Cuts text into the words inside which merging happens: pre-tokenizers by the names in GGUF files
 * (`tokenizer.ggml.pre`), and the cut at spaces for SentencePiece vocabularies. A pre-tokenizer is a list of patterns;
 * each isolates its matches in what the previous one left. Names and patterns are those of the publishers'
 * tokenizer.json, listed in llama.cpp's src/llama-vocab.cpp.
 */
import { UnsupportedError } from "./errors.ts";

/** The words of a text in order, some at a time, so that a long text is cut only as far as needed. */
export type Words = Iterable<readonly string[]>;
export type WordCut = (text: string) => Words;

export interface PreTokenizer {
  readonly patterns: readonly RegExp[];
  /** A word that is itself a piece is not split and merged again. */
  readonly wholeWords?: boolean;
  /** Whether a bos comes first if the file does not say. */
  readonly addBos?: boolean;
}

// Building blocks. The contractions ignore case in ASCII only, as in llama.cpp.
const CONTRACTION = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const LEAD = "[^\\r\\n\\p{L}\\p{N}]?";
const SPACES = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const MARKS = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*";

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const LLAMA3 = `${CONTRACTION}|${LEAD}\\p{L}+|\\p{N}{1,3}|${MARKS}|${SPACES}`;
const QWEN2 = `${CONTRACTION}|${LEAD}\\p{L}+|\\p{N}|${MARKS}|${SPACES}`;
const QWEN35 = `${CONTRACTION}|${LEAD}[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${SPACES}`;
const TEKKEN = `${LEAD}${UPPER}*${LOWER}+|${LEAD}${UPPER}+${LOWER}*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`;
const GPT4O =
  `${LEAD}${UPPER}*${LOWER}+${CONTRACTION}?|${LEAD}${UPPER}+${LOWER}*${CONTRACTION}?` +
  `|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${SPACES}`;
const DEEPSEEK3 =
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" +
  `| ?[\\p{P}\\p{S}]+[\\r\\n]*|${SPACES}`;

/** A pattern of the tables above. JavaScript's \s includes U+FEFF and lacks U+0085; theirs is Unicode's White_Space. */
function pattern(source: string): RegExp {
  return new RegExp(source.replaceAll("\\s", "\\p{White_Space}").replaceAll("\\S", "\\P{White_Space}"), "gu");
}

function cut(...sources: string[]): PreTokenizer {
  return { patterns: sources.map(pattern) };
}

const gpt2 = cut(GPT2);
const llama3 = cut(LLAMA3);
const llama3Whole = { ...llama3, wholeWords: true, addBos: true };
const qwen2 = cut(QWEN2);
const digits = cut("\\p{N}", GPT2);
const gpt4o = cut(GPT4O);

const BY_NAME: ReadonlyMap<string, PreTokenizer> = new Map([
  ...named(gpt2, "gpt-2 phi-2 mpt olmo jais trillion exaone4 gigachat mellum a.x-4.0 granite-docling"),
  ...named(llama3Whole, "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2"),
  ...named(llama3, "smaug-bpe dbrx glm4 chatglm-bpe"),
  ...named(qwen2, "qwen2 deepseek-r1-qwen stablelm2 hunyuan megrez grok-2 solar-open"),
  ...named(cut(QWEN35), "qwen35"),
  ...named({ ...cut(TEKKEN), wholeWords: true, addBos: true }, "tekken"),
  ...named(gpt4o, "gpt-4o llama4"),
  ...named(digits, "starcoder refact command-r smollm codeshell exaone minerva-7b"),
  ...named(cut("\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3), "deepseek-v3"),
  // llama.cpp's choice for files from before the key existed.
  ...named(cut("[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"), "default"),
]);

function named(pre: PreTokenizer, names: string): [string, PreTokenizer][] {
  return names.split(" ").map((name) => [name, pre]);
}

/** The pre-tokenizer of a `tokenizer.ggml.pre` name; throws UnsupportedError for an unknown one. */
export function preTokenizer(name: string): PreTokenizer {
  const found = BY_NAME.get(name);
  if (found) return found;
  throw new UnsupportedError(
    `the pre-tokenizer ${JSON.stringify(name)} (tokenizer.ggml.pre)`,
    `Known ones: ${[...BY_NAME.keys()].join(", ")}`,
  );
}

/** GPT-2's pattern, which a tokenizer.json calls ByteLevel with use_regex. */
export const GPT2_PATTERNS = gpt2.patterns;

/**
 * Maximum characters matched at once. V8 fails (RangeError) on a match of some millions of characters; a document
 * without such a run is cut exactly as if it were matched as a whole.
 */
const WINDOW = 2 ** 20;
/** Characters matched first; more only if they are one word. */
const FIRST_WINDOW = 2 ** 14;

/** Cuts text by the patterns, one after the other. The words joined are the text. */
export function cutByPatterns(patterns: readonly RegExp[], window = WINDOW): WordCut {
  const [first, ...others] = patterns.map(
    (pattern): WordCut =>
      (text) =>
        isolated(text, pattern, window),
  );
  return (text) => others.reduce(cutEach, first(text));
}

/** Cuts each of the words further. */
export function* cutEach(words: Words, cut: WordCut): Words {
  for (const some of words) {
    const finer: string[] = [];
    for (const word of some) for (const parts of cut(word)) for (const part of parts) finer.push(part);
    yield finer;
  }
}

/** The matches of the pattern and the text between them, window by window. */
function* isolated(text: string, pattern: RegExp, window: number): Words {
  let size = Math.min(FIRST_WINDOW, window);
  for (let from = 0; from < text.length; ) {
    const part =
      text.length - from <= size ? text.slice(from) : text.slice(from, wholeCharacters(text, from + size));
    const isLast = from + part.length === text.length;
    const words: string[] = [];
    let done = 0;
    let lastWord = 0;
    pattern.lastIndex = 0;
    for (let match = pattern.exec(part); match !== null; match = pattern.exec(part)) {
      // The last word of a window might continue after it: it is left for the next one, unless it is the only one.
      lastWord = done;
      if (match.index > done) words.push(part.slice(done, match.index));
      if (match[0] === "") pattern.lastIndex++;
      else words.push(match[0]);
      done = match.index + match[0].length;
    }
    if (done < part.length) words.push(part.slice(done));
    if (!isLast && lastWord === 0 && size < window) {
      size = Math.min(window, size * 2);
      continue;
    }
    from += part.length;
    if (!isLast && lastWord > 0) from -= dropTail(words, part.length - lastWord);
    size = Math.min(FIRST_WINDOW, window);
    yield words;
  }
}

/** Takes back the words that make up the last `length` characters. */
function dropTail(words: string[], length: number): number {
  let dropped = 0;
  while (dropped < length) dropped += words.pop()!.length;
  return dropped;
}

/** The end, or one unit less if it would split a character. */
export function wholeCharacters(text: string, end: number): number {
  const unit = text.charCodeAt(end);
  return unit >= 0xdc00 && unit <= 0xdfff ? end - 1 : end;
}

/** What SentencePiece writes for a space. */
export const SPACE = "\u2581";

/**
 * The cut for vocabularies that merge across whole texts: before each "▁" that follows another character, since no
 * piece contains such a pair (`pieces` is searched for exceptions). No merge can cross such a border, so merging word
 * by word gives the same result as merging the whole text, and words can be cached. `plain`: spaces of the text are not
 * yet written as "▁".
 */
export function cutAtSpaces(pieces: Iterable<string>, plain = false): WordCut {
  const space = plain ? /[ \u2581]/g : /\u2581/g;
  const joined = new Set<string>(plain ? [SPACE, " "] : [SPACE]);
  for (const piece of pieces) {
    for (let at = piece.indexOf(SPACE, 1); at > 0; at = piece.indexOf(SPACE, at + 1))
      joined.add(piece[at - 1]);
  }
  const written = (word: string) => (plain ? word.replaceAll(" ", SPACE) : word);
  return function* (text) {
    let words: string[] = [];
    let from = 0;
    for (const { index } of text.matchAll(space)) {
      if (index === 0 || joined.has(text[index - 1])) continue;
      words.push(written(text.slice(from, index)));
      from = index;
      if (words.length < MOST_AT_ONCE) continue;
      yield words;
      words = [];
    }
    if (from < text.length) words.push(written(text.slice(from)));
    yield words;
  };
}

/** Words that are passed on together. */
const MOST_AT_ONCE = 1024;
