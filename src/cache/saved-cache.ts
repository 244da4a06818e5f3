/**
 * A saved cache: the token ids of a text and the contents of its pages, in a file that describes itself and is refused
 * unless all of it fits. Keys and values are the codec's bytes by position, so a file can be restored with another
 * device, chunk or context.
 *
 * "NIBBLEKV", u32 version, u32 bytes of the header, header (JSON, `Header`), digest
 * ids [tokens] u32, digest
 * for each cache, keys then values, each KV head: [tokens - first, vectorBytes] in sections of SECTION_TOKENS, each
 * with
 * its digest; for a cache with a packing first the vectors that are never packed, then packed pages, then the vectors
 * after them
 * for each recurrent state: its numbers after the last token, f32, digest
 *
 * Little-endian. A digest is the SHA-256 of the previous digest and of the bytes since, so sections cannot be
 * exchanged. All but two numbers of the header are known where it is restored, and it is compared with these.
 */
import { type Graph, type KvPart, PAGE_SLOTS, type PagePlace, type State } from "../device/contract.ts";
import { pageBytes } from "../device/page-bytes.ts";
import { FormatError } from "../format/errors.ts";
import { asObject, describe, parseJson } from "../format/json.ts";
import type { Source } from "../format/source.ts";
import { blocksOf, packedBlocks, recentOf } from "./layers.ts";

const MAGIC = "NIBBLEKV";
const VERSION = 2;
/** For files with recurrent states, with packed pages, with both. */
const STATES_VERSION = 3;
const PACKED_VERSION = 4;
const BOTH_VERSION = 5;
const PROLOGUE_BYTES = 16;
const DIGEST_BYTES = 32;
/** Limit for the header: a layer takes a hundred bytes. */
const MOST_HEADER_BYTES = 4 * 2 ** 20;
/** Whole pages. 1 MiB of float16 at a head size of 128. */
const SECTION_TOKENS = 4096;
const PARTS: readonly KvPart[] = ["keys", "values"];

/** The model of a cache. */
export interface CacheOwner {
  /** For people. */
  readonly name: string;
  /** Models with the same one compute the same keys and values. */
  readonly fingerprint: string;
  /** Fingerprint of the rotary embedding's frequencies. */
  readonly rope: string;
}

/** A text's pages of a pool: those of the blocks from `first` on. */
export interface BlockPages {
  readonly first: number;
  readonly pages: readonly number[];
  /** For the recent pool: the blocks at the beginning that are never packed, if `first` is after them. */
  readonly head?: readonly number[];
}

/** One head's keys or values of several pages, in the codec's bytes [pages, PAGE_SLOTS, vectorBytes]. */
type ReadPages = (place: PagePlace, pages: readonly number[]) => Promise<Uint8Array>;
type WritePages = (place: PagePlace, pages: readonly number[], bytes: Uint8Array) => Promise<void>;

/** What a device holds of a text. */
export interface CacheReader {
  pages: ReadPages;
  /** The states at the text's last position. */
  state(state: State): Promise<Uint8Array>;
}

export interface CacheWriter {
  pages: WritePages;
  state(state: State, bytes: Uint8Array): Promise<void>;
}

/** The owner of the cache that is saved or restored. */
export interface CacheAccess {
  readonly graph: Graph;
  readonly owner: CacheOwner;
}

interface Header {
  readonly model: string;
  readonly fingerprint: string;
  readonly rope: string;
  readonly codec: string;
  readonly tokens: number;
  /** Only in files with packed pages: the number of tokens in them, from the first. */
  readonly packed?: number;
  readonly layers: readonly LayerHeader[];
  /** Only in files with states. */
  readonly states?: readonly { readonly layer: number; readonly values: number }[];
}

interface LayerHeader {
  readonly layer: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Only for caches with one vector for key and value: dims of a key that are stored in addition to it. */
  readonly turned?: number;
  /** null: a full layer. */
  readonly window: number | null;
  /** Bytes of a head vector. */
  readonly vectorBytes: number;
  /** If layers differ in it. */
  readonly codec?: string;
  /** Size of packed pages; only for caches that have some. */
  readonly keyPageBytes?: number;
  readonly valuePageBytes?: number;
  /** The oldest position in the file: the first of a page. */
  readonly first: number;
}

/** `ids`: the text; held: its pages, by pool. Yields the file's bytes, in order. */
export async function* saveCache(
  access: CacheAccess,
  ids: readonly number[],
  held: readonly BlockPages[],
  read: CacheReader,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const { graph } = access;
  const firsts = held.map(({ first }) => first * PAGE_SLOTS);
  const header = headerOf(access, ids.length, firsts);
  const text = new TextEncoder().encode(JSON.stringify(header));
  const prologue = new Uint8Array(PROLOGUE_BYTES + text.length);
  prologue.set(new TextEncoder().encode(MAGIC));
  const view = new DataView(prologue.buffer);
  view.setUint32(8, versionOf(graph), true);
  view.setUint32(12, text.length, true);
  prologue.set(text, PROLOGUE_BYTES);

  const chain = new Chain();
  yield* chain.sealed(prologue);
  const words = new DataView(new ArrayBuffer(ids.length * 4));
  ids.forEach((id, i) => {
    words.setUint32(i * 4, id, true);
  });
  yield* chain.sealed(new Uint8Array(words.buffer));
  for (const { place, from, to, bytes } of placesOf(graph, header)) {
    const found = await read.pages(place, pagesOf(held[poolOf(graph, place)], from, to));
    yield* chain.sealed(found.slice(0, bytes) as Uint8Array<ArrayBuffer>);
  }
  for (const state of graph.states) yield* chain.sealed((await read.state(state)).slice());
}

function versionOf({ states, recentPool }: Graph): number {
  if (recentPool) return states.length > 0 ? BOTH_VERSION : PACKED_VERSION;
  return states.length > 0 ? STATES_VERSION : VERSION;
}

/** A saved cache whose header fits and whose ids are known. */
export interface SavedCache {
  readonly ids: readonly number[];
  /** By pool: the oldest block in the file. */
  readonly firsts: readonly number[];
  /** Fills pages of the blocks from `firsts` on, by pool. After a FormatError their contents are invalid. */
  restore(held: readonly BlockPages[], write: CacheWriter): Promise<void>;
}

/**
 * Opens a file for a model and a context. Throws FormatError unless it is complete, of this version, and saved with
 * this model and KV format. The caller closes `source`.
 */
export async function openSavedCache(
  source: Source,
  access: CacheAccess,
  limits: { context: number; vocab: number },
): Promise<SavedCache> {
  const { name, size } = source;
  const chain = new Chain();
  const prologue = await readRange(source, 0, PROLOGUE_BYTES, "the beginning of a saved cache");
  const magic = new TextDecoder("latin1").decode(prologue.subarray(0, MAGIC.length));
  if (magic !== MAGIC)
    throw new FormatError(name, `begins with ${describe(magic)}`, `"${MAGIC}", a saved cache`);
  const view = new DataView(prologue.buffer);
  const version = view.getUint32(8, true);
  const wanted = versionOf(access.graph);
  if (version !== wanted)
    throw new FormatError(
      `${name}: version`,
      `${version}`,
      `${wanted}, which this nibble reads and writes for this model`,
    );
  const headerBytes = view.getUint32(12, true);
  if (headerBytes > MOST_HEADER_BYTES)
    throw new FormatError(`${name}: header`, `${headerBytes} bytes`, `0 to ${MOST_HEADER_BYTES}`);
  const whole = await readRange(source, 0, PROLOGUE_BYTES + headerBytes + DIGEST_BYTES, "its header");
  const text = await chain.opened(whole, `${name}: header`);
  const found = asObject(
    parseJson(new TextDecoder().decode(text.subarray(PROLOGUE_BYTES)), `${name}: header`),
    `${name}: header`,
  );

  const { tokens } = found;
  if (!(Number.isInteger(tokens) && (tokens as number) >= 1))
    throw new FormatError(`${name}: tokens`, describe(tokens), "integers from 1 on");
  if ((tokens as number) > limits.context)
    throw new FormatError(
      `${name}: tokens`,
      `${tokens}`,
      `1 to ${limits.context}, the context that was loaded`,
    );
  const layers = Array.isArray(found.layers) ? found.layers : [];
  const recent = recentOf(access.graph);
  const firsts = access.graph.pools.map(({ id, window }) => {
    if (recent?.pool === id) return packedOf(name, found, recent.tokens);
    const layer = access.graph.caches.findIndex(({ pool }) => pool.id === id);
    const first = (layers[layer] as Partial<LayerHeader> | undefined)?.first ?? 0;
    // Everything that the next token attends to has to be there.
    const most = window === null ? 0 : Math.max(0, (tokens as number) - window + 1);
    if (!(Number.isInteger(first) && first >= 0 && first <= most && first % PAGE_SLOTS === 0))
      throw new FormatError(
        `${name}: layers[${layer}].first`,
        describe(first),
        `0 to ${most}, a multiple of ${PAGE_SLOTS}`,
      );
    return first;
  });
  const header = headerOf(access, tokens as number, firsts);
  checkTurned(name, layers, header);
  compare(found, header, `${name}: `);

  const places = placesOf(access.graph, header);
  const ends = whole.length + header.tokens * 4 + DIGEST_BYTES;
  const { states } = access.graph;
  const sections = [...places.map(({ bytes }) => bytes), ...states.map(({ values }) => values * 4)];
  const bytes = sections.reduce((sum, section) => sum + section + DIGEST_BYTES, ends);
  if (size !== bytes) throw new FormatError(name, `${size} bytes`, `${bytes}, by its header`);
  const words = await chain.opened(
    await readRange(source, whole.length, ends - whole.length, "its ids"),
    `${name}: ids`,
  );
  const idView = new DataView(words.buffer, words.byteOffset, words.byteLength);
  const ids = Array.from({ length: header.tokens }, (_, i) => idView.getUint32(i * 4, true));
  const bad = ids.find((id) => id >= limits.vocab);
  if (bad !== undefined) throw new FormatError(`${name}: ids`, `${bad}`, `0 to ${limits.vocab - 1}`);

  return {
    ids,
    firsts: firsts.map((first) => first / PAGE_SLOTS),
    async restore(held, write) {
      let offset = ends;
      for (const { place, from, to, bytes } of places) {
        const { cache, part, isRecent } = place;
        const title = `${part} of layer ${cache.layer}`;
        const sealed = await readRange(source, offset, bytes + DIGEST_BYTES, title);
        const found = await chain.opened(sealed, `${name}: ${title}`);
        offset += sealed.length;
        const pages = pagesOf(held[poolOf(access.graph, place)], from, to);
        const whole = new Uint8Array(pages.length * pageBytes(cache, part, isRecent));
        whole.set(found);
        await write.pages(place, pages, whole);
      }
      for (const state of states) {
        const title = `states of layer ${state.layer}`;
        const sealed = await readRange(source, offset, state.values * 4 + DIGEST_BYTES, title);
        offset += sealed.length;
        await write.state(state, await chain.opened(sealed, `${name}: ${title}`));
      }
    },
  };
}

/** The pages of positions [from, to); `from` is the first of a page. */
function pagesOf({ first, pages, head = [] }: BlockPages, from: number, to: number): readonly number[] {
  if (from / PAGE_SLOTS < head.length) return head.slice(from / PAGE_SLOTS, blocksOf(to));
  return pages.slice(from / PAGE_SLOTS - first, blocksOf(to) - first);
}

/** The number of packed tokens in a file. */
function packedOf(name: string, { tokens, packed }: Record<string, unknown>, recent: number): number {
  const least = packedBlocks(recent, tokens as number) * PAGE_SLOTS;
  const most = tokens as number;
  if (!(Number.isInteger(packed) && (packed as number) >= least && (packed as number) <= most))
    throw new FormatError(`${name}: packed`, describe(packed), `integers ${least} to ${most}`);
  if ((packed as number) % PAGE_SLOTS !== 0)
    throw new FormatError(`${name}: packed`, describe(packed), `multiples of ${PAGE_SLOTS}`);
  return packed as number;
}

function headerOf({ graph, owner }: CacheAccess, tokens: number, firsts: readonly number[]): Header {
  const names = [...new Set(graph.caches.map(({ codec }) => codec.name))];
  return {
    model: owner.name,
    fingerprint: owner.fingerprint,
    rope: owner.rope,
    codec: names.join(),
    tokens,
    ...(graph.recentPool && { packed: firsts[graph.recentPool.id] }),
    layers: graph.caches.map((cache) => {
      const { layer, kvHeads, headDim, turned, pool, codec } = cache;
      const vectorBytes = codec.vectorBytes(headDim);
      const packed = codec.packed && {
        keyPageBytes: pageBytes(cache, "keys"),
        valuePageBytes: pageBytes(cache, "values"),
      };
      const first = firsts[pool.id];
      // Only if layers differ, so that files with one format are unchanged.
      const own = names.length > 1 && { codec: codec.name };
      const one = turned > 0 && { turned };
      return { layer, kvHeads, headDim, ...one, window: pool.window, vectorBytes, ...packed, ...own, first };
    }),
    ...(graph.states.length > 0 && { states: graph.states.map(({ layer, values }) => ({ layer, values })) }),
  };
}

/** Devices differ in whether they store a layer's keys and values as one vector. */
function checkTurned(name: string, found: readonly unknown[], { layers }: Header): void {
  const said = (turned: unknown) =>
    turned === undefined ? "keys and values apart" : `one vector and ${describe(turned)} turned dims`;
  for (const [i, { turned }] of layers.entries()) {
    const own = (found[i] as Partial<LayerHeader> | null | undefined)?.turned;
    if (own !== turned)
      throw new FormatError(
        `${name}: layers[${i}]`,
        said(own),
        `${said(turned)}, as this device holds them; restore it on a device that holds them as the file does`,
      );
  }
}

/** Throws FormatError at the first field with an unexpected value; the model's name does not matter. */
function compare(found: unknown, wanted: object, place: string): void {
  const fields = asObject(found, place.replace(/[.: ]*$/, ""));
  for (const [key, value] of Object.entries(wanted)) {
    if (key === "model") continue;
    if (Array.isArray(value)) {
      const list = fields[key];
      if (!Array.isArray(list) || list.length !== value.length)
        throw new FormatError(
          `${place}${key}`,
          Array.isArray(list) ? `${list.length}` : describe(list),
          `${value.length}`,
        );
      for (const [i, item] of value.entries()) compare(list[i], item, `${place}${key}[${i}].`);
    } else if (fields[key] !== value) {
      const isModel = key === "fingerprint" && typeof fields.model === "string";
      const from = isModel
        ? `${describe(fields[key])}, saved with ${describe(fields.model)}`
        : describe(fields[key]);
      throw new FormatError(`${place}${key}`, from, describe(value));
    }
  }
}

/** Positions [from, to) of one head's keys or values: a section of the file. */
interface Section {
  readonly place: PagePlace;
  readonly from: number;
  readonly to: number;
  readonly bytes: number;
}

function poolOf({ recentPool }: Graph, { cache, isRecent }: PagePlace): number {
  return isRecent ? recentPool!.id : cache.pool.id;
}

function placesOf(graph: Graph, { layers, tokens, packed = 0 }: Header): Section[] {
  const sections = (place: PagePlace, from: number, to: number) => {
    const { cache, part, isRecent } = place;
    const ofPage = pageBytes(cache, part, isRecent);
    const list: Section[] = [];
    for (let at = from; at < to; at += SECTION_TOKENS) {
      const end = Math.min(to, at + SECTION_TOKENS);
      list.push({ place, from: at, to: end, bytes: ((end - at) * ofPage) / PAGE_SLOTS });
    }
    return list;
  };
  return graph.caches.flatMap((cache) =>
    PARTS.flatMap((part) =>
      Array.from({ length: cache.kvHeads }, (_, kvHead) => {
        const place = { cache, part, kvHead };
        const { first } = layers[cache.id];
        if (!cache.codec.packed) return sections(place, first, tokens);
        const recent = { ...place, isRecent: true };
        const head = Math.min(packed, cache.codec.packed.firstPages * PAGE_SLOTS);
        return [
          ...[...sections(recent, 0, head), ...sections(place, Math.max(head, first), packed)],
          ...sections(recent, packed, tokens),
        ];
      }).flat(),
    ),
  );
}

async function readRange(source: Source, offset: number, bytes: number, what: string): Promise<Uint8Array> {
  if (offset + bytes > source.size)
    throw new FormatError(
      source.name,
      `${source.size} bytes`,
      `${offset + bytes} for ${what}: it is cut off`,
    );
  const into = new Uint8Array(bytes);
  await source.read(offset, into);
  return into;
}

/** The digests of a file, one after another. */
class Chain {
  #last = new Uint8Array(DIGEST_BYTES);

  /** The bytes, then their digest. */
  async *sealed(bytes: Uint8Array<ArrayBuffer>): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
    yield bytes;
    this.#last = await this.#digest(bytes);
    yield this.#last;
  }

  /** The bytes without their digest. Throws FormatError at `place` if the digest is wrong. */
  async opened(sealed: Uint8Array, place: string): Promise<Uint8Array> {
    const end = sealed.length - DIGEST_BYTES;
    const bytes = sealed.subarray(0, end);
    const digest = await this.#digest(bytes);
    if (digest.some((byte, i) => byte !== sealed[end + i]))
      throw new FormatError(place, "damaged: its checksum differs", "the bytes that were saved");
    this.#last = digest;
    return bytes;
  }

  async #digest(bytes: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    const both = new Uint8Array(DIGEST_BYTES + bytes.length);
    both.set(this.#last);
    both.set(bytes, DIGEST_BYTES);
    return new Uint8Array(await crypto.subtle.digest("SHA-256", both));
  }
}
