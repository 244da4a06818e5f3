/**
 * Where one layer's keys and values lie in their two GPU buffers. The kernels know it by the
 * constants of `kvConstants` and `attendConstants`; `readPage` is the inverse of appending and packing. Refuses to know GPUs.
 * One idea: every load is a 16-byte word and neighbouring lanes read neighbouring words. A buffer is cut into pages, and a
 * page by KV head into blocks of 32 token slots.
 *
 * int4, keys: block = [group][token] words, a word holds one token's 32 codes of a group of dims (value i of the group in
 *   the low half of byte i, value i + 16 in its high half, as the codec orders them), then [group][token] scale and zero.
 * int4, values: block = [dim] words, a word holds one dim's codes of the block's 32 tokens (token i in the low half of
 *   byte i, token i + 16 in its high half), so that integer dot products run along tokens, then the same scales.
 * rq4: codes as int4 has them, then [token] f16 scales.
 * channel: keys alone; codes as int4 has them, then [group][dim] scale and zero.
 * f16, keys: block = [8 dims][token] words. f16, values: [token][8 dims] words.
 * A packed cache has buffers for its packed pages, and others, of f16, for vectors as they come.
 * A head size that is no multiple of 32 has a whole last group of codes whose upper half stays zero: 6 bits a value at 80 for
 * int4.
 */
import { ArgumentError } from "../../format/errors.ts";
import { type Cache, type KvCodec, type KvPart, PAGE_SLOTS, type Pool } from "../contract.ts";
import { INT4_GROUP } from "../int4.ts";
import { partName } from "../kv.ts";

/** Formats of vectors. */
export const KV_FORMATS = ["f16", "int4", "rq4"] as const;
export type KvFormat = (typeof KV_FORMATS)[number];

/** How blocks of keys, or of values, are arranged. */
export type KvLayout = KvFormat | "channel";

/** By the part's name in descriptions of packed formats. */
const PACKED_LAYOUTS: { readonly [part in KvPart]: { readonly [name: string]: KvLayout } } = {
  keys: { "4c": "channel" },
  values: { "4r": "rq4" },
};

export const KV_PARTS = {
  keys: Object.keys(PACKED_LAYOUTS.keys),
  values: Object.keys(PACKED_LAYOUTS.values),
};

const WORD_BYTES = 16;

/** ArgumentError for a format of vectors that the GPU has no kernels for. */
export function kvFormat(name: string): KvFormat {
  const format = KV_FORMATS.find((known) => known === name);
  if (!format) throw new ArgumentError("KV cache format on the GPU", name, KV_FORMATS.join(", "));
  return format;
}

/** Of the pages of a cache's pool. */
export function kvLayout({ name, packed }: KvCodec, part: KvPart): KvLayout {
  if (!packed) return kvFormat(name);
  const layout = PACKED_LAYOUTS[part][partName(packed[part])];
  if (!layout)
    throw new ArgumentError(`packed ${part} on the GPU`, partName(packed[part]), KV_PARTS[part].join(", "));
  return layout;
}

/** Vectors of a packed cache as they come: a cache of f16 in the pages of Graph.recent. */
export function recentCache(cache: Cache, recent: Pool): Cache {
  const { codec, pool } = cache;
  return {
    ...cache,
    codec: { ...codec, name: "f16", packed: null },
    pool: { ...recent, window: pool.window },
  };
}

export const kvGroups = (headDim: number) => Math.ceil(headDim / INT4_GROUP);

/** 16-byte words of one block of 32 tokens of one KV head, keys or values, and the word at which its scales begin. */
export function kvBlock(layout: KvLayout, headDim: number): { words: number; scalesAt: number } {
  if (layout === "f16") return { words: (PAGE_SLOTS * headDim * 2) / WORD_BYTES, scalesAt: 0 };
  const groups = kvGroups(headDim);
  const codes = groups * PAGE_SLOTS;
  // A scale and a zero for each token and group, or for each dim; or a scale for each token.
  const scaleBytes = {
    int4: 4 * groups * PAGE_SLOTS,
    channel: 4 * groups * INT4_GROUP,
    rq4: 2 * PAGE_SLOTS,
  }[layout];
  return { words: codes + scaleBytes / WORD_BYTES, scalesAt: codes };
}

/** Bytes of one KV head's keys, or values, in a page. */
export function blockBytes(layout: KvLayout, headDim: number): number {
  return kvBlock(layout, headDim).words * WORD_BYTES;
}

/** Bytes of one token's keys and values in a layer. */
export function tokenBytes({ codec, kvHeads, headDim }: Cache): number {
  const block = (part: KvPart) => blockBytes(kvLayout(codec, part), headDim);
  return (kvHeads * (block("keys") + block("values"))) / PAGE_SLOTS;
}

/** The values by which kernels know a format of vectors. */
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

/** The values by which kernels know a cache whose keys may lie otherwise than its values. RQ4: of these. */
export function attendConstants({ codec, headDim }: Cache) {
  const [keys, values] = [kvLayout(codec, "keys"), kvLayout(codec, "values")];
  return {
    HEAD_DIM: headDim,
    INT4: values === "int4",
    RQ4: values === "rq4",
    CHANNEL: keys === "channel",
    ...partConstants(codec, headDim),
  };
}

/** Where parts of a block lie. */
export function partConstants(codec: KvCodec, headDim: number) {
  const keys = kvBlock(kvLayout(codec, "keys"), headDim);
  const values = kvBlock(kvLayout(codec, "values"), headDim);
  return {
    ...{ KEY_WORDS: keys.words, KEY_SCALES_AT: keys.scalesAt },
    ...{ VALUE_WORDS: values.words, VALUE_SCALES_AT: values.scalesAt },
  };
}

/** The codec's bytes of a page of one head (which a saved cache holds), from those of its block. */
export function readPage(layout: KvLayout, headDim: number, part: KvPart, block: Uint8Array): Uint8Array {
  const slots = Array.from({ length: PAGE_SLOTS }, (_, token) => token);
  if (layout !== "channel")
    return joined(slots.map((token) => readVector(layout, headDim, part, block, token)));
  const scales = kvBlock(layout, headDim).scalesAt * WORD_BYTES;
  const halves = (at: number) =>
    Uint8Array.from({ length: 2 * headDim }, (_, i) => block[scales + 4 * (i >> 1) + at + (i & 1)]);
  const groups = Array.from({ length: kvGroups(headDim) }, (_, group) => group);
  const codes = (token: number) =>
    joined(groups.map((group) => readCodes(headDim, part, block, token, group)));
  return joined([halves(0), halves(2), ...slots.map(codes)]);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** One token's key or value of one head, in the bytes of a codec of vectors, from the bytes of its block. */
export function readVector(
  format: KvFormat,
  headDim: number,
  part: KvPart,
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
  const parts: Uint8Array[] = [];
  const scales = scalesAt * WORD_BYTES;
  if (format === "rq4") parts.push(buffer.subarray(scales + token * 2, scales + token * 2 + 2));
  for (let group = 0; group < kvGroups(headDim); group++) {
    const scale = scales + (group * PAGE_SLOTS + token) * 4;
    if (format === "int4") parts.push(buffer.subarray(scale, scale + 4));
    parts.push(readCodes(headDim, part, buffer, token, group));
  }
  return joined(parts);
}

/** A token's codes of a group of dims, as codecs have them. */
function readCodes(
  headDim: number,
  part: KvPart,
  buffer: Uint8Array,
  token: number,
  group: number,
): Uint8Array {
  const code = (i: number) => {
    const [word, lane] = part === "keys" ? [group * PAGE_SLOTS + token, i] : [group * INT4_GROUP + i, token];
    const byte = buffer[word * WORD_BYTES + (lane % 16)];
    return lane < 16 ? byte & 15 : byte >> 4;
  };
  const half = Math.min(INT4_GROUP, headDim - group * INT4_GROUP) / 2;
  return Uint8Array.from({ length: half }, (_, i) => code(i) | (code(i + half) << 4));
}

/** Bytes of one layer's keys, or values, in a page. */
export function pageBytes({ codec, kvHeads, headDim }: Cache, part: KvPart): number {
  return kvHeads * blockBytes(kvLayout(codec, part), headDim);
}

/** Bytes of one layer's keys, or values. */
export function kvBytes(cache: Cache, part: KvPart): number {
  return cache.pool.pages * pageBytes(cache, part);
}
