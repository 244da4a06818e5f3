/**
 * The memory layout of a graph: the number of memories, and in each of them an address for every weight, cache, value
 * and scratch area. Pure: computes sizes, allocates nothing. operations.ts makes the operations' records.
 */
import { UnsupportedError } from "../../format/errors.ts";
import { checkFormats } from "../check.ts";
import type { Cache, Footprint, Graph, Op, State, Weight } from "../contract.ts";
import { CONTROL_BYTES, RECORD_WORDS, RUN_WORDS } from "./abi.js";
import { type Cut, cutGraph, dealing, filling, type Shard, type Sizes, uncut } from "./cut.ts";
import {
  appendWorkBytes,
  attendPartialBytes,
  attendWorkBytes,
  HAS_FORMATS,
  layerPageBytes,
  MOST_QUERY_HEADS_OF_KV_HEAD,
} from "./kv-layout.ts";
import {
  MATMUL_SCRATCH_BYTES,
  needsQuantizedInput,
  PANEL_ROWS,
  packedBytes,
  quantizedBytes,
} from "./packing.ts";
import { MOST_RECORDS_OF_OPERATION } from "./records.ts";
import { stagedRowBytes } from "./staged.ts";

/** A cache line; also the alignment that every kernel may assume. */
const ALIGNMENT = 64;
/** The module's own constants are below this (asc places them from 1 KiB on); loading checks it. */
export const STATIC_BYTES = 64 * 1024;
/** File bytes that are read at once while loading; a tensor with longer rows gets enough for a panel of them. */
const STAGING_BYTES = 8 * 1024 * 1024;

/** Default tokens of a step: 128 columns keep activations in a core's second-level cache; bench row `matmul` x 128. */
export const CPU_CHUNK = 128;

/** Addresses in one memory; NaN for what is in another. */
export interface Layout {
  readonly control: number;
  readonly operations: number;
  readonly ids: number;
  /** [texts] runs, and [maxOutputs] rows that reach the output. */
  readonly runs: number;
  readonly outputRows: number;
  /** Blocks that the step packs, run by run. */
  readonly packs: number;
  /** By pool id: pages, [texts, blocks] u32. */
  readonly tables: readonly number[];
  /** By rope id: [maxTokens, 2, pairs] f32. */
  readonly angles: readonly number[];
  readonly weights: readonly number[];
  readonly caches: readonly number[];
  /** By state id: [stateSlots, values] f32. */
  readonly states: readonly number[];
  readonly arena: number;
  readonly quantized: number;
  /** Picks by expert: u32 [picks], and [experts + 1], the start of each expert's. */
  readonly pickOrder: number;
  readonly pickStarts: number;
  readonly partials: number;
  /** One area per thread. */
  readonly work: number;
  readonly workBytes: number;
  readonly staging: number;
  readonly stagingBytes: number;
  readonly totalBytes: number;
}

function weightBytes(weight: Weight, maxTokens: number): number {
  // For a table, the rows of a step.
  if (weight.role === "table") return maxTokens * weight.cols * 4;
  return weight.role === "vector"
    ? weight.rows * weight.cols * 4
    : packedBytes(weight.type, weight.rows, weight.cols);
}

/** Keys and values of a page are adjacent. */
function pageBytes(cache: Cache, isRecent = false): number {
  return layerPageBytes(cache, "keys", isRecent) + layerPageBytes(cache, "values", isRecent);
}

/** Bytes of the pages of a cache's pool. */
export function poolBytes(cache: Cache): number {
  return cache.pool.pages * pageBytes(cache);
}

/** Bytes of the pages of a cache's pool and of its recent pages, which follow them. */
export function layerCacheBytes({ recentPool }: Graph, cache: Cache): number {
  const ofRecent = cache.codec.packed ? recentPool!.pages * pageBytes(cache, true) : 0;
  return poolBytes(cache) + ofRecent;
}

/** For assembly/delta-chunks.ts: tokens of a chunk, and the most rows of a state that one thread holds. */
const DELTA = { chunk: 16, rows: 128 };

/**
 * Numbers in a thread's work area of assembly/delta.ts: addresses; numbers of tokens and of pairs of them; three times
 * 8 columns of tokens; vectors of keys, twice, and queries; rows of a state.
 */
export function deltaWorkBytes(keyDim: number): number {
  const { chunk, rows } = DELTA;
  return 64 + 4 * (4 * chunk + 2 * chunk ** 2 + 3 * 8 * chunk + (3 * chunk + rows) * keyDim);
}

/** For assembly/conv.ts: taps of 16 channels. */
function recurrentWorkBytes(op: Op): number {
  if (op.op === "conv") return op.kernel * 16 * 4;
  return op.op === "gatedDelta" ? deltaWorkBytes(op.keyDim) : 0;
}

function stateBytes({ stateSlots }: Graph, { values }: State): number {
  return stateSlots * values * 4;
}

export function mostRecords({ ops }: Graph): number {
  return MOST_RECORDS_OF_OPERATION * ops.length;
}

const aligned = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** Bytes that kernels and loading need besides weights, caches, states and values. */
function scratchOf(graph: Graph, threads: number) {
  const { ops, maxTokens: rows } = graph;
  const attends = ops.filter((op) => op.op === "attend");
  for (const { heads, cache } of attends) checkHeads(heads, cache.kvHeads);
  const partials = attends.map((op) =>
    attendPartialBytes(rows, graph.texts, op.heads, op.cache.kvHeads, op.cache.headDim),
  );
  const work = [
    MATMUL_SCRATCH_BYTES,
    ...attends.map(({ cache }) => attendWorkBytes(cache)),
    ...graph.caches.map(({ headDim, codec }) => appendWorkBytes(headDim, codec.packed !== null)),
    ...ops.map(recurrentWorkBytes),
  ];
  const workBytes = aligned(Math.max(...work));
  const quantized = ops.map((op) => rows * quantizedRowBytes(op));
  const experts = ops.filter((op) => op.op === "expertMatmul");
  const loaded = graph.weights.filter(({ role }) => role !== "table");
  const longestPanel = Math.max(0, ...loaded.map((w) => PANEL_ROWS * stagedRowBytes(w.type, w.cols)));
  return {
    quantized: Math.max(0, ...quantized),
    pickOrder: Math.max(0, ...experts.map(({ picks }) => (rows * picks.cols * 4) / 2)),
    pickStarts: Math.max(0, ...experts.map((op) => (op.experts + 1) * 4)),
    partials: Math.max(0, ...partials),
    work: workBytes * threads,
    workBytes,
    staging: Math.max(STAGING_BYTES, longestPanel),
  };
}

/** Except for their shards all memories have the same areas, since a graph's layers are similar. */
function layOut(graph: Graph, scratch: ReturnType<typeof scratchOf>, shard: Shard): Layout {
  let end = STATIC_BYTES;
  const place = (bytes: number) => {
    const at = end;
    end += aligned(bytes);
    return at;
  };
  const placeIf = (isHere: boolean, bytes: number) => (isHere ? place(bytes) : Number.NaN);
  const rows = graph.maxTokens;
  const control = place(CONTROL_BYTES);
  const operations = place(mostRecords(graph) * RECORD_WORDS * 4);
  const ids = place(rows * 4);
  const runs = place(graph.texts * RUN_WORDS * 4);
  const outputRows = place(graph.maxOutputs * 4);
  const packs = place(graph.recentPool ? graph.texts * graph.blocks * 4 : 0);
  const tables = graph.pools.map(() => place(graph.texts * graph.blocks * 4));
  const angles = graph.ropes.map((rope) => place(rows * rope.frequencies.length * 8));
  const weights = graph.weights.map((w) => placeIf(shard.weights.has(w.id), weightBytes(w, rows)));
  const caches = graph.caches.map((c) => placeIf(shard.caches.has(c.id), layerCacheBytes(graph, c)));
  const states = graph.states.map((s) => placeIf(shard.states.has(s.id), stateBytes(graph, s)));
  return {
    ...{ control, operations, ids, runs, outputRows, packs, tables, angles, weights, caches, states },
    arena: place(graph.arenaBytes),
    quantized: place(scratch.quantized),
    pickOrder: place(scratch.pickOrder),
    pickStarts: place(scratch.pickStarts),
    partials: place(scratch.partials),
    work: place(scratch.work),
    workBytes: scratch.workBytes,
    staging: place(scratch.staging),
    stagingBytes: scratch.staging,
    totalBytes: end,
  };
}

function checkHeads(heads: number, kvHeads: number): void {
  if (heads / kvHeads > MOST_QUERY_HEADS_OF_KV_HEAD)
    throw new UnsupportedError(
      `${heads} query heads over ${kvHeads} KV heads on the wasm device`,
      `At most ${MOST_QUERY_HEADS_OF_KV_HEAD} query heads for each KV head.`,
    );
}

export const WASM_PAGE_BYTES = 65_536;
/** A WebAssembly memory ends at 4 GiB; the last page is not used, so that no end address wraps around to 0. */
export const MEMORY_BYTES = 2 ** 32 - WASM_PAGE_BYTES;
/**
 * The most memories of an allocation: V8 reserves about 10 GiB of addresses for each, and a process gets about a
 * hundred (lab/LOG.md, 2026-11-28, the CPU beyond 4 GiB).
 */
const MOST_MEMORIES = 64;
/** The largest size of one allocation. */
export const ALL_MEMORIES_BYTES = MOST_MEMORIES * MEMORY_BYTES;

/** For tests. */
export interface MemoryOptions {
  /** The capacity of one memory. Default and maximum: MEMORY_BYTES. */
  bytes?: number;
  /** Assigns weights, caches and states to N memories in turn, though one could hold all. */
  dealTo?: number;
}

/** A graph cut into memories. */
export interface Placed extends Cut {
  /** For each shard. */
  readonly layouts: readonly Layout[];
}

const pagesOf = ({ totalBytes }: Layout) => Math.ceil(totalBytes / WASM_PAGE_BYTES);

/** Bytes of each memory: whole pages. */
export function memorySizes({ layouts }: Placed): number[] {
  return layouts.map((layout) => pagesOf(layout) * WASM_PAGE_BYTES);
}

/** Uses one memory if that holds everything. A group that is too large for one is in `largest`. */
export function placeGraph(graph: Graph, threads: number, options: MemoryOptions = {}): Placed {
  checkFormats(graph, { name: "wasm", ...HAS_FORMATS });
  const { bytes = MEMORY_BYTES, dealTo } = options;
  const scratch = scratchOf(graph, threads);
  if (dealTo === undefined) {
    const whole = uncut(graph);
    const layout = layOut(graph, scratch, whole.shards[0]);
    if (pagesOf(layout) * WASM_PAGE_BYTES <= bytes) return { ...whole, layouts: [layout] };
  }
  const sizes: Sizes = {
    weight: (weight) => aligned(weightBytes(weight, graph.maxTokens)),
    cache: (cache) => aligned(layerCacheBytes(graph, cache)),
    state: (state) => aligned(stateBytes(graph, state)),
  };
  const none = new Set<number>();
  const beside = layOut(graph, scratch, { weights: none, caches: none, states: none }).totalBytes;
  const room = Math.floor(bytes / WASM_PAGE_BYTES) * WASM_PAGE_BYTES - beside;
  const cut = cutGraph(graph, sizes, dealTo === undefined ? filling(room) : dealing(dealTo));
  const largest =
    room > 0
      ? { ...cut.largest, bytes: cut.largest.bytes + beside }
      : { label: `activations of ${graph.maxTokens} tokens`, bytes: beside };
  return { ...cut, largest, layouts: cut.shards.map((shard) => layOut(graph, scratch, shard)) };
}

/** The contents of the memories of this graph. */
export function footprintOf(graph: Graph, threads: number, options?: MemoryOptions): Footprint {
  return footprintOfPlaced(graph, placeGraph(graph, threads, options));
}

export function footprintOfPlaced(graph: Graph, placed: Placed): Footprint {
  const { shards, largest } = placed;
  const copies = (id: number) => shards.filter((shard) => shard.weights.has(id)).length;
  const weights = graph.weights.map((weight) => copies(weight.id) * weightBytes(weight, graph.maxTokens));
  const caches = graph.caches.map((cache) => layerCacheBytes(graph, cache));
  const states = graph.states.map((state) => stateBytes(graph, state));
  const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
  const total = sum(memorySizes(placed));
  const activations = shards.length * graph.arenaBytes;
  const workspace = total - sum(weights) - sum(caches) - sum(states) - activations;
  const parts = { weights, caches, states, activations, workspace, total };
  return shards.length > 1 ? { ...parts, largest } : parts;
}

/** Bytes of an operation's codes of its input, for one row. */
function quantizedRowBytes(op: Op): number {
  if (op.op !== "matmul" && op.op !== "expertMatmul") return 0;
  const { x, weight } = op;
  return needsQuantizedInput(weight.type) ? (x.cols / weight.cols) * quantizedBytes(weight.cols) : 0;
}
