/**
 * Measures attention of one layer without a model: microseconds by shape, KV format and context, compared with the
 * baseline that expands the cache to f16 before each step and with the limit set by memory bandwidth.
 */

import { kvCodec } from "../../cache/codecs.ts";
import { poolPages } from "../../cache/layers.ts";
import { hasFormat } from "../../device/check.ts";
import type { Cache } from "../../device/contract.ts";
import { tokenBytes } from "../../device/page-bytes.ts";
import { ArgumentError, NibbleError, throwIfAborted } from "../../format/errors.ts";
import type { AttendJob, AttendTimer } from "./attend-timer.ts";

/** `heads` query heads share `kvHeads` KV heads of `headDim`; window: positions that a query sees, null: all. */
interface AttendShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly window: number | null;
}

/** What `benchAttend` measures: shapes, formats, contexts. */
export interface AttendTests {
  /** "64/8x128": query heads, KV heads, head size; "32/16x256w1024" with a window. Default: ATTEND_SHAPES. */
  shapes?: readonly string[];
  /** Default: all that the device supports. */
  kv?: readonly string[];
  /** Cached tokens that one query attends to, including its own. Default: 1K to 128K; none with an empty list. */
  tokens?: readonly number[];
  /**
   * Cached tokens after a chunk of a prompt, including the chunk's own. Default: 512 to 64K; none with an empty list.
   */
  prompt?: readonly number[];
  /** Tokens of that chunk. Default 512. */
  queries?: number;
  /** Also expand the cache to f16 and attend to that, if the device can. Default true. */
  dequantized?: boolean;
}

/** What `benchAttend` times. */
export type AttendOp = "attendDecode" | "attendPrompt" | "attendDequantized";

/** One measurement. The names are part of the interface: bench/results/ has rows. */
export interface AttendRow {
  readonly op: AttendOp;
  readonly shape: string;
  readonly kv: string;
  /** Cached tokens. */
  readonly tokens: number;
  /** 1: a generated token. */
  readonly queries: number;
  /** Median, for one layer. */
  readonly us: number;
  /** Bytes of the compressed cache that the queries attend to, once, over the time: comparable between the ops. */
  readonly gbps: number;
  /**
   * Products of queries with the keys that they attend to and of weights with values, a multiplication and an addition
   * each.
   */
  readonly tflops: number;
  /** Against float64 over the same codes, relative rms. */
  readonly error: number;
  readonly adapter: string;
  readonly date: string;
}

/** Memory bandwidth of a kernel that only reads: the lower bound of all rows. */
export interface BandwidthRow {
  readonly op: "readBandwidth";
  readonly gbps: number;
  readonly adapter: string;
  readonly date: string;
}

/** A measurement that this device cannot make. */
export interface SkippedRow extends Pick<AttendRow, "op" | "shape" | "kv" | "tokens" | "queries"> {
  readonly skipped: string;
  readonly adapter: string;
  readonly date: string;
}

/** A row of `benchAttend`, or why there is none. */
export type AttendFinding = AttendRow | BandwidthRow | SkippedRow;

/** The measurement of `benchAttend` that is running. */
export interface AttendProgress {
  /** "64/8x128 over 131072 tokens" */
  readonly doing: string;
  /** Groups of measurements. */
  readonly done: number;
  readonly total: number;
}

/** Options of `benchAttend`. */
export interface BenchAttendOptions extends AttendTests {
  onProgress?: (progress: AttendProgress) => void;
  /** Stops the bench between two measurements; it then rejects with AbortedError. */
  signal?: AbortSignal;
}

/** Llama 3 70B, Llama 3 8B, a sliding layer of Gemma 3, its largest heads, needle-14m's size and above. */
export const ATTEND_SHAPES = ["64/8x128", "32/8x128", "32/16x256w1024", "32/4x512", "16/2x64"];
const KV_ORDER = ["int4", "rq4", "f16"];
const DECODE_TOKENS = [1024, 4096, 16_384, 65_536, 131_072];
const PROMPT_TOKENS = [512, 4096, 16_384, 65_536];
const QUERIES = 512;
/** Tokens that a sliding layer holds in addition to its window, as in a model. */
const CHUNK = 512;
const MOST_TOKENS = 2 ** 24;
/** 8-bit weights and queries cost 1 %; a larger error means that the result is wrong. */
const MOST_ERROR = 0.05;

const SHAPE = /^(\d+)\/(\d+)x(\d+)(?:w(\d+))?$/;

/** ArgumentError for an invalid shape, or one without kernels. */
function attendShape(text: string): AttendShape {
  const allowed = `heads/kvHeads x headDim and perhaps w window, such as ${ATTEND_SHAPES.slice(0, 3).join(", ")}`;
  const found = SHAPE.exec(text);
  if (!found) throw new ArgumentError("shape", text, allowed);
  const [heads, kvHeads, headDim] = found.slice(1, 4).map(Number);
  const window = found[4] === undefined ? null : Number(found[4]);
  if (!(kvHeads >= 1 && heads >= kvHeads && heads % kvHeads === 0 && heads <= 512))
    throw new ArgumentError("shape", text, "up to 512 heads, a multiple of the KV heads");
  if (!(headDim >= 16 && headDim <= 512 && headDim % 16 === 0))
    throw new ArgumentError("shape", text, "head sizes of 16 to 512 in steps of 16");
  if (window !== null && !(window >= 1 && window <= MOST_TOKENS))
    throw new ArgumentError("shape", text, `windows of 1 to ${MOST_TOKENS}`);
  return { heads, kvHeads, headDim, window };
}

/** Tests with their defaults. ArgumentError for invalid counts, for unknown formats, and if there are no tests. */
function attendTests(
  tests: AttendTests,
  device: Pick<AttendTimer, "kvFormats" | "kvParts">,
): Required<AttendTests> {
  const { kvFormats } = device;
  const all = KV_ORDER.filter((format) => kvFormats.includes(format));
  const { shapes = ATTEND_SHAPES, kv = all, tokens = DECODE_TOKENS, prompt = PROMPT_TOKENS } = tests;
  const { queries = QUERIES, dequantized = true } = tests;
  for (const shape of shapes) attendShape(shape);
  if (shapes.length === 0) throw new ArgumentError("shape", "empty", "at least one");
  for (const format of kv)
    if (!kvFormats.includes(format) && !hasFormat(kvCodec(format), device))
      throw new ArgumentError("kv", format, kvFormats.join(", "));
  if (kv.length === 0) throw new ArgumentError("kv", "empty", "at least one");
  const isCount = (found: number, least: number) =>
    Number.isInteger(found) && found >= least && found <= MOST_TOKENS;
  if (!(isCount(queries, 2) && queries <= 4096))
    throw new ArgumentError("queries", queries, "integers 2 to 4096");
  for (const found of tokens)
    if (!isCount(found, 1)) throw new ArgumentError("tokens", found, `integers 1 to ${MOST_TOKENS}`);
  for (const found of prompt)
    if (!isCount(found, queries))
      throw new ArgumentError("prompt", found, `integers ${queries} (the queries) to ${MOST_TOKENS}`);
  if (tokens.length + prompt.length === 0)
    throw new ArgumentError("tokens", "empty, and so is prompt", "a number of one of them");
  const ascending = (list: readonly number[]) => [...new Set(list)].sort((a, b) => a - b);
  return {
    shapes: [...new Set(shapes)],
    kv: [...new Set(kv)],
    tokens: ascending(tokens),
    prompt: ascending(prompt),
    queries,
    dequantized,
  };
}

/**
 * Measures; rows are returned as they are known, and the timer stays open. Throws ArgumentError, and DeviceError also
 * if an output differs from the reference.
 */
export async function* benchAttend(
  timer: AttendTimer,
  options: BenchAttendOptions = {},
): AsyncGenerator<AttendFinding> {
  const tests = attendTests(options, timer);
  const { signal, onProgress } = options;
  throwIfAborted(signal, "the bench");
  const steps = [
    ...tests.tokens.map((tokens) => ({ tokens, queries: 1 })),
    ...tests.prompt.map((tokens) => ({ tokens, queries: tests.queries })),
  ];
  const total = tests.shapes.length * steps.length;
  let done = 0;
  onProgress?.({ doing: "reading memory", done, total });
  const gbps = digits((await timer.readBytesPerSecond()) / 1e9, 4);
  yield { op: "readBandwidth", gbps, adapter: timer.adapter, date: today() };
  for (const shape of tests.shapes)
    for (const step of steps) {
      throwIfAborted(signal, "the bench");
      const chunk = step.queries === 1 ? "" : `${step.queries} tokens `;
      onProgress?.({ doing: `${shape}, ${chunk}over ${step.tokens} tokens`, done, total });
      yield* measure(timer, shape, tests, step);
      done++;
    }
}

async function* measure(
  timer: AttendTimer,
  shape: string,
  { kv, dequantized }: Required<AttendTests>,
  { tokens, queries }: { readonly tokens: number; readonly queries: number },
): AsyncGenerator<AttendRow | SkippedRow> {
  const { heads, kvHeads, headDim, window } = attendShape(shape);
  const needs = { cacheTokens: tokens, texts: 1, maxTokens: Math.max(CHUNK, queries) };
  const pool = { id: 0, window, pages: poolPages(window, needs) };
  const cacheOf = (format: string): Cache => {
    return { id: 0, layer: 0, codec: kvCodec(format), kvHeads, headDim, turned: 0, pool };
  };
  const op = queries === 1 ? "attendDecode" : "attendPrompt";
  const wanted = kv.flatMap((format) => {
    const cache = cacheOf(format);
    const fused = { op, kv: format, job: { cache, heads } as AttendJob } as const;
    if (!dequantized || !timer.expandable.includes(format)) return [fused];
    const job: AttendJob = { cache, heads, expanded: cacheOf("f16") };
    return [fused, { op: "attendDequantized", kv: format, job } as const];
  });
  const about = { shape, tokens, queries };
  const of = { adapter: timer.adapter, date: today() };
  const possible: typeof wanted = [];
  for (const entry of wanted) {
    const skipped = timer.refusal(entry.job);
    if (skipped === null) possible.push(entry);
    else yield { op: entry.op, ...about, kv: entry.kv, skipped, ...of };
  }
  if (possible.length === 0) return;
  try {
    const step = { queries, position: tokens - queries };
    const times = await timer.time(
      possible.map(({ job }) => job),
      step,
    );
    for (const [i, { op, kv, job }] of possible.entries()) {
      const { us, error } = times[i];
      // NaN too.
      if (!(error <= MOST_ERROR))
        throw new NibbleError(
          "device",
          `${timer.adapter}: ${op} over ${kv}, ${shape} at ${tokens} tokens, is ${error.toPrecision(2)} away from the reference; allowed: ${MOST_ERROR}. Its time would mean nothing.`,
        );
      const seen = Math.min(tokens, window === null ? tokens : window + queries - 1);
      const bytes = kvHeads * tokenBytes(job.cache) * seen;
      const operations = 4 * heads * headDim * pairsSeen(tokens, queries, window);
      yield {
        op,
        ...about,
        kv,
        us: digits(us, 4),
        gbps: digits(bytes / us / 1e3, 4),
        tflops: digits(operations / us / 1e6, 4),
        error: digits(error, 2),
        ...of,
      };
    }
  } catch (error) {
    if (!(error instanceof NibbleError && error.code === "memory")) throw error;
    for (const { op, kv } of possible) yield { op, ...about, kv, skipped: error.message, ...of };
  }
}

/** Pairs of a query and a position that it attends to. */
function pairsSeen(tokens: number, queries: number, window: number | null): number {
  let pairs = 0;
  for (let seen = tokens - queries + 1; seen <= tokens; seen++) pairs += Math.min(seen, window ?? seen);
  return pairs;
}

/** Microseconds in which a kernel that only reads would have read what `row` must. */
export function floorUs(row: AttendRow, bandwidth: BandwidthRow): number {
  return (row.us * row.gbps) / bandwidth.gbps;
}

function digits(value: number, count: number): number {
  return Number(value.toPrecision(count));
}

function today(): string {
  return new Date().toISOString().slice(0, 10);
}
