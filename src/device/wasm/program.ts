/**
 * Where everything of a graph lies in one memory: every weight, cache, value and scratch area gets an address.
 * Pure: computes sizes, allocates nothing. The operations' records are operations.ts.
 */
import { UnsupportedError } from "../../format/errors.ts";
import { checkFormats } from "../check.ts";
import type { Cache, Footprint, Graph, Op, State, Weight } from "../contract.ts";
import { CONTROL_BYTES, RUN_WORDS } from "./control.ts";
import {
  appendWorkBytes,
  attendPartialBytes,
  attendWorkBytes,
  KV_FORMATS,
  type KvFormat,
  kvPageBytes,
  MOST_QUERY_HEADS_OF_KV_HEAD,
} from "./kv-layout.ts";
import {
  MATMUL_SCRATCH_BYTES,
  needsQuantizedInput,
  PANEL_ROWS,
  packedBytes,
  quantizedBytes,
} from "./packing.ts";
import { MOST_RECORDS_OF_OPERATION, RECORD_WORDS } from "./records.ts";
import { stagedRowBytes } from "./staged.ts";

/** A cache line; also what every kernel may assume of an address. */
const ALIGNMENT = 64;
/** The module's own constants lie below (asc places them from 1 KiB on); loading checks it. */
export const STATIC_BYTES = 64 * 1024;
/** File bytes that are read at once while loading; a tensor with longer rows gets a panel of them. */
const STAGING_BYTES = 8 * 1024 * 1024;

/** Default tokens of a step: 128 columns keep activations in a core's second-level cache; bench row `matmul` x 128. */
export const CPU_CHUNK = 128;

export interface Layout {
  readonly control: number;
  readonly operations: number;
  readonly ids: number;
  /** [texts] runs, and [maxOutputs] rows that reach the output. */
  readonly runs: number;
  readonly outputRows: number;
  /** By pool id: pages, [texts, blocks] u32. */
  readonly tables: readonly number[];
  /** By rope id: [maxTokens, 2, pairs] f32. */
  readonly turns: readonly number[];
  readonly weights: readonly number[];
  readonly caches: readonly number[];
  /** By state id: [stateSlots, values] f32. */
  readonly states: readonly number[];
  readonly arena: number;
  readonly quantized: number;
  /** Picks by expert: u32 [picks], and [experts + 1] where each expert's begin. */
  readonly pickOrder: number;
  readonly pickStarts: number;
  readonly partials: number;
  /** One area a thread. */
  readonly work: number;
  readonly workBytes: number;
  readonly staging: number;
  readonly stagingBytes: number;
  readonly totalBytes: number;
}

export function weightBytes(weight: Weight, maxTokens: number): number {
  // Of a table the rows of a step.
  if (weight.role === "table") return maxTokens * weight.cols * 4;
  return weight.role === "vector"
    ? weight.rows * weight.cols * 4
    : packedBytes(weight.type, weight.rows, weight.cols);
}

export function layerCacheBytes(cache: Cache): number {
  const { kvHeads, headDim, pool, codec } = cache;
  return pool.pages * kvPageBytes(kvHeads, headDim, codec.name as KvFormat);
}

/** Of assembly/recurrent.ts: taps of 16 channels; a unit query and a unit key. */
function recurrentWorkBytes(op: Op): number {
  if (op.op === "conv") return op.kernel * 16 * 4;
  return op.op === "gatedDelta" ? 2 * op.keyDim * 4 : 0;
}

function stateBytes({ stateSlots }: Graph, { values }: State): number {
  return stateSlots * values * 4;
}

export function mostRecords({ ops }: Graph): number {
  return MOST_RECORDS_OF_OPERATION * ops.length;
}

export function layOut(graph: Graph, threads: number): Layout {
  checkFormats(graph, { name: "wasm", kvFormats: Object.keys(KV_FORMATS) });
  let end = STATIC_BYTES;
  const place = (bytes: number) => {
    const at = end;
    end += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return at;
  };
  const attends = graph.ops.filter((op) => op.op === "attend");
  for (const { heads, cache } of attends) checkHeads(heads, cache.kvHeads);
  const partials = attends.map((op) =>
    attendPartialBytes(graph.maxTokens, graph.texts, op.heads, op.cache.kvHeads, op.cache.headDim),
  );
  const work = [
    MATMUL_SCRATCH_BYTES,
    ...attends.map((op) => attendWorkBytes(op.cache.headDim)),
    ...graph.caches.map((cache) => appendWorkBytes(cache.headDim)),
    ...graph.ops.map(recurrentWorkBytes),
  ];
  const workBytes = Math.ceil(Math.max(...work) / ALIGNMENT) * ALIGNMENT;
  const rows = graph.maxTokens;
  const quantized = graph.ops.map((op) => rows * quantizedRowBytes(op));
  const experts = graph.ops.filter((op) => op.op === "expertMatmul");
  const loaded = graph.weights.filter(({ role }) => role !== "table");
  const longestPanel = Math.max(0, ...loaded.map((w) => PANEL_ROWS * stagedRowBytes(w.type, w.cols)));
  const stagingBytes = Math.max(STAGING_BYTES, longestPanel);
  const control = place(CONTROL_BYTES);
  const operations = place(mostRecords(graph) * RECORD_WORDS * 4);
  const ids = place(rows * 4);
  const runs = place(graph.texts * RUN_WORDS * 4);
  const outputRows = place(graph.maxOutputs * 4);
  const tables = graph.pools.map(() => place(graph.texts * graph.blocks * 4));
  const turns = graph.ropes.map((rope) => place(rows * rope.frequencies.length * 8));
  const weights = graph.weights.map((weight) => place(weightBytes(weight, rows)));
  const caches = graph.caches.map((cache) => place(layerCacheBytes(cache)));
  const states = graph.states.map((state) => place(stateBytes(graph, state)));
  return {
    ...{ control, operations, ids, runs, outputRows, tables, turns, weights, caches, states },
    arena: place(graph.arenaBytes),
    quantized: place(Math.max(0, ...quantized)),
    pickOrder: place(Math.max(0, ...experts.map(({ picks }) => (rows * picks.cols * 4) / 2))),
    pickStarts: place(Math.max(0, ...experts.map((op) => (op.experts + 1) * 4))),
    partials: place(Math.max(0, ...partials)),
    work: place(workBytes * threads),
    workBytes,
    staging: place(stagingBytes),
    stagingBytes,
    totalBytes: end,
  };
}

function checkHeads(heads: number, kvHeads: number): void {
  if (heads / kvHeads > MOST_QUERY_HEADS_OF_KV_HEAD)
    throw new UnsupportedError(
      `${heads} query heads over ${kvHeads} KV heads on the wasm device`,
      `It takes up to ${MOST_QUERY_HEADS_OF_KV_HEAD} query heads for each KV head.`,
    );
}

export const PAGE_BYTES = 65_536;
/** A WebAssembly memory ends at 4 GiB; the last page stays out, so that no end address wraps around to 0. */
export const MEMORY_BYTES = 2 ** 32 - PAGE_BYTES;

/** What the memory of this graph holds; a memory is whole pages. */
export function footprintOf(graph: Graph, threads: number): Footprint {
  const weights = graph.weights.map((weight) => weightBytes(weight, graph.maxTokens));
  const total = Math.ceil(layOut(graph, threads).totalBytes / PAGE_BYTES) * PAGE_BYTES;
  const caches = graph.caches.map(layerCacheBytes);
  const states = graph.states.map((state) => stateBytes(graph, state));
  const sum = (list: number[]) => list.reduce((a, b) => a + b, 0);
  const workspace = total - sum(weights) - sum(caches) - sum(states) - graph.arenaBytes;
  return { weights, caches, states, activations: graph.arenaBytes, workspace, total };
}

/** Of an operation's codes of its input, for one row. */
function quantizedRowBytes(op: Op): number {
  if (op.op !== "matmul" && op.op !== "expertMatmul") return 0;
  const { x, weight } = op;
  return needsQuantizedInput(weight.type) ? (x.cols / weight.cols) * quantizedBytes(weight.cols) : 0;
}
