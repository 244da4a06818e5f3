/**
 * A saved cache: the token ids of a timeline and what its caches hold of them, in a file that describes itself and is
 * refused unless all of it fits. Owns the file's format. Refuses to know sessions, paths, and how a device arranges bytes:
 * keys and values are the codec's bytes by position, so a file goes to another device, chunk or context.
 *
 *   "NIBBLEKV", u32 version, u32 bytes of the header, header (JSON, `Header`), digest
 *   ids [tokens] u32, digest
 *   for each cache, keys then values, each KV head: [tokens - first, vectorBytes] in pieces of PIECE_TOKENS, each with
 *   its digest
 *
 * Little-endian. A digest is SHA-256 of the digest before it and of the bytes since: pieces stand in their order and
 * belong to their header. One idea: who restores knows what the header must say, but for two numbers, and so compares it.
 */
import { BLOCK_SLOTS } from "../device/cache-blocks.ts";
import type { Allocation, Cache, Graph, KvPart } from "../device/contract.ts";
import { FormatError } from "../format/errors.ts";
import { asObject, describe, parseJson } from "../format/json.ts";
import type { Source } from "../format/source.ts";

const MAGIC = "NIBBLEKV";
const VERSION = 1;
const PROLOGUE_BYTES = 16;
const DIGEST_BYTES = 32;
/** No header is longer: a layer takes a hundred bytes. */
const MOST_HEADER_BYTES = 4 * 2 ** 20;
/** A multiple of the blocks. 1 MiB of float16 at a head size of 128. */
const PIECE_TOKENS = 4096;
const PARTS: readonly KvPart[] = ["keys", "values"];

/** The model behind a cache. */
export interface CacheOwner {
  /** For people. */
  readonly name: string;
  /** Two models with the same one give the same keys and values. */
  readonly fingerprint: string;
  /** Of the rotary embedding's frequencies. */
  readonly rope: string;
}

/** What is saved or restored, and through what: an allocation's own methods, or something that waits for its turn. */
export interface CacheAccess extends Pick<Allocation, "readCache" | "writeCache"> {
  readonly graph: Graph;
  readonly timeline: number;
  readonly owner: CacheOwner;
}

interface Header {
  readonly model: string;
  readonly fingerprint: string;
  readonly rope: string;
  readonly codec: string;
  readonly tokens: number;
  readonly layers: readonly LayerHeader[];
}

interface LayerHeader {
  readonly layer: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** null: a full layer. */
  readonly window: number | null;
  /** Bytes of a head vector. */
  readonly vectorBytes: number;
  /** The oldest position that is there. */
  readonly first: number;
}

/** `ids`: the timeline. written: the position after the furthest that its rings have held. The file's bytes, in order. */
export async function* saveCache(
  access: CacheAccess,
  ids: readonly number[],
  written: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
  const { graph, timeline } = access;
  const firsts = graph.caches.map(({ window, capacity }) =>
    window === null ? 0 : Math.max(0, written - capacity),
  );
  const header = headerOf(access, ids.length, firsts);
  const text = new TextEncoder().encode(JSON.stringify(header));
  const prologue = new Uint8Array(PROLOGUE_BYTES + text.length);
  prologue.set(new TextEncoder().encode(MAGIC));
  const view = new DataView(prologue.buffer);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, text.length, true);
  prologue.set(text, PROLOGUE_BYTES);

  const chain = new Chain();
  yield* chain.sealed(prologue);
  const words = new DataView(new ArrayBuffer(ids.length * 4));
  ids.forEach((id, i) => {
    words.setUint32(i * 4, id, true);
  });
  yield* chain.sealed(new Uint8Array(words.buffer));
  for (const place of placesOf(graph, header)) {
    const { cache, part, kvHead, from, to } = place;
    const { vectorBytes } = header.layers[cache.id];
    const piece = new Uint8Array((to - from) * vectorBytes);
    for (const { position, slot, count } of slotRuns(cache, from, to)) {
      const first = slot - (slot % BLOCK_SLOTS);
      const slots = Math.ceil((slot + count - first) / BLOCK_SLOTS) * BLOCK_SLOTS;
      const bytes = await access.readCache({ cache, part, kvHead, first, slots, timeline });
      const begin = (slot - first) * vectorBytes;
      piece.set(bytes.subarray(begin, begin + count * vectorBytes), (position - from) * vectorBytes);
    }
    yield* chain.sealed(piece);
  }
}

/** A saved cache whose header fits and whose ids are known. */
export interface SavedCache {
  readonly ids: readonly number[];
  /** Writes the caches of a timeline; resolves with how far its rings count as written. FormatError: they hold nothing. */
  restore(access: CacheAccess): Promise<number>;
}

/**
 * Opens a file for a model and a context. FormatError unless it is whole, of this version, and saved with this model and
 * KV format. `source` stays the caller's to close.
 */
export async function openSavedCache(
  source: Source,
  access: Pick<CacheAccess, "graph" | "owner">,
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
  if (version !== VERSION)
    throw new FormatError(`${name}: version`, `${version}`, `${VERSION}, which this nibble reads and writes`);
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
  const firsts = access.graph.caches.map(({ window }, i) => {
    const first = (layers[i] as Partial<LayerHeader> | undefined)?.first ?? 0;
    // What the next token sees of it has to be there.
    const most = window === null ? 0 : Math.max(0, (tokens as number) - window + 1);
    if (!(Number.isInteger(first) && first >= 0 && first <= most))
      throw new FormatError(`${name}: layers[${i}].first`, describe(first), `0 to ${most}`);
    return first;
  });
  const header = headerOf(access, tokens as number, firsts);
  compare(found, header, `${name}: `);

  const places = placesOf(access.graph, header);
  const pieceBytes = ({ cache, from, to }: Place) => (to - from) * header.layers[cache.id].vectorBytes;
  const ends = whole.length + header.tokens * 4 + DIGEST_BYTES;
  const wanted = places.reduce((sum, place) => sum + pieceBytes(place) + DIGEST_BYTES, ends);
  if (size !== wanted) throw new FormatError(name, `${size} bytes`, `${wanted}, by its header`);
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
    async restore({ graph, timeline, writeCache }) {
      let offset = ends;
      /** The head that is being read, by slot: rings are written when they are whole. */
      let ring = new Uint8Array(0);
      for (const place of places) {
        const { cache, part, kvHead, from, to } = place;
        const { vectorBytes, first } = header.layers[cache.id];
        const title = `${part} of layer ${cache.layer}`;
        const sealed = await readRange(source, offset, pieceBytes(place) + DIGEST_BYTES, title);
        const bytes = await chain.opened(sealed, `${name}: ${title}`);
        offset += sealed.length;
        const range = { cache, part, kvHead, timeline };
        if (cache.window === null) {
          const slots = Math.ceil((to - from) / BLOCK_SLOTS) * BLOCK_SLOTS;
          const blocks = new Uint8Array(slots * vectorBytes);
          blocks.set(bytes);
          await writeCache({ ...range, first: from, slots }, blocks);
          continue;
        }
        const { capacity } = cache;
        if (from === first) ring = new Uint8Array(capacity * vectorBytes);
        for (const { position, slot, count } of slotRuns(cache, Math.max(from, to - capacity), to)) {
          const begin = (position - from) * vectorBytes;
          ring.set(bytes.subarray(begin, begin + count * vectorBytes), slot * vectorBytes);
        }
        if (to === header.tokens) await writeCache({ ...range, first: 0, slots: capacity }, ring);
      }
      // A ring that lacks its oldest positions is like one that has gone around over them.
      const lost = graph.caches.map(({ id, capacity }) => (firsts[id] > 0 ? firsts[id] + capacity : 0));
      return Math.max(header.tokens, ...lost);
    },
  };
}

function headerOf(
  { graph, owner }: Pick<CacheAccess, "graph" | "owner">,
  tokens: number,
  firsts: readonly number[],
): Header {
  return {
    model: owner.name,
    fingerprint: owner.fingerprint,
    rope: owner.rope,
    codec: graph.caches[0].codec.name,
    tokens,
    layers: graph.caches.map(({ layer, kvHeads, headDim, window, codec }, i) => {
      const vectorBytes = codec.vectorBytes(headDim);
      return { layer, kvHeads, headDim, window, vectorBytes, first: firsts[i] };
    }),
  };
}

/** FormatError at the first field that is not as wanted; what a model is called does not count. */
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

/** Positions [from, to) of one head's keys or values: a piece of the file. */
interface Place {
  readonly cache: Cache;
  readonly part: KvPart;
  readonly kvHead: number;
  readonly from: number;
  readonly to: number;
}

function placesOf(graph: Graph, { layers, tokens }: Header): Place[] {
  return graph.caches.flatMap((cache) =>
    PARTS.flatMap((part) =>
      Array.from({ length: cache.kvHeads }, (_, kvHead) => {
        const places: Place[] = [];
        for (let from = layers[cache.id].first; from < tokens; from += PIECE_TOKENS)
          places.push({ cache, part, kvHead, from, to: Math.min(tokens, from + PIECE_TOKENS) });
        return places;
      }).flat(),
    ),
  );
}

/** Positions [from, to), at most as many as the ring has slots, as runs of slots that follow each other. */
function slotRuns({ capacity }: Cache, from: number, to: number) {
  const runs: { position: number; slot: number; count: number }[] = [];
  for (let position = from; position < to; ) {
    const slot = position % capacity;
    const count = Math.min(to - position, capacity - slot);
    runs.push({ position, slot, count });
    position += count;
  }
  return runs;
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

  /** The bytes without the digest at their end. FormatError at `place` when it is not theirs. */
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
