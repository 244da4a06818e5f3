/**
 * Tokenizers of GGUF metadata: byte-level BPE ("gpt2"), SentencePiece with scores ("llama": Llama 2, Mistral, Gemma 1
 * to 3) and Gemma 4's merges over plain text ("gemma4"). Missing keys have llama.cpp's defaults. A token's type says
 * how text may become it: by merging, wherever its text occurs, or only where control tokens are allowed.
 */
import { FormatError, UnsupportedError } from "./errors.ts";
import { describe } from "./json.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { byteOfToken, spellBytes, unspellBytes, utf8Bytes } from "./tokenizer-bytes.ts";
import { endingIds, type FixedText, isEndText, looksLikeControl } from "./tokenizer-control.ts";
import { type Joins, MergeList, ScoreList } from "./tokenizer-merge.ts";
import {
  flag,
  type GgufMetadata,
  MERGES,
  numberList,
  SCORES,
  stringList,
  TOKEN_TYPE,
  TOKENS,
  TYPES,
  textValue,
  tokenId,
  tokenTexts,
} from "./tokenizer-metadata.ts";
import { PieceTokenizer, type TokenKind, type Vocabulary } from "./tokenizer-pieces.ts";
import { cutAtSpaces, cutByPatterns, preTokenizer, SPACE } from "./tokenizer-words.ts";

const PRE = "tokenizer.ggml.pre";
const WITHOUT_PRE = `the file does not name its pre-tokenizer (${PRE} is missing): a guess is used, and answers may be worse. Convert the model again, or set it: gguf-new-metadata --pre-tokenizer NAME OLD.gguf NEW.gguf`;
const WITHOUT_SCORES = `the vocabulary has no scores (${SCORES} is missing), which order the merges: all count as equal, and answers may be worse`;

/** The differences between the three kinds of vocabulary. */
type Way = Pick<
  Vocabulary,
  "joins" | "words" | "spell" | "unspell" | "wholeWords" | "dropsFirstSpace" | "byteIds" | "warnings"
> & { addBos: boolean };

/**
 * The tokenizer of the metadata. Throws FormatError with key and index for damaged values, UnsupportedError for an
 * unknown kind of vocabulary or pre-tokenizer.
 */
export async function tokenizerFromGguf(metadata: GgufMetadata): Promise<Tokenizer> {
  const model = textValue(metadata, "tokenizer.ggml.model");
  const texts = tokenTexts(metadata);
  const sorted = sortTokens(texts, numberList(metadata, TYPES, texts.length));
  const way = wayOf(model, metadata, texts, sorted);
  // llama.cpp's ids for SentencePiece files that do not name them; for other kinds no guess is safe.
  const preset = (id: number) => (model === "llama" && sorted.kinds[id] === "control" ? id : null);
  const bosId = tokenId(metadata, "bos", texts.length) ?? preset(1);
  const eosId = tokenId(metadata, "eos", texts.length) ?? preset(2);
  const asked = flag(metadata, "tokenizer.ggml.add_bos_token");
  if (asked && bosId === null) {
    throw new FormatError("tokenizer.ggml.add_bos_token", "true without tokenizer.ggml.bos_token_id");
  }
  const ends = [eosId, tokenId(metadata, "eot", texts.length), tokenId(metadata, "eom", texts.length)];
  return new PieceTokenizer({
    ...sorted,
    ...way,
    texts,
    place: TOKENS,
    unknownId: tokenId(metadata, "unknown", texts.length) ?? sorted.unknownId,
    bosId,
    // The first Gemma 4 files say false by mistake; llama.cpp overrides them, too.
    addBos: bosId !== null && (model === "gemma4" || (asked ?? way.addBos)),
    endIds: new Set([...ends.filter((id) => id !== null), ...endingIds(sorted.ends)]),
  });
}

interface SortedTokens {
  kinds: TokenKind[];
  pieces: Map<string, number>;
  fixed: FixedText[];
  controls: FixedText[];
  byteIds: Int32Array;
  unknownId: number | null;
  ends: FixedText[];
}

/** Sorts the ids by their types. Without types all are pieces, except those spelled like a byte token. */
function sortTokens(texts: readonly string[], types: ArrayLike<number> | null): SortedTokens {
  const kinds: TokenKind[] = new Array(texts.length).fill("piece");
  const pieces = new Map<string, number>();
  const sorted = { fixed: [] as FixedText[], controls: [] as FixedText[], ends: [] as FixedText[] };
  const byteIds = new Int32Array(256).fill(-1);
  let unknownId: number | null = null;
  for (let id = 0; id < texts.length; id++) {
    const text = texts[id];
    const type = types ? types[id] : byteOfToken(text) >= 0 ? TOKEN_TYPE.byte : TOKEN_TYPE.normal;
    if (type === TOKEN_TYPE.byte) {
      const byte = byteOfToken(text);
      if (byte < 0)
        throw new FormatError(`${TOKENS}[${id}]`, `the byte token ${describe(text)}`, "<0x00> to <0xFF>");
      kinds[id] = "byte";
      byteIds[byte] = id;
    } else if (type === TOKEN_TYPE.control || type === TOKEN_TYPE.unknown) {
      kinds[id] = "control";
      sorted.controls.push({ id, text });
      if (type === TOKEN_TYPE.unknown) unknownId ??= id;
    } else if (type === TOKEN_TYPE.added) {
      const guarded = looksLikeControl(text);
      kinds[id] = isEndText(text) ? "control" : "added";
      (guarded ? sorted.controls : sorted.fixed).push({ id, text });
      if (!guarded && text !== "" && !pieces.has(text)) pieces.set(text, id);
    } else if (text !== "" && !pieces.has(text)) pieces.set(text, id);
    if (kinds[id] === "control" && isEndText(text)) sorted.ends.push({ id, text });
  }
  return { kinds, pieces, byteIds, unknownId, ...sorted };
}

function wayOf(
  model: string | null,
  metadata: GgufMetadata,
  texts: readonly string[],
  sorted: SortedTokens,
): Way {
  const { pieces, byteIds } = sorted;
  if (model === "gpt2") {
    const named = textValue(metadata, PRE);
    const pre = preTokenizer(named ?? "default");
    return {
      joins: mergesOf(metadata, sorted),
      words: cutByPatterns(pre.patterns),
      spell: spellBytes,
      unspell: unspellBytes,
      wholeWords: pre.wholeWords ?? false,
      dropsFirstSpace: false,
      // Bytes are characters of the alphabet here; there are no byte tokens as a fallback.
      byteIds: new Int32Array(256).fill(-1),
      addBos: pre.addBos ?? false,
      warnings: named === null ? [WITHOUT_PRE] : [],
    };
  }
  if (model === "llama") {
    const scores = numberList(metadata, SCORES, texts.length);
    // As in llama.cpp: all are equal, so the first pair in the text is merged first.
    const joins = new ScoreList(pieces, scores ?? new Float32Array(texts.length));
    const prefix = flag(metadata, "tokenizer.ggml.add_space_prefix") ?? true;
    const warnings = scores === null ? [WITHOUT_SCORES] : [];
    return { ...plainText(pieces, prefix, byteIds), joins, addBos: true, warnings };
  }
  if (model === "gemma4") {
    const prefix = flag(metadata, "tokenizer.ggml.add_space_prefix") ?? false;
    return { ...plainText(pieces, prefix, byteIds), joins: mergesOf(metadata, sorted), addBos: true };
  }
  const known = "Known ones: gpt2, llama, gemma4";
  throw model === null
    ? new FormatError("tokenizer.ggml.model", "missing", known)
    : new UnsupportedError(`the tokenizer ${describe(model)} (tokenizer.ggml.model)`, known);
}

/** Vocabularies over plain text, with ▁ for a space. As in llama.cpp the prefix also follows each fixed text. */
function plainText(
  pieces: ReadonlyMap<string, number>,
  prefix: boolean,
  byteIds: Int32Array,
): Omit<Way, "joins" | "addBos"> {
  const cut = cutAtSpaces(pieces.keys(), true);
  return {
    words: (text, { afterToken }) => cut((prefix && afterToken ? SPACE : "") + text),
    spell: (word) => word,
    unspell: (text) => utf8Bytes(text.replaceAll(SPACE, " ")),
    wholeWords: false,
    dropsFirstSpace: prefix,
    byteIds,
  };
}

/**
 * The merges as ids. Throws FormatError if parts or result of one are not tokens. One that involves a fixed text is
 * left out: such tokens never result from merging.
 */
function mergesOf(metadata: GgufMetadata, { pieces, fixed, controls }: SortedTokens): Joins {
  const merges = stringList(metadata, MERGES);
  if (merges === null) throw new FormatError(MERGES, "missing", `the merges of ${pieces.size} pieces`);
  const others = new Set([...fixed, ...controls].map(({ text }) => text));
  const list = new MergeList(merges.length);
  for (let rank = 0; rank < merges.length; rank++) {
    // A piece may itself be a space, so the first character never separates.
    const at = merges[rank].indexOf(" ", 1);
    if (at < 0)
      throw new FormatError(`${MERGES}[${rank}]`, describe(merges[rank]), "two texts with a space between");
    const lost = list.addTexts(merges[rank].slice(0, at), merges[rank].slice(at + 1), rank, pieces, others);
    if (lost !== null) throw new FormatError(`${MERGES}[${rank}]`, `${describe(lost)} is not a token`);
  }
  return list;
}
