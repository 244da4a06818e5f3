/**
 * One layer's cache and attention of the WASM device for tests, called as the interpreter calls them. Expected values
 * come from the reference attention over vectors that the codecs of src/cache encoded and decoded.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { kvCodec } from "../../src/cache/codecs.ts";
import { type BlockMap, gather } from "../../src/device/cache-bytes.ts";
import { type KvCodec, type KvPart, PAGE_SLOTS } from "../../src/device/contract.ts";
import { heldDim, keyDim } from "../../src/device/kv.ts";
import { attend as referenceAttend } from "../../src/device/reference/ops.ts";
import {
  appendWorkBytes,
  attendPartialBytes,
  attendWorkBytes,
  type CacheShape,
  kvBlockAt,
  kvBlockMap,
  kvFormatNumber,
  layerPageBytes,
} from "../../src/device/wasm/kv-layout.ts";

/** Scratch starts as NaN, and so does the memory behind the output. */
const NAN_BYTE = 0xff;

/** Positions below 4,096. */
const MOST_BLOCKS = 128;

setFlagsFromString("--experimental-wasm-relaxed-simd");

type Kernel = (...args: number[]) => number;
export type Binary = "kernels" | "kernels-relaxed";

export interface Shape {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Keys end with values (Cache.turned). Default: 0. */
  turned?: number;
  /** Pages of the cache; the text's blocks take them round and round. */
  pages: number;
  window: number;
  softcap: number;
  /** A name or a description; what a description says of newest tokens does not matter here. */
  format: string;
  /** Blocks from `kept` on below `packed`, of a packed format, lie in its pages. Default: none. */
  kept?: number;
  packed?: number;
  /** [heads]. */
  sinks?: Float32Array;
}

/** Numbers in [0, 1) (mulberry32). */
function uniformNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Standard normal numbers of a seed (Box and Muller), as far as they have been made: formats and binaries see the same. */
class Normals {
  #known = new Float32Array(1 << 12);
  #count = 0;
  readonly #uniform: () => number;

  constructor(seed: number) {
    this.#uniform = uniformNumbers(seed);
  }

  take(from: number, count: number): Float32Array {
    while (this.#count < from + count) {
      if (this.#count === this.#known.length) {
        const longer = new Float32Array(2 * this.#count);
        longer.set(this.#known);
        this.#known = longer;
      }
      const [a, b] = [this.#uniform(), this.#uniform()];
      this.#known[this.#count++] = Math.sqrt(-2 * Math.log(1 - a)) * Math.cos(2 * Math.PI * b);
    }
    return this.#known.slice(from, from + count);
  }
}

const normals = new Map<number, Normals>();

/** Takes the next standard normal numbers of a seed. */
export type Random = (count: number) => Float32Array;

/** From the seed's first number on, so that every run sees the same data. */
export function seeded(seed: number): Random {
  const own = normals.get(seed) ?? new Normals(seed);
  normals.set(seed, own);
  let taken = 0;
  return (count) => own.take((taken += count) - count, count);
}

const modules = new Map<Binary, WebAssembly.Module>();

function moduleOf(binary: Binary): WebAssembly.Module {
  const url = new URL(`../../src/device/wasm/${binary}.wasm`, import.meta.url);
  const module = modules.get(binary) ?? new WebAssembly.Module(readFileSync(url));
  modules.set(binary, module);
  return module;
}

/** What attention has to give, by its shape and the digest of all vectors: both binaries are compared with it. */
const references = new Map<string, Float32Array>();
/** By format, part and vector: steps of other sizes attend to the same ones. */
const decodings = new Map<string, Float32Array>();
const MOST_DECODINGS = 20_000;

function decoding(codec: KvCodec, part: KvPart, vector: Float32Array): Float32Array {
  const key = `${codec.name} ${part} ${Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString("latin1")}`;
  const known = decodings.get(key) ?? new Float32Array(vector.length);
  if (!decodings.has(key)) {
    const bytes = new Uint8Array(codec.vectorBytes(vector.length));
    codec.encode(vector, bytes, part);
    codec.decode(bytes, known);
    if (decodings.size === MOST_DECODINGS) decodings.clear();
    decodings.set(key, known);
  }
  return known;
}

/** One layer's cache in a memory of its own. Keys and values of every position ever appended are kept for the oracle. */
export class Layer {
  readonly kernels: Record<string, Kernel>;
  readonly memory = new WebAssembly.Memory({ initial: 512, maximum: 65536, shared: true });
  readonly shape: Shape;
  readonly scale: number;
  readonly #cache = 65536;
  readonly #codec: KvCodec;
  readonly #cacheShape: CacheShape;
  /** Numbers of a key that are held, and of a query. */
  readonly #keyDims: number;
  readonly #queryDims: number;
  readonly #workBytes: number;
  readonly #format: number;
  /** Packed pages. */
  readonly #packed: number;
  readonly #table: number;
  /** 0: none. */
  readonly #sinks: number;
  readonly #work: number;
  #length = 0;
  readonly #keys: Float32Array[] = [];
  readonly #values: Float32Array[] = [];
  readonly #maps: { [part in KvPart]?: BlockMap } = {};

  constructor(binary: Binary, shape: Shape) {
    this.shape = shape;
    this.scale = 1 / Math.sqrt(shape.headDim);
    const instance = new WebAssembly.Instance(moduleOf(binary), { env: { memory: this.memory } });
    this.kernels = instance.exports as Record<string, Kernel>;
    const { kvHeads, headDim, turned = 0, pages } = shape;
    this.#codec = kvCodec(shape.format);
    this.#cacheShape = { codec: this.#codec, kvHeads, headDim, turned };
    this.#keyDims = heldDim(this.#cacheShape, "keys");
    this.#queryDims = keyDim(this.#cacheShape);
    // A format's largest.
    const widest = kvCodec("k4c-v4r-n32");
    this.#workBytes = attendWorkBytes({ ...this.#cacheShape, codec: widest });
    this.#format = kvFormatNumber(this.#codec);
    const pageBytes = (isRecent: boolean) =>
      layerPageBytes(this.#cacheShape, "keys", isRecent) +
      layerPageBytes(this.#cacheShape, "values", isRecent);
    this.#packed = this.#cache + pages * pageBytes(true);
    this.#table = this.#packed + (this.#codec.packed ? pages * pageBytes(false) : 0);
    const sinks = this.#table + MOST_BLOCKS * 4;
    this.#work = sinks + 256;
    this.#sinks = shape.sinks ? sinks : 0;
    if (shape.sinks) this.#floats(sinks, shape.heads).set(shape.sinks);
    const table = new Uint32Array(this.memory.buffer, this.#table, MOST_BLOCKS);
    table.set(table.map((_, block) => this.#page(block)));
  }

  #page(block: number): number {
    const { pages } = this.shape;
    // Neighbours lie apart, and each page is taken once in a round.
    const stride = [7, 5, 3].find((step) => pages % step !== 0) ?? 1;
    return ((block % pages) * stride) % pages;
  }

  /** keys [tokens, kvHeads, headDim or turned], values [tokens, kvHeads, headDim]. */
  append(keys: Float32Array, values: Float32Array): void {
    const { kvHeads, headDim, turned = 0 } = this.shape;
    const tokens = values.length / kvHeads / headDim;
    const at = this.#end(this.#workBytes);
    this.#floats(at, keys.length).set(keys);
    this.#floats(at + keys.byteLength, values.length).set(values);
    // One head at a time, last first: heads are independent.
    for (let head = kvHeads - 1; head >= 0; head--)
      this.kernels.appendKv(
        this.#cache,
        at,
        at + keys.byteLength,
        this.#length,
        tokens,
        kvHeads,
        headDim,
        turned,
        this.#table,
        this.#codec.packed ? 0 : this.#format,
        this.#work,
        head,
        head + 1,
      );
    for (let i = 0; i < tokens; i++) {
      const rows = (all: Float32Array, row: number) => all.slice(i * row, (i + 1) * row);
      this.#keys.push(rows(keys, kvHeads * this.#keyDims));
      this.#values.push(rows(values, kvHeads * headDim));
    }
    this.#length += tokens;
  }

  /** Packs the shape's blocks, all of which are full. */
  pack(): void {
    const { kvHeads, headDim, turned = 0, kept = 0, packed = 0 } = this.shape;
    const cache = this.#cacheShape;
    this.#end(appendWorkBytes(headDim, true));
    for (let block = kept; block < packed; block++)
      for (let head = 0; head < kvHeads; head++) {
        const page = this.#page(block);
        const from = this.#cache + kvBlockAt(cache, "keys", head, page, true);
        const to = this.#packed + kvBlockAt(cache, "keys", head, page);
        new Uint8Array(this.memory.buffer, this.#work, appendWorkBytes(headDim, true)).fill(NAN_BYTE);
        this.kernels.packBlock(from, to, headDim, turned, this.#format, this.#work);
      }
  }

  /** A packed page in the codec's bytes, and what the codec makes of its vectors. */
  packedPage(block: number, head: number, part: KvPart): [Uint8Array, Uint8Array] {
    const dims = heldDim(this.#cacheShape, part);
    const at = this.#packed + kvBlockAt(this.#cacheShape, part, head, this.#page(block));
    const found = this.#bytesOf(at, part);
    const wanted = new Uint8Array(this.#codec.packed!.pageBytes(dims, part));
    this.#codec.packed!.encode(this.#vectors(block, head, part), wanted, part);
    return [found, wanted];
  }

  /** The codec's bytes of a block in memory. */
  #bytesOf(at: number, part: KvPart): Uint8Array {
    this.#maps[part] ??= kvBlockMap(this.#codec, part, heldDim(this.#cacheShape, part));
    return gather(this.#maps[part], new Uint8Array(this.memory.buffer), at, 0, 1);
  }

  /** The vectors of a block as they were stored: [32, headDim]. */
  #vectors(block: number, head: number, part: KvPart): Float32Array {
    const headDim = heldDim(this.#cacheShape, part);
    const page = new Float32Array(PAGE_SLOTS * headDim);
    const bytes = new Uint8Array(this.#codec.vectorBytes(headDim));
    for (let slot = 0; slot < PAGE_SLOTS; slot++) {
      const row = (part === "keys" ? this.#keys : this.#values)[block * PAGE_SLOTS + slot];
      this.#codec.encode(row.subarray(head * headDim, (head + 1) * headDim), bytes, part);
      this.#codec.decode(bytes, page.subarray(slot * headDim, (slot + 1) * headDim));
    }
    return page;
  }

  /** The last `tokens` positions attend. `cuts` are the points where the units change threads. */
  attend(queries: Float32Array, cuts: (units: number) => number[] = () => []): Float32Array {
    const { heads, kvHeads, headDim, turned = 0, window, softcap, kept = 0, packed = 0 } = this.shape;
    const tokens = queries.length / heads / this.#queryDims;
    const outBytes = tokens * heads * headDim * 4;
    const position = this.#length - tokens;
    const k = this.kernels;
    const work = this.#work;
    const partials = work + this.#workBytes;
    const partialBytes = attendPartialBytes(tokens, 1, heads, kvHeads, headDim);
    const at = partials + partialBytes;
    const guard = this.#end(this.#workBytes + partialBytes + queries.byteLength + outBytes);
    new Uint8Array(this.memory.buffer, work, guard + 64 - work).fill(NAN_BYTE);
    this.#floats(at, queries.length).set(queries);
    const out = at + queries.byteLength;
    const ranges = (units: number) => {
      const ends = [...cuts(units), units];
      return ends.map((end, i) => [i === 0 ? 0 : ends[i - 1], end]).reverse();
    };
    const tiles = k.attendTiles(tokens, heads, kvHeads);
    const units = k.attendUnits(tokens, tiles, heads, kvHeads, position, window);
    for (const [first, last] of ranges(units))
      k.attend(
        this.#cache,
        at,
        out,
        partials,
        work,
        position,
        tokens,
        heads,
        kvHeads,
        headDim,
        turned,
        this.#table,
        tiles,
        window,
        this.scale,
        softcap,
        this.#format,
        this.#sinks,
        this.#packed,
        this.#table,
        kept,
        packed,
        first,
        last,
      );
    const rows = k.attendMergeUnits(tokens, tiles, heads, kvHeads, position, window);
    for (const [first, last] of ranges(rows))
      k.attendMerge(
        partials,
        out,
        position,
        tokens,
        heads,
        kvHeads,
        headDim,
        tiles,
        window,
        this.#format,
        this.#sinks,
        first,
        last,
      );
    const behind = new Uint8Array(this.memory.buffer, out + outBytes, 64);
    if (behind.some((byte) => byte !== NAN_BYTE)) throw new Error("attend wrote behind its output");
    return this.#floats(out, outBytes / 4).slice();
  }

  /** Reference attention in float64, over decoded vectors or over what was appended. */
  expected(queries: Float32Array, decoded = true): Float32Array {
    const hash = createHash("sha256").update(JSON.stringify([this.shape, decoded]));
    for (const array of [queries, ...this.#keys, ...this.#values]) hash.update(array);
    const key = hash.digest("hex");
    const known = references.get(key) ?? this.#reference(queries, decoded);
    references.set(key, known);
    return known;
  }

  #reference(queries: Float32Array, decoded: boolean): Float32Array {
    const { heads, kvHeads, headDim, turned = 0, window, softcap, sinks, kept = 0, packed = 0 } = this.shape;
    const tokens = queries.length / heads / this.#queryDims;
    const codec = this.#codec;
    const pages = { keys: [] as Float32Array[], values: [] as Float32Array[] };
    const packedVector = (kvHead: number, position: number, part: KvPart) => {
      const dims = heldDim(this.#cacheShape, part);
      const block = Math.floor(position / PAGE_SLOTS);
      const key = block * kvHeads + kvHead;
      let page = pages[part][key];
      if (!page) {
        pages[part][key] = page = new Float32Array(PAGE_SLOTS * dims);
        codec.packed!.decode(this.packedPage(block, kvHead, part)[1], page, part);
      }
      const slot = position % PAGE_SLOTS;
      return page.subarray(slot * dims, (slot + 1) * dims);
    };
    const reader = (rows: Float32Array[], part: KvPart) => {
      const seen = new Map<number, Float32Array>();
      const dims = heldDim(this.#cacheShape, part);
      return (kvHead: number, position: number, into: Float32Array) => {
        const vector = rows[position].subarray(kvHead * dims, (kvHead + 1) * dims);
        if (!decoded) return into.set(vector);
        const isPacked = position >= kept * PAGE_SLOTS && position < packed * PAGE_SLOTS;
        if (isPacked) return into.set(packedVector(kvHead, position, part));
        const key = position * kvHeads + kvHead;
        const known = seen.get(key) ?? decoding(codec, part, vector);
        seen.set(key, known);
        into.set(known);
      };
    };
    const out = new Float32Array(tokens * heads * headDim);
    const position = this.#length - tokens;
    const shape = {
      tokens,
      position,
      heads,
      kvHeads,
      headDim,
      keyDim: this.#queryDims,
      window: window || null,
      scale: this.scale,
      softcap,
      sinks,
    };
    const held = reader(this.#keys, "keys");
    const values = reader(this.#values, "values");
    const keys: typeof held = (kvHead, position, into) => {
      held(kvHead, position, into.subarray(0, this.#keyDims));
      if (turned > 0) values(kvHead, position, into.subarray(turned));
    };
    referenceAttend(queries, keys, values, shape, out);
    return out;
  }

  /** What the cache holds at a position, and what the codec would hold. */
  stored(position: number, kvHead: number, part: "keys" | "values"): [Float32Array, Float32Array] {
    const headDim = heldDim(this.#cacheShape, part);
    const codec = this.#codec;
    const page = this.#page(Math.floor(position / PAGE_SLOTS));
    const held = this.#bytesOf(this.#cache + kvBlockAt(this.#cacheShape, part, kvHead, page), part);
    const found = new Float32Array(headDim);
    codec.decode(held.subarray((position % PAGE_SLOTS) * codec.vectorBytes(headDim)), found);
    const rows = part === "keys" ? this.#keys : this.#values;
    const bytes = new Uint8Array(codec.vectorBytes(headDim));
    codec.encode(rows[position].subarray(kvHead * headDim, (kvHead + 1) * headDim), bytes, part);
    const wanted = new Float32Array(headDim);
    codec.decode(bytes, wanted);
    return [found, wanted];
  }

  /** Appends Gaussian tokens in chunks and returns a step's queries. */
  fill(total: number, tokens: number, random: Random, chunk = 64): Float32Array {
    const { heads, kvHeads, headDim } = this.shape;
    while (this.#length < total) {
      const vectors = Math.min(chunk, total - this.#length) * kvHeads;
      this.append(random(vectors * this.#keyDims), random(vectors * headDim));
    }
    return random(tokens * heads * this.#queryDims);
  }

  #end(bytes: number): number {
    const end = Math.ceil((this.#work + bytes) / 64) * 64;
    const pages = Math.ceil((end + (16 << 20) - this.memory.buffer.byteLength) / 65536);
    if (pages > 0) this.memory.grow(pages);
    return end;
  }

  #floats(at: number, count: number): Float32Array {
    return new Float32Array(this.memory.buffer, at, count);
  }
}
