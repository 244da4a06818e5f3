/**
 * The tokenizer keys of GGUF metadata, checked for type, length and range before anything is built from them, so that a
 * damaged or hostile file gives one FormatError with key and index. Key names:
 * github.com/ggml-org/ggml/blob/master/docs/gguf.md, "Tokenizer".
 */
import { FormatError } from "./errors.ts";
import { describe } from "./json.ts";
import { MAX_RANKS } from "./tokenizer-merge.ts";

export type GgufMetadata = Readonly<Record<string, unknown>>;

export const TOKENS = "tokenizer.ggml.tokens";
export const SCORES = "tokenizer.ggml.scores";
export const TYPES = "tokenizer.ggml.token_type";
export const MERGES = "tokenizer.ggml.merges";

/** llama.h's llama_token_type. */
export const TOKEN_TYPE = { normal: 1, unknown: 2, control: 3, added: 4, unused: 5, byte: 6 } as const;

/** A list of strings; null if the key is missing. */
export function stringList(metadata: GgufMetadata, key: string): readonly string[] | null {
  const value = metadata[key];
  if (value === undefined) return null;
  if (!Array.isArray(value)) throw new FormatError(key, describe(value), "a list of strings");
  if (value.length > MAX_RANKS) throw new FormatError(key, `${value.length} entries`, `at most ${MAX_RANKS}`);
  // Not `every`, which skips holes.
  for (let i = 0; i < value.length; i++) {
    if (typeof value[i] !== "string") throw new FormatError(`${key}[${i}]`, describe(value[i]), "a string");
  }
  return value;
}

/** A list of `count` finite numbers, one for each token; null if the key is missing. */
export function numberList(metadata: GgufMetadata, key: string, count: number): ArrayLike<number> | null {
  const value = metadata[key];
  if (value === undefined) return null;
  if (!Array.isArray(value) && !ArrayBuffer.isView(value)) {
    throw new FormatError(key, describe(value), "a list of numbers");
  }
  const list = value as unknown as ArrayLike<unknown>;
  if (list.length !== count)
    throw new FormatError(key, `${list.length} entries`, `${count}, one for each token`);
  for (let i = 0; i < count; i++) {
    const found = list[i];
    if (Number.isFinite(found)) continue;
    const shown = typeof found === "number" ? `${found}` : describe(found);
    throw new FormatError(`${key}[${i}]`, shown, "a finite number");
  }
  return list as ArrayLike<number>;
}

/** A text; null if the key is missing. */
export function textValue(metadata: GgufMetadata, key: string): string | null {
  const value = metadata[key];
  if (value === undefined || typeof value === "string") return value ?? null;
  throw new FormatError(key, describe(value), "a text");
}

/** A boolean; null if the key is missing. */
export function flag(metadata: GgufMetadata, key: string): boolean | null {
  const value = metadata[key];
  if (value === undefined || typeof value === "boolean") return value ?? null;
  throw new FormatError(key, describe(value), "true or false");
}

/** A token id, `tokenizer.ggml.<name>_token_id`; null if the key is missing. */
export function tokenId(metadata: GgufMetadata, name: string, vocab: number): number | null {
  const key = `tokenizer.ggml.${name}_token_id`;
  const value = metadata[key];
  if (value === undefined) return null;
  if (Number.isInteger(value) && (value as number) >= 0 && (value as number) < vocab) return value as number;
  // Converters write -1, or its unsigned equivalent, for "none".
  if (value === -1 || value === 0xffffffff) return null;
  throw new FormatError(key, describe(value), `a token id, 0 to ${vocab - 1}`);
}

/** The tokens; throws FormatError if there are none. */
export function tokenTexts(metadata: GgufMetadata): readonly string[] {
  const texts = stringList(metadata, TOKENS);
  if (texts === null || texts.length === 0) {
    throw new FormatError(TOKENS, texts === null ? "missing" : "0 tokens", "the texts of the vocabulary");
  }
  return texts;
}
