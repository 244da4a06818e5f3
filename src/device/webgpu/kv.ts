/**
 * Where one layer's keys and values lie in their two GPU buffers. The kernels know it by the
 * constants of `kvConstants`; `readVector` is the inverse of appending. Refuses to know GPUs.
 * One idea: every load is a 16-byte word and neighbouring lanes read neighbouring words. A buffer is cut into pages, and a
 * page by KV head into blocks of 32 token slots.
 *
 * int4, keys: block = [group][token] words, a word holds one token's 32 codes of a group of dims (value i of the group in
 *   the low half of byte i, value i + 16 in its high half, as the codec orders them), then [group][token] scale and zero.
 * int4, values: block = [dim] words, a word holds one dim's codes of the block's 32 tokens (token i in the low half of
 *   byte i, token i + 16 in its high half), so that integer dot products run along tokens, then the same scales.
 * rq4: codes as int4 has them, then [token] f16 scales.
 * f16, keys: block = [8 dims][token] words. f16, values: [token][8 dims] words.
 * A head size that is no multiple of 32 has a whole last group of codes whose upper half stays zero: 6 bits a value at 80 for
 * int4.
 */
import { ArgumentError } from "../../format/errors.ts";
import { type Cache, PAGE_SLOTS } from "../contract.ts";
import { INT4_GROUP } from "../int4.ts";

export const KV_FORMATS = ["f16", "int4", "rq4"] as const;
export type KvFormat = (typeof KV_FORMATS)[number];

const WORD_BYTES = 16;

/** ArgumentError for a format that the GPU has no kernels for. */
export function kvFormat(name: string): KvFormat {
  const format = KV_FORMATS.find((known) => known === name);
  if (!format) throw new ArgumentError("KV cache format on the GPU", name, KV_FORMATS.join(", "));
  return format;
}

export const kvGroups = (headDim: number) => Math.ceil(headDim / INT4_GROUP);

/** 16-byte words of one block of 32 tokens of one KV head, keys or values, and the word at which its scales begin. */
export function kvBlock(format: KvFormat, headDim: number): { words: number; scalesAt: number } {
  if (format === "f16") return { words: (PAGE_SLOTS * headDim * 2) / WORD_BYTES, scalesAt: 0 };
  const codes = kvGroups(headDim) * PAGE_SLOTS;
  // Bytes a token: a scale and a zero for each group, or one scale.
  const scaleBytes = format === "int4" ? 4 * kvGroups(headDim) : 2;
  const scales = (PAGE_SLOTS * scaleBytes) / WORD_BYTES;
  return { words: codes + scales, scalesAt: codes };
}

/** Bytes of one KV head's keys, or values, in a page. */
export function blockBytes(format: KvFormat, headDim: number): number {
  return kvBlock(format, headDim).words * WORD_BYTES;
}

/** Bytes of one token's keys and values in a layer. */
export function tokenBytes(format: KvFormat, kvHeads: number, headDim: number): number {
  return (2 * kvHeads * blockBytes(format, headDim)) / PAGE_SLOTS;
}

/** The values by which kernels know a layout. */
export function kvConstants(format: KvFormat, headDim: number) {
  const { words, scalesAt } = kvBlock(format, headDim);
  return {
    HEAD_DIM: headDim,
    INT4: format === "int4",
    RQ4: format === "rq4",
    BLOCK_WORDS: words,
    SCALES_AT: scalesAt,
  };
}

/**
 * One token's key or value of one head, in the codec's bytes (which a saved cache holds), from the bytes of its block.
 */
export function readVector(
  format: KvFormat,
  headDim: number,
  part: "keys" | "values",
  buffer: Uint8Array,
  token: number,
): Uint8Array {
  const { scalesAt } = kvBlock(format, headDim);
  if (format === "f16") {
    const out = new Uint8Array(headDim * 2);
    for (let chunk = 0; chunk < headDim / 8; chunk++) {
      const word = part === "keys" ? chunk * PAGE_SLOTS + token : (token * headDim) / 8 + chunk;
      const at = word * WORD_BYTES;
      out.set(buffer.subarray(at, at + WORD_BYTES), chunk * WORD_BYTES);
    }
    return out;
  }
  const bytes: number[] = [];
  const scales = scalesAt * WORD_BYTES;
  if (format === "rq4") bytes.push(...buffer.subarray(scales + token * 2, scales + token * 2 + 2));
  for (let group = 0; group < kvGroups(headDim); group++) {
    const scale = scales + (group * PAGE_SLOTS + token) * 4;
    if (format === "int4") bytes.push(...buffer.subarray(scale, scale + 4));
    const code = (i: number) => {
      const [word, lane] =
        part === "keys" ? [group * PAGE_SLOTS + token, i] : [group * INT4_GROUP + i, token];
      const byte = buffer[word * WORD_BYTES + (lane % 16)];
      return lane < 16 ? byte & 15 : byte >> 4;
    };
    const half = Math.min(INT4_GROUP, headDim - group * INT4_GROUP) / 2;
    for (let i = 0; i < half; i++) bytes.push(code(i) | (code(i + half) << 4));
  }
  return Uint8Array.from(bytes);
}

/** Bytes of one layer's keys in a page, and as many of its values. */
export function pageBytes({ codec, kvHeads, headDim }: Cache): number {
  return kvHeads * blockBytes(kvFormat(codec.name), headDim);
}

/** Bytes of one layer's keys, and as many of its values. */
export function kvBytes(cache: Cache): number {
  return cache.pool.pages * pageBytes(cache);
}
