/**
 * A graph as the interpreter's operation list over one memory: every weight, cache, value and scratch area gets an
 * address, every operation a record, and threads meet only where one operation reads what another wrote.
 * Pure: computes sizes and words, allocates nothing.
 */
import { rowBytes } from "../../format/tensor.ts";
import { checkFormats } from "../check.ts";
import type { Cache, Footprint, Graph, Op, Value, Weight } from "../contract.ts";
import { inputsOf, outputOf } from "../recorder.ts";
import { CONTROL_BYTES, RUN_WORDS } from "./control.ts";
import {
  appendWorkBytes,
  attendPartialBytes,
  attendWorkBytes,
  KV_FORMATS,
  type KvFormat,
  kvPageBytes,
} from "./kv-layout.ts";
import {
  MATMUL_SCRATCH_BYTES,
  needsQuantizedInput,
  PANEL_ROWS,
  packedBytes,
  quantizedBytes,
  TYPE_IDS,
} from "./packing.ts";
import { type Argument, type Kind, RECORD_WORDS, RecordWriter } from "./records.ts";

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
  readonly arena: number;
  readonly quantized: number;
  readonly partials: number;
  /** One area a thread. */
  readonly work: number;
  readonly workBytes: number;
  readonly staging: number;
  readonly stagingBytes: number;
  readonly totalBytes: number;
}

export function weightBytes(weight: Weight): number {
  return weight.role === "vector"
    ? weight.rows * weight.cols * 4
    : packedBytes(weight.type, weight.rows, weight.cols);
}

export function layerCacheBytes(cache: Cache): number {
  const { kvHeads, headDim, pool, codec } = cache;
  return pool.pages * kvPageBytes(kvHeads, headDim, codec.name as KvFormat);
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
  const partials = attends.map((op) =>
    attendPartialBytes(graph.maxTokens, graph.texts, op.heads, op.cache.kvHeads, op.cache.headDim),
  );
  const work = [
    MATMUL_SCRATCH_BYTES,
    ...attends.map((op) => attendWorkBytes(op.cache.headDim)),
    ...graph.caches.map((cache) => appendWorkBytes(cache.headDim)),
  ];
  const workBytes = Math.ceil(Math.max(...work) / ALIGNMENT) * ALIGNMENT;
  const rows = graph.maxTokens;
  const quantized = graph.ops.map((op) => (isQuantized(op) ? rows * quantizedBytes(op.weight.cols) : 0));
  const longestPanel = Math.max(0, ...graph.weights.map((w) => PANEL_ROWS * rowBytes(w.type, w.cols)));
  const stagingBytes = Math.max(STAGING_BYTES, longestPanel);
  const control = place(CONTROL_BYTES);
  // A matmul may bring a quantize, an attend a merge.
  const operations = place(2 * graph.ops.length * RECORD_WORDS * 4);
  const ids = place(rows * 4);
  const runs = place(graph.texts * RUN_WORDS * 4);
  const outputRows = place(graph.maxOutputs * 4);
  const tables = graph.pools.map(() => place(graph.texts * graph.blocks * 4));
  const turns = graph.ropes.map((rope) => place(rows * rope.frequencies.length * 8));
  const weights = graph.weights.map((weight) => place(weightBytes(weight)));
  const caches = graph.caches.map((cache) => place(layerCacheBytes(cache)));
  return {
    ...{ control, operations, ids, runs, outputRows, tables, turns, weights, caches },
    arena: place(graph.arenaBytes),
    quantized: place(Math.max(0, ...quantized)),
    partials: place(Math.max(0, ...partials)),
    work: place(workBytes * threads),
    workBytes,
    staging: place(stagingBytes),
    stagingBytes,
    totalBytes: end,
  };
}

export const PAGE_BYTES = 65_536;
/** A WebAssembly memory ends at 4 GiB; the last page stays out, so that no end address wraps around to 0. */
export const MEMORY_BYTES = 2 ** 32 - PAGE_BYTES;

/** What the memory of this graph holds; a memory is whole pages. */
export function footprintOf(graph: Graph, threads: number): Footprint {
  const weights = graph.weights.map(weightBytes);
  const total = Math.ceil(layOut(graph, threads).totalBytes / PAGE_BYTES) * PAGE_BYTES;
  const caches = graph.caches.map(layerCacheBytes);
  const sum = (list: number[]) => list.reduce((a, b) => a + b, 0);
  const workspace = total - sum(weights) - sum(caches) - graph.arenaBytes;
  return { weights, caches, activations: graph.arenaBytes, workspace, total };
}

function isQuantized(op: Op): op is Op & { op: "matmul" } {
  return op.op === "matmul" && needsQuantizedInput(op.weight.type);
}

/** Writes the records of `graph` into `words`; returns how many. */
export function writeProgram(graph: Graph, layout: Layout, words: Uint32Array): number {
  const writer = new RecordWriter(words);
  const meetings = new Meetings(writer, layout, graph);
  const value = (v: Value) => layout.arena + graph.offsets[v.id];
  const weight = (w: Weight | null) => (w ? layout.weights[w.id] : 0);
  const add = (kind: Kind, rows: "tokens" | "outputs", touch: Touch, args: readonly Argument[]) => {
    meetings.before(touch);
    writer.add(kind, rows, args);
  };

  let quantizedValue: Value | null = null;
  for (const op of graph.ops) {
    const touch: Touch = { reads: inputsOf(op), writes: outputOf(op) };
    if (isQuantized(op) && quantizedValue !== op.x) {
      const { x } = op;
      add("quantize", x.rows, { reads: [x], writes: "quantized" }, [layout.quantized, value(x), x.cols]);
      quantizedValue = x;
    }
    switch (op.op) {
      case "embed": {
        const { table, scale, out } = op;
        const id = TYPE_IDS[table.type];
        add("embed", "tokens", touch, [
          value(out),
          weight(table),
          id,
          table.rows,
          table.cols,
          { f32: scale },
          layout.ids,
        ]);
        break;
      }
      case "rmsNorm": {
        const { x, groups, epsilon, out } = op;
        const size = x.cols / groups;
        add("rmsNorm", x.rows, touch, [
          value(out),
          value(x),
          weight(op.weight),
          groups,
          size,
          { f32: epsilon },
        ]);
        break;
      }
      case "matmul": {
        const { x, bias, out } = op;
        const { type, rows, cols } = op.weight;
        const both: Touch = { ...touch, readsQuantized: isQuantized(op) };
        const args = [
          value(out),
          value(x),
          layout.quantized,
          weight(op.weight),
          TYPE_IDS[type],
          rows,
          cols,
          weight(bias),
          layout.work,
          layout.workBytes,
        ];
        add("matmul", x.rows, both, args);
        break;
      }
      case "rope": {
        const { x, heads, rope, out } = op;
        const turns = layout.turns[rope.id];
        add("rope", "tokens", touch, [
          value(out),
          value(x),
          turns,
          heads,
          x.cols / heads,
          rope.frequencies.length,
        ]);
        break;
      }
      case "appendKv": {
        const { kvHeads, headDim, pool, codec, id } = op.cache;
        const tables = layout.tables[pool.id];
        const args = [layout.caches[id], value(op.keys), value(op.values), kvHeads, headDim, tables];
        add("appendKv", "tokens", { ...touch, cacheWrite: id }, [
          ...args,
          KV_FORMATS[codec.name as KvFormat],
          layout.work,
          layout.workBytes,
        ]);
        break;
      }
      case "attend": {
        const { queries, heads, out, scale, softcap } = op;
        const { kvHeads, headDim, pool, codec, id } = op.cache;
        const window = pool.window ?? 0;
        add("attend", "tokens", { ...touch, cacheRead: id, partials: "write" }, [
          ...[layout.caches[id], value(queries), value(out), layout.partials, layout.work, layout.workBytes],
          ...[
            heads,
            kvHeads,
            headDim,
            layout.tables[pool.id],
            window,
            { f32: scale },
            { f32: softcap },
            KV_FORMATS[codec.name as KvFormat],
          ],
        ]);
        const merged: Touch = { reads: [out], writes: out, partials: "read" };
        add("attendMerge", "tokens", merged, [
          layout.partials,
          value(out),
          heads,
          kvHeads,
          headDim,
          window,
          KV_FORMATS[codec.name as KvFormat],
        ]);
        break;
      }
      case "gate": {
        const activation = op.activation === "silu" ? 0 : 1;
        add("gate", op.out.rows, touch, [
          value(op.out),
          value(op.gate),
          value(op.up),
          op.out.cols,
          activation,
        ]);
        break;
      }
      case "add":
        add("add", op.out.rows, touch, [value(op.out), value(op.a), value(op.b), op.out.cols]);
        break;
      case "softcap":
        add("softcap", op.out.rows, touch, [value(op.out), value(op.x), op.out.cols, { f32: op.cap }]);
        break;
      case "takeOutputs":
        add("takeOutputs", "outputs", touch, [value(op.out), value(op.x), op.out.cols]);
        break;
    }
  }
  return writer.count;
}

/** What an operation reads and writes, for deciding where threads meet. */
interface Touch {
  reads: readonly Value[];
  writes: Value | "quantized" | null;
  readsQuantized?: boolean;
  cacheRead?: number;
  cacheWrite?: number;
  partials?: "read" | "write";
}

interface Region {
  from: number;
  to: number;
}

/** Places a meeting before an operation that touches what was written, or writes what was read, since the last. */
class Meetings {
  #read: Region[] = [];
  #written: Region[] = [];

  constructor(
    readonly writer: RecordWriter,
    readonly layout: Layout,
    readonly graph: Graph,
  ) {}

  before(touch: Touch): void {
    const { layout } = this;
    const reads = touch.reads.map((v) => this.#region(v));
    const writes: Region[] = [];
    const quantized = { from: layout.quantized, to: layout.partials };
    const partials = { from: layout.partials, to: layout.work };
    if (touch.writes === "quantized") writes.push(quantized);
    else if (touch.writes) writes.push(this.#region(touch.writes));
    if (touch.readsQuantized) reads.push(quantized);
    if (touch.cacheRead !== undefined) reads.push(this.#point(layout.caches[touch.cacheRead]));
    if (touch.cacheWrite !== undefined) writes.push(this.#point(layout.caches[touch.cacheWrite]));
    if (touch.partials) (touch.partials === "read" ? reads : writes).push(partials);

    const clash = (a: Region[], b: Region[]) => a.some((x) => b.some((y) => x.from < y.to && y.from < x.to));
    if (clash(reads, this.#written) || clash(writes, this.#written) || clash(writes, this.#read)) {
      this.writer.meet();
      this.#read = [];
      this.#written = [];
    }
    this.#read.push(...reads);
    this.#written.push(...writes);
  }

  #point(address: number): Region {
    return { from: address, to: address + 1 };
  }

  #region(value: Value): Region {
    const rows = value.rows === "tokens" ? this.graph.maxTokens : this.graph.maxOutputs;
    const from = this.layout.arena + this.graph.offsets[value.id];
    return { from, to: from + rows * value.cols * 4 };
  }
}
