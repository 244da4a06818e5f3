/**
 * Tokenizers of a Hugging Face folder: tokenizer.json with tokenizer_config.json, generation_config.json and
 * special_tokens_map.json, all parsed. Together they decide which ids end a text, whether a bos comes first, and which
 * added tokens are control tokens. Byte-pair encoding only: no supported family has another model.
 */
import { FormatError, UnsupportedError } from "./errors.ts";
import { asObject, describe, type JsonObject } from "./json.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { byteOfToken } from "./tokenizer-bytes.ts";
import { endingIds, type FixedText, isEndText, looksLikeControl } from "./tokenizer-control.ts";
import { MAX_RANKS, MergeList } from "./tokenizer-merge.ts";
import { PieceTokenizer, type TokenKind } from "./tokenizer-pieces.ts";
import { pipelineOf } from "./tokenizer-pipeline.ts";

export interface TokenizerFiles {
  /** tokenizer.json */
  tokenizer: unknown;
  /** tokenizer_config.json */
  config?: unknown;
  /** generation_config.json, or config.json in its place, for the ids that end a text. */
  generation?: unknown;
  /** special_tokens_map.json, for names that tokenizer_config.json does not have. */
  specialTokens?: unknown;
}

const PLACE = "tokenizer.json";

/** The tokenizer of a folder. Throws FormatError for damaged files, UnsupportedError for unknown parts. */
export async function tokenizerFromFolder(files: TokenizerFiles): Promise<Tokenizer> {
  const json = asObject(files.tokenizer, PLACE);
  const model = asObject(json.model, `${PLACE}: model`);
  refuseOtherModels(model);
  const tokens = new TokenTable(model, json.added_tokens);
  const { texts, kinds, pieces } = tokens;
  const added = readAdded(json.added_tokens, tokens);
  const byteIds = new Int32Array(256).fill(-1);
  const pipeline = pipelineOf(json, pieces);
  if (model.byte_fallback === true) {
    for (const [text, id] of pieces) if (byteOfToken(text) >= 0) byteIds[byteOfToken(text)] = id;
    for (const id of byteIds) if (id >= 0) kinds[id] = "byte";
    for (const id of byteIds) if (id >= 0) pieces.delete(texts[id]);
  }
  const names = new SpecialNames(files, texts, new Map([...pieces, ...added.byText]));
  const bosId = names.id("bos_token");
  const gaps = kinds.filter((kind) => kind === "none").length;
  return new PieceTokenizer({
    ...pipeline,
    texts,
    kinds,
    place: `${PLACE}: added_tokens`,
    pieces,
    joins: readMerges(model, pieces, added.byText),
    byteIds,
    unknownId: typeof model.unk_token === "string" ? (names.find(model.unk_token) ?? null) : null,
    fixed: added.fixed,
    controls: added.controls,
    // If texts become equal, the last counts in the Rust library, the first in ours.
    normalized: added.normalized
      .map((token) => ({ ...token, text: pipeline.normalize(token.text) }))
      .reverse(),
    wholeWords: model.ignore_merges === true,
    bosId,
    addBos: bosId !== null && (startsWithToken(json.post_processor, texts[bosId]) ?? names.asksForBos()),
    endIds: new Set([...names.endIds(), ...endingIds(added.ends)]),
    warnings:
      gaps > 0
        ? [
            `${gaps} of the ${kinds.length} ids of ${PLACE} have no token; if the model chooses one, it adds no text`,
          ]
        : [],
  });
}

function refuseOtherModels(model: JsonObject): void {
  const type = model.type ?? (model.merges === undefined ? undefined : "BPE");
  if (type !== "BPE")
    throw new UnsupportedError(`the tokenizer model ${describe(type)} (${PLACE})`, "Known: BPE");
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if (model[key]) throw new UnsupportedError(`${key} ${describe(model[key])} in ${PLACE}`);
  }
}

/** The ids of model.vocab, with space for the added ones. */
class TokenTable {
  readonly texts: string[] = [];
  readonly kinds: TokenKind[] = [];
  readonly pieces = new Map<string, number>();
  /** Ids may have gaps, but only a few, so that a made-up id cannot use up memory. */
  readonly #ids: number;

  constructor(model: JsonObject, added: unknown) {
    const vocab = asObject(model.vocab, `${PLACE}: model.vocab`);
    const entries = Object.entries(vocab);
    const count = entries.length + (Array.isArray(added) ? added.length : 0);
    this.#ids = Math.min(count * 4 + 65536, MAX_RANKS);
    for (const [text, id] of entries) {
      this.put(id, text, "piece", () => `${PLACE}: model.vocab[${describe(text)}]`);
      if (text !== "") this.pieces.set(text, id as number);
    }
  }

  /** Puts a token at its id, and returns the id. */
  put(id: unknown, text: string, kind: TokenKind, where: () => string): number {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= this.#ids) {
      throw new FormatError(where(), describe(id), `a token id, 0 to ${this.#ids - 1}`);
    }
    while (this.texts.length <= (id as number)) {
      this.texts.push("");
      this.kinds.push("none");
    }
    this.texts[id as number] = text;
    this.kinds[id as number] = kind;
    return id as number;
  }
}

/**
 * Added tokens are found in the raw text. Control tokens are removed from `pieces`, so that merging never produces one;
 * others (runs of ▁ in Gemma) may also result from merges. "normalized" ones are found in normalized text, except
 * control tokens: templates write them, and a normalizer that inserts a space would hide them.
 */
function readAdded(value: unknown, tokens: TokenTable) {
  const { pieces } = tokens;
  const fixed: FixedText[] = [];
  const controls: FixedText[] = [];
  const normalized: FixedText[] = [];
  const ends: FixedText[] = [];
  const byText = new Map<string, number>();
  if (value !== undefined && !Array.isArray(value)) {
    throw new FormatError(`${PLACE}: added_tokens`, describe(value), "a list");
  }
  for (const [at, entry] of (value ?? []).entries()) {
    const where = `${PLACE}: added_tokens[${at}]`;
    const { id: rawId, content, special, ...flags } = asObject(entry, where);
    if (typeof content !== "string") throw new FormatError(`${where}.content`, describe(content), "a text");
    const control = special === true || isEndText(content);
    const kind = control ? "control" : pieces.has(content) ? "piece" : "added";
    const id = tokens.put(rawId, content, kind, () => `${where}.id`);
    const text = {
      id,
      text: content,
      stripBefore: flags.lstrip === true,
      stripAfter: flags.rstrip === true,
      isWord: flags.single_word === true,
    };
    const guarded = control || looksLikeControl(content);
    if (guarded) pieces.delete(content);
    (guarded ? controls : flags.normalized === true ? normalized : fixed).push(text);
    byText.set(content, id);
    if (isEndText(content)) ends.push(text);
  }
  return { fixed, controls, normalized, ends, byText };
}

/** The merges, written "a b" or ["a", "b"]. Throws FormatError for one that names an unknown token. */
function readMerges(
  model: JsonObject,
  pieces: ReadonlyMap<string, number>,
  added: ReadonlyMap<string, number>,
) {
  const merges = model.merges;
  if (!Array.isArray(merges) || merges.length > MAX_RANKS) {
    throw new FormatError(`${PLACE}: model.merges`, describe(merges), `a list of at most ${MAX_RANKS}`);
  }
  const list = new MergeList(merges.length);
  for (let rank = 0; rank < merges.length; rank++) {
    const merge = typeof merges[rank] === "string" ? merges[rank].split(" ") : merges[rank];
    if (!Array.isArray(merge) || merge.length !== 2 || !merge.every((part) => typeof part === "string")) {
      throw new FormatError(`${PLACE}: model.merges[${rank}]`, describe(merges[rank]), "two texts");
    }
    const lost = list.addTexts(merge[0], merge[1], rank, pieces, added);
    if (lost !== null)
      throw new FormatError(`${PLACE}: model.merges[${rank}]`, `${describe(lost)} is not a token`);
  }
  return list;
}

/** Whether the post-processor puts this text first; undefined if it says nothing. */
function startsWithToken(value: unknown, text: string): boolean | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { type, processors, single } = value as JsonObject;
  if (type === "Sequence" && Array.isArray(processors)) {
    return processors.map((part) => startsWithToken(part, text)).find((found) => found !== undefined);
  }
  if (type !== "TemplateProcessing" || !Array.isArray(single)) return undefined;
  return (single[0] as { SpecialToken?: { id?: unknown } } | undefined)?.SpecialToken?.id === text;
}

/** The tokens named in the smaller files. */
class SpecialNames {
  readonly #config: JsonObject;
  readonly #map: JsonObject;
  readonly #generation: JsonObject;

  constructor(
    files: TokenizerFiles,
    readonly texts: readonly string[],
    readonly ids: ReadonlyMap<string, number>,
  ) {
    this.#config = asObject(files.config ?? {}, "tokenizer_config.json");
    this.#map = asObject(files.specialTokens ?? {}, "special_tokens_map.json");
    this.#generation = asObject(files.generation ?? {}, "generation_config.json");
  }

  find(text: string): number | undefined {
    return this.ids.get(text);
  }

  /** The id of "bos_token" and the like; null if no file names one. */
  id(name: string): number | null {
    const text =
      specialText(this.#config[name], `tokenizer_config.json: ${name}`) ??
      specialText(this.#map[name], `special_tokens_map.json: ${name}`);
    if (text === null) return null;
    const id = this.find(text);
    if (id === undefined)
      throw new FormatError(`tokenizer_config.json: ${name}`, `${describe(text)} is not a token`);
    return id;
  }

  asksForBos(): boolean {
    return this.#config.add_bos_token === true;
  }

  endIds(): number[] {
    const listed = this.#generation.eos_token_id ?? [];
    const ids = (Array.isArray(listed) ? listed : [listed]).map((id) => {
      if (Number.isInteger(id) && id >= 0 && id < this.texts.length) return id as number;
      throw new FormatError(
        "generation_config.json (or config.json without it): eos_token_id",
        describe(id),
        `0 to ${this.texts.length - 1}`,
      );
    });
    const eos = this.id("eos_token");
    return eos === null ? ids : [...ids, eos];
  }
}

/** "bos_token": "<s>", or {"content": "<s>", ...}; null if it is missing or null. */
export function specialText(value: unknown, where: string): string | null {
  if (value === undefined || value === null) return null;
  const text = typeof value === "object" ? (value as JsonObject).content : value;
  if (typeof text === "string") return text;
  throw new FormatError(where, describe(value), "a text");
}
