/**
 * Sizes of the CPU device's KV cache and of attention's work areas: the host's mirror of assembly/kv-layout.ts,
 * attend-work.ts and attend.ts, so that a plan can be made before any memory exists. `kvBlockMap` is the inverse of
 * appending; a test writes on one side and reads on the other.
 */
import { type BlockMap, blockMap, pageMap } from "../cache-bytes.ts";
import { PAGE_SLOTS as BLOCK, type Cache, type KvCodec, type KvPart, type Packing } from "../contract.ts";
import { heldDim, partName } from "../kv.ts";
import { CACHE_FORMATS, KV_KEYS_SHIFT, KV_ROTATED, KV_VALUES_SHIFT } from "./abi.js";
import { packedScalesBytes, readPackedPage, readRotatedScale } from "./kv-packed.ts";

/** Formats of vectors that have kernels. */
export const KV_FORMATS = CACHE_FORMATS.filter((name) => name !== "packed");
export type KvFormat = (typeof KV_FORMATS)[number];
/** Parts of packed formats that have kernels. */
const KV_PARTS = { keys: ["4c", "3c", "2c"], values: ["4r", "3r", "2r"] } as const;
/** The device's description of them. */
export const HAS_FORMATS = {
  ...{
    kvFormats: KV_FORMATS,
    kvParts: KV_PARTS,
    defaultKv: "kv4",
    oneVector: true,
  },
};

/** How a block is stored: as vectors, or packed. */
type Held = KvFormat | Packing;

/** isRecent: in the pages of Graph.recentPool, whose vectors are f16. */
function heldAs({ name, packed }: KvCodec, isRecent = false): Held {
  if (packed) return isRecent ? "f16" : packed;
  return name as KvFormat;
}

/** The kernels' number of a cache's format. */
export function kvFormatNumber({ name, packed }: KvCodec): number {
  if (!packed) return CACHE_FORMATS.indexOf(name as KvFormat);
  const part = ({ bits, scales }: Packing["keys"]) => bits | (scales === "rotated" ? KV_ROTATED : 0);
  const parts = (part(packed.keys) << KV_KEYS_SHIFT) | (part(packed.values) << KV_VALUES_SHIFT);
  return CACHE_FORMATS.indexOf("packed") | parts;
}

const GROUP = 32;
const COLUMNS = 64;
/** A unit of attention has a column for each query head of its KV head. */
export const MOST_QUERY_HEADS_OF_KV_HEAD = COLUMNS;
const TILE = 64;
const UNITS = 64;

const groupsOf = (headDim: number) => Math.ceil(headDim / GROUP);

/** Bytes of the keys, or of the values, of 32 tokens of one KV head. */
function blockBytes(headDim: number, format: Held, part: KvPart): number {
  if (typeof format !== "string") {
    const { bits, scales } = format[part];
    return packedScalesBytes(headDim, scales) + groupsOf(headDim) * 128 * bits;
  }
  if (format === "rq4") return groupsOf(headDim) * 512 + BLOCK * 2;
  return format === "int4" ? groupsOf(headDim) * 640 : headDim * 64;
}

/** The properties of a cache that its layout depends on. */
export type CacheShape = Pick<Cache, "kvHeads" | "headDim" | "turned" | "codec">;

/** Bytes of one layer's keys, or values, in a page of Graph.recentPool or of its pool. */
export function layerPageBytes(cache: CacheShape, part: KvPart, isRecent = false): number {
  return cache.kvHeads * blockBytes(heldDim(cache, part), heldAs(cache.codec, isRecent), part);
}

/** Bytes of an operand in the plain binary, where they are larger. */
const OPERAND_BYTES = 64;

/** Bytes of one thread's work area for attention: independent of context and step size. */
export function attendWorkBytes({ headDim, turned, codec: { packed } }: CacheShape): number {
  const whole = partWorkBytes(headDim, packed !== null);
  if (turned === 0) return whole;
  // Areas for rotary dims and for values as keys, and a block of values as keys (assembly/attend-turned.ts).
  const rotated = packed ? partWorkBytes(headDim, false) : 0;
  return whole + partWorkBytes(turned, packed !== null) + rotated + groupsOf(headDim) * GROUP * 64;
}

function partWorkBytes(headDim: number, isPacked: boolean): number {
  const groups = groupsOf(headDim);
  const fixed = COLUMNS * (3 * 4 + TILE * 4 + 64 + 4) + 2 * BLOCK * 4;
  const vectors = fixed + COLUMNS * (groups * 16 + 2 * groups * GROUP * 4);
  if (!isPacked) return vectors;
  const page = groups * GROUP * 8 + 64 + groups * (4 * OPERAND_BYTES + 48) + groups * 512;
  return vectors + COLUMNS * groups * GROUP * 4 + page;
}

/** Bytes of one thread's work area for appending, and for packing what was appended. */
export function appendWorkBytes(headDim: number, isPacked: boolean): number {
  const vector = (headDim + 4) * 4;
  return isPacked ? vector + 20 * 4 + BLOCK * headDim * 4 + BLOCK * groupsOf(headDim) * GROUP : vector;
}

/**
 * The largest size of the partial results that the threads share when up to `maxTokens` queries of up to `texts` texts
 * attend: independent of the context. A step is divided into spans only until there are 64 units, so long prompt chunks
 * need few.
 */
export function attendPartialBytes(
  maxTokens: number,
  texts: number,
  heads: number,
  kvHeads: number,
  headDim: number,
): number {
  const tileQueries = Math.floor(COLUMNS / (heads / kvHeads));
  let rows = 0;
  const mostTiles = Math.min(maxTokens, Math.ceil(maxTokens / tileQueries) + texts - 1);
  for (let tiles = 1; tiles <= mostTiles; tiles++) {
    const spans = Math.ceil(UNITS / (kvHeads * tiles));
    if (spans > 1) rows = Math.max(rows, Math.min(maxTokens, tiles * tileQueries) * heads * spans);
  }
  return rows * (headDim + 4) * 4;
}

/** Maps that have been made, by format, part and size of a head. */
const maps = new Map<string, BlockMap>();

/** Maps a device's block of one head's keys, or values, to the codec's bytes. */
export function kvBlockMap(codec: KvCodec, part: KvPart, headDim: number, isRecent = false): BlockMap {
  const format = heldAs(codec, isRecent);
  const key = `${typeof format === "string" ? format : partName(format[part])} ${part} ${headDim}`;
  const map = maps.get(key) ?? madeMap(codec, format, part, headDim);
  maps.set(key, map);
  return map;
}

function madeMap(codec: KvCodec, format: Held, part: KvPart, headDim: number): BlockMap {
  const bytes = blockBytes(headDim, format, part);
  if (typeof format !== "string")
    return pageMap(bytes, format.pageBytes(headDim, part), (block) =>
      readPackedPage(block, part, headDim, format[part]),
    );
  const read = (block: Uint8Array, slot: number) => readVector(block, slot, { part, headDim, format });
  return blockMap(bytes, codec.vectorBytes(headDim), read);
}

/** The offset of the keys, or the values, of one head in a page of a layer's cache. */
export function kvBlockAt(
  cache: CacheShape,
  part: KvPart,
  kvHead: number,
  page: number,
  isRecent = false,
): number {
  const { kvHeads } = cache;
  const keys = layerPageBytes(cache, "keys", isRecent) / kvHeads;
  const values = layerPageBytes(cache, "values", isRecent) / kvHeads;
  return (page * kvHeads + kvHead) * (keys + values) + (part === "values" ? keys : 0);
}

interface VectorPlace {
  readonly part: KvPart;
  readonly headDim: number;
  readonly format: KvFormat;
}

/** One token's key or value, in the codec's bytes, from a block of one head. */
function readVector(block: Uint8Array, slot: number, { part, headDim, format }: VectorPlace): Uint8Array {
  const out: number[] = [];
  if (format === "f16") {
    for (let dim = 0; dim < headDim; dim++) {
      const row = part === "keys" ? slot : dim;
      const octet = row >> 3;
      const k = part === "keys" ? octet * headDim + dim : octet * BLOCK + slot;
      const at = k * 16 + (2 * (row & 3) + ((row >> 2) & 1)) * 2;
      out.push(block[at], block[at + 1]);
    }
    return Uint8Array.from(out);
  }
  if (format === "rq4") out.push(...readRotatedScale(block, slot));
  for (let group = 0; group < groupsOf(headDim); group++) {
    const codesAt = (inGroup: number) => {
      const tile = part === "keys" ? (slot >> 3) * groupsOf(headDim) + group : group * 4 + (inGroup >> 3);
      // int4 has its pairs between the codes, rq4 its scales before them.
      const pairs = format === "rq4" ? 64 : part === "keys" ? tile * 32 : (group + 1) * 128;
      return tile * 128 + pairs;
    };
    if (format === "int4") {
      const pair = part === "keys" ? codesAt(0) + 128 + (slot & 7) * 4 : group * 640 + slot * 4;
      // Here the zero comes first, in the codec the scale.
      out.push(block[pair + 2], block[pair + 3], block[pair], block[pair + 1]);
    }
    const code = (inGroup: number) => {
      const row = part === "keys" ? slot & 7 : inGroup & 7;
      const k = part === "keys" ? inGroup : slot;
      const byte = block[codesAt(inGroup) + (row >> 2) * 64 + ((k & 15) >> 2) * 16 + (row & 3) * 4 + (k & 3)];
      return k < 16 ? byte & 15 : byte >> 4;
    };
    const half = Math.min(GROUP, headDim - group * GROUP) / 2;
    for (let i = 0; i < half; i++) out.push(code(i) | (code(i + half) << 4));
  }
  return Uint8Array.from(out);
}
