/**
 * The reference device: runs a graph with the loops of ops.ts. It defines what every other device must compute and is
 * itself checked against golden data of other implementations. Weights are float32, caches are codec bytes, and values
 * do not share memory.
 */
import { dequantize } from "../../format/blocks.ts";
import { rowBytes, type Tensor } from "../../format/tensor.ts";
import { checkPage, checkPages, checkPlaces, checkState, checkStep } from "../check.ts";
import {
  type AfterAppend,
  type Allocation,
  type Cache,
  type Device,
  type Footprint,
  type Graph,
  type KvPart,
  type Op,
  PAGE_SLOTS,
  type PagePlace,
  type Pool,
  type Ran,
  type State,
  type Step,
  type Value,
  type Weight,
} from "../contract.ts";
import { tablesOf } from "../facts.ts";
import { heldDim, keyDim } from "../kv.ts";
import { pageBytes } from "../page-bytes.ts";
import { RowTable } from "../row-table.ts";
import { type Rows, type RunRows, rowsOf } from "../rows.ts";
import * as experts from "./experts.ts";
import * as ops from "./ops.ts";
import * as recurrent from "./recurrent.ts";

export function referenceDevice(): Device {
  return {
    name: "reference",
    description: "reference, plain loops in float32",
    memoryBytes: Number.MAX_SAFE_INTEGER,
    chunk: 128,
    chooses: false,
    pauses: true,
    oneVector: true,
    kvFormats: null,
    measure,
    allocate: async (graph) => new ReferenceAllocation(graph),
  };
}

function measure(graph: Graph): Footprint {
  const weights = graph.weights.map((w) => weightValues(graph, w) * 4);
  const caches = graph.caches.map((c) =>
    cacheBytes(graph, c).reduce((sum, { keys, values }) => sum + keys + values, 0),
  );
  const activations = graph.values.reduce((sum, v) => sum + valueRows(graph, v) * v.cols * 4, 0);
  const states = graph.states.map((s) => graph.stateSlots * s.values * 4);
  const sum = (list: number[]) => list.reduce((a, b) => a + b, 0);
  const total = sum(weights) + sum(caches) + sum(states) + activations;
  return { weights, caches, states, activations, workspace: 0, total };
}

/** For all pages of a cache's pool; with a packing, also of the recent pages. */
function cacheBytes({ recentPool }: Graph, cache: Cache): Parts<number>[] {
  const { kvHeads, pool, codec } = cache;
  const bytes = ({ pages }: Pool, isRecent: boolean) => {
    const part = (name: KvPart) => pages * kvHeads * pageBytes(cache, name, isRecent);
    return { keys: part("keys"), values: part("values") };
  };
  return [bytes(pool, false), ...(codec.packed ? [bytes(recentPool!, true)] : [])];
}

type Parts<T> = { readonly [part in KvPart]: T };

/** Bytes of a weight that are read at once, at least a row. */
const READ_BYTES = 2 ** 20;

const NOTHING_CHOSEN: Ran = { chosen: Promise.resolve([]) };

/** For a table, the rows of a step. */
function weightValues({ maxTokens }: Graph, { role, rows, cols }: Weight): number {
  return (role === "table" ? maxTokens : rows) * cols;
}

function valueRows(graph: Graph, value: Value): number {
  return value.rows === "tokens" ? graph.maxTokens : graph.maxOutputs;
}

class ReferenceAllocation implements Allocation {
  readonly footprint: Footprint;
  readonly #weights: Float32Array[];
  /** By weight id. */
  readonly #rows = new Map<number, RowTable>();
  readonly #values: Float32Array[];
  /** By cache id, as the contract lays them out. */
  readonly #caches: Parts<Uint8Array>[];
  /** By cache id, for caches with a packing: unpacked vectors. */
  readonly #recent: Parts<Uint8Array>[];
  /** By state id: [stateSlots, values]. */
  readonly #states: Float32Array[];
  /** By pool id: the page of each block, [texts, blocks]. */
  readonly #tables: Uint32Array[];

  constructor(readonly graph: Graph) {
    this.footprint = measure(graph);
    this.#weights = graph.weights.map((w) => new Float32Array(weightValues(graph, w)));
    this.#values = graph.values.map((v) => new Float32Array(valueRows(graph, v) * v.cols));
    const caches = graph.caches.map((cache) =>
      cacheBytes(graph, cache).map(({ keys, values }) => ({
        keys: new Uint8Array(keys),
        values: new Uint8Array(values),
      })),
    );
    this.#caches = caches.map(([own]) => own);
    this.#recent = caches.map(([own, recent]) => recent ?? own);
    this.#states = graph.states.map((s) => new Float32Array(graph.stateSlots * s.values));
    this.#tables = graph.pools.map(() => new Uint32Array(graph.texts * graph.blocks));
  }

  async load(weight: Weight, tensor: Tensor, onBytes?: (bytes: number) => void): Promise<void> {
    if (weight.role === "table") {
      this.#rows.set(weight.id, new RowTable(tensor));
      return;
    }
    const into = this.#weights[weight.id];
    const { rows, cols } = tensor;
    const bytes = rowBytes(tensor.type, cols);
    const most = Math.max(1, Math.floor(READ_BYTES / bytes));
    // The tensor's rows, not the weight's: a vector may be stored as a column.
    for (let first = 0; first < rows; first += most) {
      const count = Math.min(most, rows - first);
      const read = new Uint8Array(count * bytes);
      await tensor.readRows(first, count, read);
      for (let r = 0; r < count; r++)
        dequantize(
          tensor.type,
          read.subarray(r * bytes, (r + 1) * bytes),
          into.subarray((first + r) * cols, (first + r + 1) * cols),
        );
      onBytes?.(read.length);
    }
  }

  async run(step: Step, afterAppend?: AfterAppend): Promise<Ran> {
    checkStep(this.graph, step, false);
    const rows = rowsOf(step);
    for (const { id } of tablesOf(this.graph)) await this.#rows.get(id)!.read(rows.ids, this.#weights[id]);
    for (const op of this.graph.ops) {
      this.#run(op, rows);
      if (op.op === "appendKv") await afterAppend?.(op.cache);
    }
    return NOTHING_CHOSEN;
  }

  setPages(pool: Pool, text: number, first: number, pages: ArrayLike<number>): void {
    checkPages(this.graph, pool, text, first, pages);
    this.#tables[pool.id].set(pages, text * this.graph.blocks + first);
  }

  async copyPage(pool: Pool, from: number, to: number): Promise<void> {
    for (const page of [from, to]) checkPage(pool, page);
    const isRecent = pool === this.graph.recentPool;
    for (const cache of this.graph.caches) {
      if (isRecent ? !cache.codec.packed : cache.pool !== pool) continue;
      for (const bytes of Object.values((isRecent ? this.#recent : this.#caches)[cache.id])) {
        const size = bytes.length / pool.pages;
        bytes.copyWithin(to * size, from * size, (from + 1) * size);
      }
    }
  }

  async readPages(place: PagePlace, pages: readonly number[]): Promise<Uint8Array> {
    checkPlaces(this.graph, place, pages);
    const found = pages.map((page) => this.#page(place, page));
    const bytes = new Uint8Array(found.reduce((sum, { length }) => sum + length, 0));
    found.forEach((one, i) => {
      bytes.set(one, i * one.length);
    });
    return bytes;
  }

  async writePages(place: PagePlace, pages: readonly number[], bytes: Uint8Array): Promise<void> {
    checkPlaces(this.graph, place, pages, bytes);
    const size = bytes.length / pages.length;
    pages.forEach((page, i) => {
      this.#page(place, page).set(bytes.subarray(i * size, (i + 1) * size));
    });
  }

  async readState(state: State, slot: number): Promise<Uint8Array> {
    checkState(this.graph, state, slot, state.values * 4);
    return new Uint8Array(this.#slot(state, slot).slice().buffer);
  }

  async writeState(state: State, slot: number, bytes: Uint8Array): Promise<void> {
    checkState(this.graph, state, slot, bytes.length);
    this.#slot(state, slot).set(new Float32Array(bytes.slice().buffer));
  }

  async read(value: Value, first: number, rows: number): Promise<Float32Array> {
    return this.#values[value.id].slice(first * value.cols, (first + rows) * value.cols);
  }

  async close(): Promise<void> {}

  #page({ cache, part, kvHead, isRecent = false }: PagePlace, page: number): Uint8Array {
    const bytes = pageBytes(cache, part, isRecent);
    const at = (page * cache.kvHeads + kvHead) * bytes;
    return (isRecent ? this.#recent : this.#caches)[cache.id][part].subarray(at, at + bytes);
  }

  #slot({ id, values }: State, slot: number): Float32Array {
    return this.#states[id].subarray(slot * values, (slot + 1) * values);
  }

  #run(op: Op, rows: Rows): void {
    const { tokens, outputs } = rows;
    const get = (v: Value) =>
      this.#values[v.id].subarray(0, (v.rows === "tokens" ? tokens : outputs) * v.cols);
    switch (op.op) {
      case "embed":
        return ops.embed(this.#weights[op.table.id], rows.ids, op.scale, get(op.out));
      case "lookUp": {
        const found = this.#weights[op.table.id].subarray(0, tokens * op.table.cols);
        return ops.scale(found, op.scale, get(op.out));
      }
      case "rmsNorm": {
        const weight = op.weight && this.#weights[op.weight.id];
        return ops.rmsNorm(get(op.x), weight, op.x.cols / op.groups, op.epsilon, get(op.out));
      }
      case "matmul": {
        const { weight, bias } = op;
        const b = bias && this.#weights[bias.id];
        return ops.matmul(get(op.x), this.#weights[weight.id], b, weight.rows, weight.cols, get(op.out));
      }
      case "rope": {
        const { frequencies, magnitude } = op.rope;
        return ops.rope(get(op.x), op.heads, frequencies, magnitude, rows.positions, get(op.out));
      }
      case "takeTurned": {
        const weight = op.weight && this.#weights[op.weight.id];
        return ops.takeTurned(get(op.x), op.rope, weight, get(op.out));
      }
      case "appendKv":
        return this.#append(op.cache, get(op.keys), get(op.values), rows);
      case "attend": {
        const { kvHeads, headDim, pool } = op.cache;
        const { heads, scale, softcap } = op;
        const sinks = op.sinks && this.#weights[op.sinks.id];
        const queries = get(op.queries);
        const out = get(op.out);
        for (const run of rows.runs) {
          const { position, first, tokens } = run;
          const { window } = pool;
          const keys = keyDim(op.cache);
          const shape = {
            tokens,
            position,
            heads,
            kvHeads,
            headDim,
            keyDim: keys,
            window,
            scale,
            softcap,
            sinks,
          };
          const own = (x: Float32Array, size: number) =>
            x.subarray(first * heads * size, (first + tokens) * heads * size);
          const values = this.#reader(op.cache, "values", run);
          ops.attend(
            own(queries, keys),
            this.#keyReader(op.cache, run, values),
            values,
            shape,
            own(out, headDim),
          );
        }
        return;
      }
      case "gate":
        return ops.gate(get(op.gate), get(op.up), op.activation, op.limit, get(op.out));
      case "scale":
        return ops.scale(get(op.x), op.factor, get(op.out));
      case "slice":
        return ops.slice(get(op.x), op.x.cols / op.groups, op.from, op.size, get(op.out));
      case "route": {
        const weights = op.weights && this.#weights[op.weights.id];
        const { k, normalise, logits } = op;
        return experts.route(get(logits), logits.cols, k, normalise, weights, get(op.out));
      }
      case "expertMatmul": {
        const { weight } = op;
        const bias = op.bias && this.#weights[op.bias.id];
        const { rows, cols } = weight;
        const matrices = { weight: this.#weights[weight.id], bias, rows: rows / op.experts, cols };
        return experts.expertMatmul(get(op.x), get(op.picks), op.picks.cols / 2, matrices, get(op.out));
      }
      case "combine":
        return experts.combine(get(op.x), get(op.picks), op.picks.cols / 2, get(op.out));
      case "conv":
      case "gatedDelta":
        return this.#recur(op, rows, get);
      case "add":
        return ops.add(get(op.a), get(op.b), get(op.out));
      case "softcap":
        return ops.softcap(get(op.x), op.cap, get(op.out));
      case "takeOutputs": {
        const x = get(op.x);
        const out = get(op.out);
        const { cols } = op.x;
        rows.outputRows.forEach((row, i) => {
          out.set(x.subarray(row * cols, (row + 1) * cols), i * cols);
        });
      }
    }
  }

  /** Each run by itself, from the state that it reads to the one that it writes. */
  #recur(op: Extract<Op, { state: State }>, { runs }: Rows, get: (value: Value) => Float32Array): void {
    for (const { first, tokens, state: slots } of runs) {
      const own = (value: Value) => get(value).subarray(first * value.cols, (first + tokens) * value.cols);
      const before = slots!.from === null ? null : this.#slot(op.state, slots!.from);
      const after = this.#slot(op.state, slots!.to);
      if (op.op === "conv") {
        const weight = this.#weights[op.weight.id];
        recurrent.conv(own(op.x), weight, op.kernel, op.activation === "silu", before, after, own(op.out));
        continue;
      }
      const gates = {
        ...{ a: own(op.a), b: own(op.b) },
        ...{ rates: this.#weights[op.rates.id], bias: this.#weights[op.bias.id] },
      };
      const shape = { ...op, tokens, valueDim: op.out.cols / op.valueHeads };
      recurrent.gatedDelta(own(op.x), gates, shape, before, after, own(op.out));
    }
  }

  #append(cache: Cache, keys: Float32Array, values: Float32Array, rows: Rows): void {
    const { kvHeads, codec } = cache;
    for (let t = 0; t < rows.tokens; t++) {
      for (let h = 0; h < kvHeads; h++) {
        for (const [part, x] of [["keys", keys] as const, ["values", values] as const]) {
          const dims = heldDim(cache, part);
          const at = (t * kvHeads + h) * dims;
          const into = this.#vector(cache, rows.texts[t], part, h, rows.positions[t]);
          codec.encode(x.subarray(at, at + dims), into, part);
        }
      }
    }
    if (!codec.packed) return;
    const { window } = cache.pool;
    for (const { text, position, packed } of rows.runs)
      for (const block of packed.pack)
        if (window === null || position - (block * PAGE_SLOTS + PAGE_SLOTS - 1) < window)
          this.#pack(cache, text, block);
  }

  #pack(cache: Cache, text: number, block: number): void {
    const { kvHeads, codec, pool } = cache;
    const to = this.#tables[pool.id][text * this.graph.blocks + block];
    for (const part of ["keys", "values"] as const) {
      const dims = heldDim(cache, part);
      const page = new Float32Array(PAGE_SLOTS * dims);
      for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
        for (let slot = 0; slot < PAGE_SLOTS; slot++) {
          const vector = this.#vector(cache, text, part, kvHead, block * PAGE_SLOTS + slot);
          codec.decode(vector, page.subarray(slot * dims, (slot + 1) * dims));
        }
        codec.packed!.encode(page, this.#page({ cache, part, kvHead }, to), part);
      }
    }
  }

  /** The bytes of an unpacked vector. */
  #vector(cache: Cache, text: number, part: KvPart, kvHead: number, position: number): Uint8Array {
    const isRecent = cache.codec.packed !== null;
    const pool = isRecent ? this.graph.recentPool! : cache.pool;
    const page = this.#tables[pool.id][text * this.graph.blocks + Math.floor(position / PAGE_SLOTS)];
    const bytes = cache.codec.vectorBytes(heldDim(cache, part));
    const at = (position % PAGE_SLOTS) * bytes;
    return this.#page({ cache, part, kvHead, isRecent }, page).subarray(at, at + bytes);
  }

  /** Keys stored separately, or their stored dims followed by the token's value. */
  #keyReader(cache: Cache, run: RunRows, values: ops.VectorReader): ops.VectorReader {
    const own = this.#reader(cache, "keys", run);
    const { turned } = cache;
    if (turned === 0) return own;
    return (kvHead, position, into) => {
      own(kvHead, position, into.subarray(0, turned));
      values(kvHead, position, into.subarray(turned));
    };
  }

  /** Reads stored vectors of one part. Decodes each vector once, however many rows and heads ask for it. */
  #reader(cache: Cache, part: KvPart, { text, packed }: RunRows): ops.VectorReader {
    const { codec, pool, kvHeads } = cache;
    const headDim = heldDim(cache, part);
    const first = (codec.packed?.firstPages ?? 0) * PAGE_SLOTS;
    const end = codec.packed ? packed.blocks * PAGE_SLOTS : 0;
    /** By KV head and position. */
    const known: Float32Array[][] = Array.from({ length: kvHeads }, () => []);
    const read = (kvHead: number, position: number) => {
      if (position < first || position >= end) {
        known[kvHead][position] = new Float32Array(headDim);
        codec.decode(this.#vector(cache, text, part, kvHead, position), known[kvHead][position]);
        return;
      }
      const block = Math.floor(position / PAGE_SLOTS);
      const at = this.#tables[pool.id][text * this.graph.blocks + block];
      const page = new Float32Array(PAGE_SLOTS * headDim);
      codec.packed!.decode(this.#page({ cache, part, kvHead }, at), page, part);
      for (let slot = 0; slot < PAGE_SLOTS; slot++)
        known[kvHead][block * PAGE_SLOTS + slot] = page.subarray(slot * headDim, (slot + 1) * headDim);
    };
    return (kvHead, position, into) => {
      if (!known[kvHead][position]) read(kvHead, position);
      into.set(known[kvHead][position]);
    };
  }
}
