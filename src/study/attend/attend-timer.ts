/**
 * What a device provides for `nibble bench attend`: one layer's attention, by the kernels that models run, first
 * compared with the reference and then timed over caches of random numbers. Defines the jobs, the contents of caches,
 * and the expected output.
 */
import { type Cache, type Device, PAGE_SLOTS } from "../../device/contract.ts";
import type { KvPart, Packing } from "../../device/kv.ts";
import { attend, type VectorReader } from "../../device/reference/ops.ts";

/** One layer's attention. */
export interface AttendJob {
  readonly cache: Cache;
  readonly heads: number;
  /** For dequantize-then-attend: the f16 cache over the same pool into which `cache` is expanded before each step. */
  readonly expanded?: Cache;
  /** Overrides the device's own choices, for measuring variants. */
  readonly tuning?: object;
}

/** `queries` tokens at once, the first of them at `position`; the caches hold all up to the last. */
export interface AttendStep {
  readonly queries: number;
  readonly position: number;
}

export interface AttendTime {
  /** Time of one layer, from its queries to its output, including the merging of spans. */
  readonly us: number;
  /** Error of the last token's last head against float64 over the same codes: rms of the difference over rms. */
  readonly error: number;
}

export interface AttendTimer {
  /** The name of the device in rows of results. */
  readonly adapter: string;
  /** Memory bandwidth of a kernel that only reads. */
  readBytesPerSecond(): Promise<number>;
  readonly kvFormats: readonly string[];
  /** Packed formats that it can time; absent: none. */
  readonly kvParts?: Device["kvParts"];
  /** Formats that the device can also expand to f16 first. */
  readonly expandable: readonly string[];
  /** Why a job cannot be done here, as part of a sentence; null: it can. */
  refusal(job: AttendJob): string | null;
  /**
   * Times jobs of one shape, interleaved. Data comes from memory, not from the last run: copies of a small cache are
   * used in turn, like the layers of a model. Throws NibbleError "memory", DeviceError, and UnsupportedError without a
   * clock.
   */
  time(jobs: readonly AttendJob[], step: AttendStep): Promise<AttendTime[]>;
  close(): Promise<void>;
}

/** Position p holds random token p % NOISE_TOKENS. A multiple of a page. */
export const NOISE_TOKENS = 1024;

/** Total bytes of the copies of a cache, more than the second-level caches of GPUs hold (50 MB on an H100). */
export const ROTATED_BYTES = 2 ** 27;
const MOST_COPIES = 256;

/** How many caches of `bytes` each are used in turn, `rotated` bytes together. */
export function rotatedCopies(bytes: number, rotated = ROTATED_BYTES): number {
  return Math.max(1, Math.min(MOST_COPIES, Math.ceil(rotated / bytes)));
}

/** Normal numbers (the sum of four uniform ones, variance 1), the same for the same seed. */
export function noise(count: number, seed: number): Float32Array<ArrayBuffer> {
  let state = seed;
  const uniform = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return (state >>> 8) / 2 ** 24;
  };
  const next = () => (uniform() + uniform() + uniform() + uniform() - 2) * Math.sqrt(3);
  return Float32Array.from({ length: count }, next);
}

/** The contents of one layer, and the queries. */
export interface AttendNoise {
  /** [NOISE_TOKENS, kvHeads, headDim] */
  readonly keys: Float32Array<ArrayBuffer>;
  readonly values: Float32Array<ArrayBuffer>;
  /** [queries, heads, headDim] */
  readonly queries: Float32Array<ArrayBuffer>;
}

export function attendNoise({ cache, heads }: AttendJob, { queries }: AttendStep): AttendNoise {
  const { kvHeads, headDim } = cache;
  const count = NOISE_TOKENS * kvHeads * headDim;
  return {
    keys: noise(count, 1),
    values: noise(count, 2),
    queries: noise(queries * heads * headDim, 3),
  };
}

/**
 * Reads the last KV head of the noise as the codec stores it. packed: blocks before this one are packed, if the cache
 * packs.
 */
export function noiseReader(cache: Cache, part: KvPart, rows: Float32Array, packed = 0): VectorReader {
  const { codec, kvHeads, headDim } = cache;
  const bytes = new Uint8Array(codec.vectorBytes(headDim));
  const vectorOf = (row: number) => {
    const end = (row + 1) * kvHeads * headDim;
    const vector = new Float32Array(headDim);
    codec.encode(rows.subarray(end - headDim, end), bytes, part);
    codec.decode(bytes, vector);
    return vector;
  };
  const pageOf = (first: number, { pageBytes, encode, decode }: Packing) => {
    const page = new Float32Array(PAGE_SLOTS * headDim);
    const bytes = new Uint8Array(pageBytes(headDim, part));
    for (let slot = 0; slot < PAGE_SLOTS; slot++) page.set(vectors(first + slot), slot * headDim);
    encode(page, bytes, part);
    decode(bytes, page, part);
    return page;
  };
  const vectors = remembered(vectorOf);
  const pages = remembered((first) => pageOf(first, codec.packed!));
  return (_, position, into) => {
    const block = Math.floor(position / PAGE_SLOTS);
    const row = position % NOISE_TOKENS;
    const slot = row % PAGE_SLOTS;
    if (!codec.packed || block < codec.packed.firstPages || block >= packed) into.set(vectors(row));
    else into.set(pages(row - slot).subarray(slot * headDim, (slot + 1) * headDim));
  };
}

function remembered<T>(make: (key: number) => T): (key: number) => T {
  const known = new Map<number, T>();
  return (key) => {
    const found = known.get(key) ?? make(key);
    known.set(key, found);
    return found;
  };
}

/** The reference's output of the last token's last head: [headDim], as are queries and what is read. */
export function expectedOutput(
  { headDim, pool }: Cache,
  { queries, position }: AttendStep,
  query: Float32Array,
  keys: VectorReader,
  values: VectorReader,
): Float32Array {
  const out = new Float32Array(headDim);
  const shape = {
    tokens: 1,
    heads: 1,
    kvHeads: 1,
    headDim,
    window: pool.window,
    scale: headDim ** -0.5,
    softcap: 0,
  };
  attend(query, keys, values, { ...shape, position: position + queries - 1 }, out);
  return out;
}

/**
 * Pages of a text of `blocks` blocks, scattered as after long use; if a window needs fewer pages than there are blocks,
 * they repeat.
 */
export function scatteredPages({ pool: { pages } }: Cache, blocks: number): Uint32Array<ArrayBuffer> {
  const stride = [7, 5, 3].find((step) => pages % step !== 0) ?? 1;
  return Uint32Array.from({ length: blocks }, (_, block) => ((block % pages) * stride) % pages);
}

/** Runs that fill a text's pages up to position `end`, none of which writes a page twice. */
export function fillingRuns({ pool: { pages } }: Cache, end: number): { position: number; tokens: number }[] {
  const runs: { position: number; tokens: number }[] = [];
  const most = Math.min(NOISE_TOKENS, pages * PAGE_SLOTS);
  const first = Math.max(0, Math.ceil(end / PAGE_SLOTS) - pages) * PAGE_SLOTS;
  for (let position = first; position < end; ) {
    const tokens = Math.min(end - position, most, NOISE_TOKENS - (position % NOISE_TOKENS));
    runs.push({ position, tokens });
    position += tokens;
  }
  return runs;
}

/** Rms of the difference over rms of the expected values. */
export function relativeError(found: Float32Array, wanted: Float32Array): number {
  let difference = 0;
  let size = 0;
  wanted.forEach((x, i) => {
    difference += (found[i] - x) ** 2;
    size += x * x;
  });
  return Math.sqrt(difference / size);
}
