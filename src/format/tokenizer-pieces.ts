/**
 * The tokenizer behind all file formats; a loader gives it a `Vocabulary`. Encoding finds fixed texts, cuts the rest
 * into words and merges each word into pieces. Every id stands for bytes, so decoding is concatenation, and only the
 * end of a stream can be half a character.
 */
import { ArgumentError, FormatError } from "./errors.ts";
import { atOnce, type Slices } from "./slices.ts";
import type { ControlToken, DecodeOptions, EncodeOptions, TextStream, Tokenizer } from "./tokenizer.ts";
import { byteOfToken, utf8Bytes } from "./tokenizer-bytes.ts";
import {
  type Counting,
  type FixedText,
  FixedTexts,
  protect,
  type Section,
  split,
} from "./tokenizer-control.ts";
import { type Joins, Merger } from "./tokenizer-merge.ts";
import { type Words, wholeCharacters } from "./tokenizer-words.ts";

/**
 * Kinds of ids. `control` tokens are left out of decoded text; `added` ones are text, but never result from merging.
 */
export type TokenKind = "piece" | "byte" | "added" | "control" | "none";

export interface Vocabulary {
  /** By id; "none" for ids without a token. */
  readonly kinds: readonly TokenKind[];
  /** By id, as in the file. */
  readonly texts: readonly string[];
  /** The place of a token in errors: "tokenizer.ggml.tokens". */
  readonly place: string;
  /** Texts that merging may produce. They contain no control token, which is why text stays text. */
  readonly pieces: ReadonlyMap<string, number>;
  readonly joins: Joins;
  /** Ids of the tokens for single bytes, for characters that are not pieces; -1 if there is none. */
  readonly byteIds: Int32Array;
  /** The id for characters without bytes; null leaves them out, as in llama.cpp. */
  readonly unknownId: number | null;
  /** Tokens found in any text, and those found only where control tokens are allowed. */
  readonly fixed: readonly FixedText[];
  readonly controls: readonly FixedText[];
  /** tokenizer.json's "normalized" tokens: found in the normalized text between those of `fixed`. */
  readonly normalized?: readonly FixedText[];
  /** Applied to a section of text before it is cut; default: nothing. */
  normalize?(text: string): string;
  /** Cuts a section of text into words. `afterToken`: at the start or after a fixed text; `first`: at the start. */
  words(text: string, section: { first: boolean; afterToken: boolean }): Words;
  /** A word as the vocabulary spells it. */
  spell(word: string): string;
  /** A token's bytes from its text. */
  unspell(text: string): Uint8Array;
  readonly wholeWords: boolean;
  /** Whether encoding inserts a first space that decoding removes. */
  readonly dropsFirstSpace: boolean;
  readonly endIds: ReadonlySet<number>;
  readonly bosId: number | null;
  readonly addBos: boolean;
  readonly warnings?: readonly string[];
}

/** A cache of words with their ids: prose repeats itself. The limits keep it to some ten megabytes. */
const REMEMBERED = 65536;
const REMEMBERED_LENGTH = 48;

/** Every supported engine has it; TypeScript knows it from ES2024 on. */
declare global {
  interface String {
    toWellFormed(): string;
  }
}

/** Characters between two pauses: a few milliseconds for words that were never seen. */
const SLICE = 8192;

const NOTHING = new Uint8Array(0);
const BLANK = 0x20;

export class PieceTokenizer implements Tokenizer {
  readonly vocab: number;
  readonly endIds: ReadonlySet<number>;
  readonly bosId: number | null;
  readonly addBos: boolean;
  readonly warnings: readonly string[];
  readonly #vocabulary: Vocabulary;
  readonly controlIds: ReadonlySet<number>;
  readonly #controls: FixedTexts;
  /** For text where control tokens are allowed, and where they are not. */
  readonly #special: Counting;
  readonly #plain: Counting;
  /** null: there are none. */
  readonly #normalized: Counting | null;
  readonly #merger: Merger;
  readonly #known = new Map<string, number[]>();
  readonly #bytes: (Uint8Array | undefined)[] = [];

  constructor(vocabulary: Vocabulary) {
    const { fixed, controls, normalized = [], pieces, joins, place } = vocabulary;
    this.#vocabulary = vocabulary;
    const plain = new FixedTexts(fixed, place);
    this.#plain = { all: plain, plain };
    this.#special = { all: new FixedTexts([...controls, ...fixed], place), plain };
    const inside = new FixedTexts(normalized, place);
    this.#normalized = normalized.length > 0 ? { all: inside, plain: inside } : null;
    this.#controls = new FixedTexts(controls, place);
    this.controlIds = new Set(controls.map(({ id }) => id));
    this.#merger = new Merger(joins, (character) => pieces.get(character));
    this.vocab = vocabulary.texts.length;
    this.endIds = vocabulary.endIds;
    this.bosId = vocabulary.bosId;
    this.addBos = vocabulary.addBos;
    this.warnings = vocabulary.warnings ?? [];
  }

  encode(text: string, options?: EncodeOptions): number[] {
    return atOnce(this.slices(text, options));
  }

  *slices(text: string, { special = false, literals = [] }: EncodeOptions = {}): Slices<number[]> {
    const ids: number[] = [];
    let [first, afterToken, read] = [true, true, 0];
    for (const section of this.#sections(text.toWellFormed(), literals, special)) {
      const isToken = typeof section !== "string";
      if (isToken) ids.push(section.id);
      for (const words of isToken ? [] : this.#vocabulary.words(section, { first, afterToken })) {
        for (const word of words) {
          const long = this.#encodeWord(word, ids);
          if (long) yield* long;
          read += word.length;
        }
        if (read < SLICE) continue;
        read = 0;
        yield;
      }
      if (isToken && (ids.length & 1023) === 0) yield;
      first = false;
      afterToken = isToken;
    }
    return ids;
  }

  /** Tokens, and normalized text between them. */
  *#sections(text: string, literals: readonly number[], special: boolean): Iterable<Section> {
    const { normalize = (part: string) => part } = this.#vocabulary;
    for (const section of split({ text, literals }, special ? this.#special : this.#plain)) {
      if (typeof section !== "string") yield section;
      else if (this.#normalized) yield* split({ text: normalize(section), literals: [] }, this.#normalized);
      else yield normalize(section);
    }
  }

  /** null: done; otherwise the remaining work for a long word. */
  #encodeWord(word: string, ids: number[]): Slices<void> | null {
    const known = this.#known.get(word);
    if (known) {
      for (const id of known) ids.push(id);
    } else if (word.length > REMEMBERED_LENGTH) {
      return this.#join(word, ids);
    } else {
      const found: number[] = [];
      atOnce(this.#join(word, found));
      for (const id of found) ids.push(id);
      if (this.#known.size >= REMEMBERED) this.#known.clear();
      this.#known.set(detached(word), found);
    }
    return null;
  }

  *#join(word: string, ids: number[]): Slices<void> {
    const { spell, pieces, wholeWords, byteIds, unknownId } = this.#vocabulary;
    let spelled = "";
    for (let at = 0; at < word.length; ) {
      // Characters are spelled one by one, so a long word can come in parts.
      const end = wholeCharacters(word, at + SLICE);
      spelled += spell(word.slice(at, end));
      at = end;
      if (at < word.length) yield;
    }
    const whole = wholeWords ? pieces.get(spelled) : undefined;
    if (whole !== undefined) {
      ids.push(whole);
      return;
    }
    yield* this.#merger.slices(spelled, {
      piece: (id) => ids.push(id),
      unknown: (text, start, end) => {
        const bytes = utf8Bytes(text.slice(start, end));
        if (bytes.every((byte) => byteIds[byte] >= 0)) for (const byte of bytes) ids.push(byteIds[byte]);
        else if (unknownId !== null) ids.push(unknownId);
      },
    });
  }

  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    const spelling = this.#spelling(options);
    const parts: Uint8Array[] = [];
    let length = 0;
    for (const id of ids) {
      const bytes = spelling(id);
      length += bytes.length;
      parts.push(bytes);
    }
    const all = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(all);
  }

  bytes(id: number, { special }: Pick<DecodeOptions, "special"> = {}): Uint8Array {
    return this.#spelling({ special, continues: true })(id);
  }

  stream(options: DecodeOptions = {}): TextStream {
    const spelling = this.#spelling(options);
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return {
      push: (id) => decoder.decode(spelling(id), { stream: true }),
      end: () => decoder.decode(),
    };
  }

  fit(rows: number): Tokenizer {
    if (rows >= this.vocab) return this;
    const { kinds, texts, place, bosId, unknownId, ...rest } = this.#vocabulary;
    const needed = kinds.findIndex((kind, id) => id >= rows && (kind === "piece" || kind === "byte"));
    const lost = needed >= 0 ? needed : bosId !== null && bosId >= rows ? bosId : null;
    if (lost !== null)
      throw new FormatError(
        place,
        `${this.vocab} tokens, of which ${JSON.stringify(texts[lost])} is number ${lost}`,
        `${rows}, the rows of the model's matrix`,
      );
    const within = (tokens: readonly FixedText[] = []) => tokens.filter(({ id }) => id < rows);
    return new PieceTokenizer({
      ...rest,
      ...{ place, bosId, kinds: kinds.slice(0, rows), texts: texts.slice(0, rows) },
      unknownId: unknownId !== null && unknownId < rows ? unknownId : null,
      fixed: within(rest.fixed),
      controls: within(rest.controls),
      normalized: within(rest.normalized),
      endIds: new Set([...this.endIds].filter((id) => id < rows)),
    });
  }

  protect(text: string, except?: ReadonlySet<string>): string {
    return protect(text, this.#controls, except);
  }

  controls(text: string, literals: readonly number[]): ControlToken[] {
    const found: ControlToken[] = [];
    for (const section of split({ text, literals }, this.#special))
      if (typeof section !== "string" && this.controlIds.has(section.id)) found.push(section);
    return found;
  }

  /** The bytes of the ids in order. Only the first visible piece can lose its space. */
  #spelling({ special = false, continues = false }: DecodeOptions): (id: number) => Uint8Array {
    const { kinds, texts, dropsFirstSpace } = this.#vocabulary;
    const isWritten =
      typeof special === "boolean" ? () => special : (id: number) => special.includes(texts[id]);
    let first = dropsFirstSpace && !continues;
    return (id) => {
      if (!Number.isInteger(id) || id < 0) throw new ArgumentError("token id", id, `0 to ${this.vocab - 1}`);
      const kind = kinds[id] ?? "none";
      if (kind === "none" || (kind === "control" && !isWritten(id))) return NOTHING;
      const bytes = (this.#bytes[id] ??= this.#bytesOf(id, kind));
      const drop = first && kind === "piece" && bytes[0] === BLANK;
      first = false;
      return drop ? bytes.subarray(1) : bytes;
    };
  }

  #bytesOf(id: number, kind: TokenKind): Uint8Array {
    const { texts, unspell } = this.#vocabulary;
    if (kind === "byte") return Uint8Array.of(byteOfToken(texts[id]));
    return kind === "piece" ? unspell(texts[id]) : utf8Bytes(texts[id]);
  }
}

/** A copy of a substring that does not keep the whole document in memory. */
function detached(word: string): string {
  const units: number[] = [];
  for (let at = 0; at < word.length; at++) units.push(word.charCodeAt(at));
  return String.fromCharCode(...units);
}
