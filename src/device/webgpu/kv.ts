/**
 * The layout of one layer's keys and values in their two GPU buffers. Kernels get it as the constants of `kvConstants` and
 * `attendConstants`; kv-pages.ts is the inverse of appending and packing.
 * One idea: every load is a 16-byte word, and neighbouring lanes read neighbouring words. A buffer is divided into pages, and
 * a page into blocks of 32 token slots, one block for each KV head.
 *
 * int4, keys: a block is [group][token] words. A word holds one token's 32 codes of a group of dims: value i of the group in
 *   the low half of byte i, value i + 16 in its high half, in the codec's order. Then [group][token] scale and zero.
 * int4, values: a block is [dim] words. A word holds one dim's codes of the block's 32 tokens (token i in the low half of
 *   byte i, token i + 16 in its high half), so that integer dot products run along tokens. Then the same scales.
 * rq4: codes as in int4, then [token] f16 scales.
 * channel4: keys only. Codes as in int4, then [group][dim] scale and zero, a byte each.
 * channel3, rq3: the same with codes of 3 bits. 32 codes are three words of 32 bits. Each half of a word has five codes, so a
 *   word has five pairs of codes, i and i + 2, and a bit of each code of the last pair (lib/planes.wgsl).
 *   Keys: [two groups][token] first and second words, then [four groups][token] third words (with one or two groups:
 *   [token][group] without gaps). Values: [16 dims][8] first and second words, each of the dims d and d + 8, then
 *   [32 dims][8] third words, each of d, d + 8, d + 16 and d + 24.
 * f16, keys: a block is [8 dims][token] words. f16, values: [token][8 dims] words.
 *
 * A packed cache has two pairs of buffers: packed pages, and f16 vectors that are not packed yet.
 * If a head size is no multiple of 32, its last group of codes is stored whole, and its upper half stays zero: with 80 dims, int4
 * takes 6 bits a value.
 */
import { ArgumentError } from "../../format/errors.ts";
import { type Cache, type KvCodec, type KvPart, PAGE_SLOTS, type Pool } from "../contract.ts";
import { INT4_GROUP } from "../int4.ts";
import { heldDim, partName } from "../kv.ts";

/** Formats in which each token's vectors are stored as soon as they are computed. */
export const KV_FORMATS = ["f16", "int4", "rq4"] as const;
export type KvFormat = (typeof KV_FORMATS)[number];

/** How a block of keys, or of values, is arranged. */
export type KvLayout = KvFormat | "channel4" | "channel3" | "rq3";

/** Layouts of packed formats, by the part's name in the format's description. */
const PACKED_LAYOUTS: { readonly [part in KvPart]: { readonly [name: string]: KvLayout } } = {
  keys: { "4c": "channel4", "3c": "channel3" },
  values: { "4r": "rq4", "3r": "rq3" },
};

export const KV_PARTS = {
  keys: Object.keys(PACKED_LAYOUTS.keys),
  values: Object.keys(PACKED_LAYOUTS.values),
};

/** The formats of a GPU. kv4 is the default if subgroup matrices read it; it was never timed on other devices. */
export const gpuFormats = ({ matrices }: { readonly matrices: boolean }) => ({
  ...{ kvFormats: KV_FORMATS, kvParts: KV_PARTS, oneVector: true },
  ...(matrices ? { defaultKv: "kv4" } : {}),
});

const WORD_BYTES = 16;

/** Throws ArgumentError if the GPU has no kernels for this format of vectors. */
export function kvFormat(name: string): KvFormat {
  const format = KV_FORMATS.find((known) => known === name);
  if (!format) throw new ArgumentError("KV cache format on the GPU", name, KV_FORMATS.join(", "));
  return format;
}

/** The layout of the pages in a cache's pool. Throws ArgumentError if the GPU has no kernels for it. */
export function kvLayout({ name, packed }: KvCodec, part: KvPart): KvLayout {
  if (!packed) return kvFormat(name);
  const layout = PACKED_LAYOUTS[part][partName(packed[part])];
  if (!layout)
    throw new ArgumentError(`packed ${part} on the GPU`, partName(packed[part]), KV_PARTS[part].join(", "));
  return layout;
}

/** The vectors of a packed cache before they are packed: a cache of f16 in the pages of Graph.recentPool. */
export function recentCache(cache: Cache, recentPool: Pool): Cache {
  const { codec, pool } = cache;
  return {
    ...cache,
    codec: { ...codec, name: "f16", packed: null },
    pool: { ...recentPool, window: pool.window },
  };
}

export const kvGroups = (headDim: number) => Math.ceil(headDim / INT4_GROUP);

/** Bytes of a channel's scale and zero. */
const CHANNEL_BYTES = 2;

export const isChannel = (layout: KvLayout) => layout === "channel4" || layout === "channel3";

/** 16-byte words of one block (32 tokens of one KV head, keys or values), and the word at which its scales begin. */
export function kvBlock(layout: KvLayout, headDim: number): { words: number; scalesAt: number } {
  if (layout === "f16") return { words: (PAGE_SLOTS * headDim * 2) / WORD_BYTES, scalesAt: 0 };
  const groups = kvGroups(headDim);
  const codes = {
    int4: groups * PAGE_SLOTS,
    rq4: groups * PAGE_SLOTS,
    channel4: groups * PAGE_SLOTS,
    channel3: PAGE_SLOTS * (Math.ceil(groups / 2) + (groups < 3 ? groups / 4 : Math.ceil(groups / 4))),
    rq3: groups * (16 + 8),
  }[layout];
  // A scale and a zero for each dim, or for each token and group; or only a scale for each token.
  const scaleBytes = isChannel(layout)
    ? CHANNEL_BYTES * groups * INT4_GROUP
    : PAGE_SLOTS * (layout === "int4" ? 4 * groups : 2);
  return { words: codes + scaleBytes / WORD_BYTES, scalesAt: codes };
}

/** Bytes of one KV head's keys or values in a page. */
export function blockBytes(layout: KvLayout, headDim: number): number {
  return kvBlock(layout, headDim).words * WORD_BYTES;
}

/** Bytes of one token's keys and values in a layer's buffers. */
export function bufferTokenBytes(cache: Cache): number {
  return (layerPageBytes(cache, "keys") + layerPageBytes(cache, "values")) / PAGE_SLOTS;
}

/** Constants of kernels for a format of vectors, with as many dims in keys as in values. */
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

/** The same constants for a cache whose keys may have fewer dims. */
export function vectorConstants(cache: Cache) {
  const format = kvFormat(cache.codec.name);
  const keys = kvBlock(format, heldDim(cache, "keys"));
  return {
    ...kvConstants(format, cache.headDim),
    ...{ KEY_DIM: heldDim(cache, "keys"), KEY_WORDS: keys.words, KEY_SCALES_AT: keys.scalesAt },
  };
}

/**
 * Constants of kernels for a cache whose keys may have another layout than its values. INT4 and RQ4 describe the
 * values.
 */
export function attendConstants(cache: Cache) {
  const { codec, headDim } = cache;
  const [keys, values] = [kvLayout(codec, "keys"), kvLayout(codec, "values")];
  return {
    HEAD_DIM: headDim,
    INT4: values === "int4",
    RQ4: values === "rq4" || values === "rq3",
    CHANNEL: isChannel(keys),
    ...layoutConstants(cache),
  };
}

/** Constants for keys and values: bits of a code, words of a block, and the word at which its scales begin. */
export function layoutConstants(cache: Cache) {
  const { codec } = cache;
  const blockOf = (part: KvPart) => kvBlock(kvLayout(codec, part), heldDim(cache, part));
  const [keys, values] = [blockOf("keys"), blockOf("values")];
  const bits = (part: KvPart) => codec.packed?.[part].bits ?? 4;
  return {
    ...{ KEY_BITS: bits("keys"), VALUE_BITS: bits("values") },
    ...{ KEY_WORDS: keys.words, KEY_SCALES_AT: keys.scalesAt },
    ...{ VALUE_WORDS: values.words, VALUE_SCALES_AT: values.scalesAt },
  };
}

/** Bytes of one layer's keys or values in a page. */
export function layerPageBytes(cache: Cache, part: KvPart): number {
  return cache.kvHeads * blockBytes(kvLayout(cache.codec, part), heldDim(cache, part));
}

/** Bytes of one layer's keys or values in all pages. */
export function cacheBufferBytes(cache: Cache, part: KvPart): number {
  return cache.pool.pages * layerPageBytes(cache, part);
}
