/**
 * The CPU device: SIMD kernels in shared WebAssembly memories (one, or several for a model beyond 4 GiB), run by worker
 * threads that meet at barriers while the calling thread's event loop stays free. This file creates the memories and
 * loads weights into them.
 */
import { availableParallelism } from "node:os";
import { dequantize } from "../../format/blocks.ts";
import { ArgumentError, DeviceError } from "../../format/errors.ts";
import { rowBytes, type Tensor } from "../../format/tensor.ts";
import { type BlockMap, gather, scatter } from "../cache-bytes.ts";
import { checkPage, checkPages, checkPlaces, checkState, checkStep } from "../check.ts";
import type {
  AfterAppend,
  Allocation,
  Cache,
  Device,
  Footprint,
  Graph,
  PagePlace,
  Pool,
  Ran,
  State,
  Step,
  Value,
  Weight,
} from "../contract.ts";
import { tablesOf } from "../facts.ts";
import { heldDim } from "../kv.ts";
import { Angles } from "../rope-angles.ts";
import { RowTable } from "../row-table.ts";
import { type Rows, rowsOf } from "../rows.ts";
import { NO_SLOT, RECORD_WORDS } from "./abi.js";
import { runWords, setControl } from "./control.ts";
import { physicalCores } from "./cores.ts";
import { HAS_FORMATS, kvBlockAt, kvBlockMap } from "./kv-layout.ts";
import { compileKernels, type Kernels, type Simd } from "./module.ts";
import { type Program, writeProgram } from "./operations.ts";
import { PANEL_ROWS, TYPE_IDS } from "./packing.ts";
import {
  ALL_MEMORIES_BYTES,
  CPU_CHUNK,
  footprintOf,
  footprintOfPlaced,
  type Layout,
  layerCacheBytes,
  MEMORY_BYTES,
  type MemoryOptions,
  memorySizes,
  mostRecords,
  type Placed,
  placeGraph,
  poolBytes,
  STATIC_BYTES,
  WASM_PAGE_BYTES,
} from "./program.ts";
import { WORD } from "./records.ts";
import { stagedRowBytes, stageRows } from "./staged.ts";
import { Workers } from "./workers.ts";

const MOST_THREADS = 64;

export interface WasmOptions {
  /** Default: the physical cores. */
  threads?: number;
  simd?: Simd;
  memory?: MemoryOptions;
}

export interface WasmDevice extends Device {
  readonly threads: number;
  /** With a view of its memory, for measuring. */
  allocate(graph: Graph): Promise<WasmAllocation>;
}

export async function wasmDevice(options: WasmOptions = {}): Promise<WasmDevice> {
  const threads = options.threads ?? physicalCores();
  if (!(Number.isInteger(threads) && threads >= 1 && threads <= MOST_THREADS))
    throw new ArgumentError("threads", threads, `integers 1 to ${MOST_THREADS}`);
  const kernels = await compileKernels(options.simd);
  return {
    name: "wasm",
    description: `wasm, ${simdOf(kernels, options.simd)}, ${threads} thread${threads === 1 ? "" : "s"}`,
    threads,
    memoryBytes: ALL_MEMORIES_BYTES,
    bufferBytes: MEMORY_BYTES,
    chunk: CPU_CHUNK,
    chooses: false,
    pauses: true,
    ...HAS_FORMATS,
    measure: (graph) => footprintOf(graph, threads, options.memory),
    allocate: (graph) => WasmAllocation.create(graph, kernels, threads, options.memory),
  };
}

function simdOf({ relaxed }: Kernels, simd?: Simd): string {
  return `${relaxed ? "relaxed SIMD" : "SIMD128"}${simd === "wide" ? " of 256 bits" : ""}`;
}

type Repack = (
  type: number,
  source: number,
  packed: number,
  rows: number,
  cols: number,
  first: number,
  count: number,
) => void;

const NOTHING_CHOSEN: Ran = { chosen: Promise.resolve([]) };

/** One of the memories, its layout, and the function that packs weights there. */
interface ShardMemory {
  readonly memory: WebAssembly.Memory;
  readonly layout: Layout;
  readonly repack: Repack;
}

export class WasmAllocation implements Allocation {
  /** By shard. null once closed, so that gigabytes are freed at once. */
  #shards: readonly ShardMemory[] | null;
  /** By weight id. */
  readonly #rows = new Map<number, RowTable>();
  /** By rope id. */
  readonly #angles: readonly Angles[];

  private constructor(
    readonly graph: Graph,
    readonly footprint: Footprint,
    readonly placed: Placed,
    shards: readonly ShardMemory[],
    readonly workers: Workers,
    readonly program: Program,
  ) {
    this.#shards = shards;
    this.#angles = graph.ropes.map((rope) => new Angles(rope));
    for (const { memory, layout } of shards) {
      const { control, runs: runsAt, outputRows: outputRowsAt } = layout;
      setControl(memory, control, { runsAt, outputRowsAt, blocks: graph.blocks });
    }
  }

  get memories(): WebAssembly.Memory[] {
    return this.#open().map(({ memory }) => memory);
  }

  static async create(
    graph: Graph,
    kernels: Kernels,
    threads: number,
    options?: MemoryOptions,
  ): Promise<WasmAllocation> {
    const placed = placeGraph(graph, threads, options);
    const footprint = footprintOfPlaced(graph, placed);
    const { largest } = footprint;
    const { bytes: most = MEMORY_BYTES } = options ?? {};
    if (largest && largest.bytes > most)
      throw new DeviceError(
        "wasm",
        `${largest.label} needs ${largest.bytes} bytes in one memory, which holds at most ${most}`,
      );
    const shards: ShardMemory[] = [];
    for (const [i, bytes] of memorySizes(placed).entries())
      shards.push(await makeMemory(kernels, placed.layouts[i], bytes, footprint.total));
    const words = shards.map(
      ({ memory, layout }) =>
        new Uint32Array(memory.buffer, layout.operations, mostRecords(graph) * RECORD_WORDS),
    );
    const program = writeProgram(graph, placed, words);
    const memories = shards.map(({ memory, layout: { control, operations } }) => ({
      memory,
      control,
      operations,
    }));
    const { module } = kernels;
    const { stretches } = program;
    const cores = availableParallelism();
    const workers = await Workers.start({ module, memories, stretches, threads, cores });
    return new WasmAllocation(graph, footprint, placed, shards, workers, program);
  }

  async load(weight: Weight, tensor: Tensor, onBytes?: (bytes: number) => void): Promise<void> {
    if (weight.role === "table") {
      this.#rows.set(weight.id, new RowTable(tensor));
      return;
    }
    for (const [i, shard] of this.#shardsWith("weights", weight.id).entries())
      await loadInto(shard, weight, tensor, i === 0 ? onBytes : undefined);
  }

  async run(step: Step, afterAppend?: AfterAppend): Promise<Ran> {
    const { count, appends } = this.program;
    // Before anything is written: a running step reads these words.
    const { refusal } = this.workers;
    if (refusal) throw refusal;
    checkStep(this.graph, step, false);
    const rows = rowsOf(step);
    for (const { id, cols } of tablesOf(this.graph))
      for (const { memory, layout } of this.#shardsWith("weights", id)) {
        const into = new Float32Array(memory.buffer, layout.weights[id], rows.tokens * cols);
        await this.#rows.get(id)!.read(rows.ids, into);
      }
    this.#writeStep(rows);
    let from = 0;
    if (afterAppend)
      for (const { cache, to } of appends) {
        await this.workers.run(from, to);
        await afterAppend(cache);
        from = to;
      }
    await this.workers.run(from, count);
    return NOTHING_CHOSEN;
  }

  setPages(pool: Pool, text: number, first: number, pages: ArrayLike<number>): void {
    checkPages(this.graph, pool, text, first, pages);
    for (const { memory, layout } of this.#open()) {
      const at = layout.tables[pool.id] / 4 + text * this.graph.blocks + first;
      new Uint32Array(memory.buffer).set(pages, at);
    }
  }

  async copyPage(pool: Pool, from: number, to: number): Promise<void> {
    const { refusal } = this.workers;
    if (refusal) throw refusal;
    for (const page of [from, to]) checkPage(pool, page);
    const isRecent = pool === this.graph.recentPool;
    for (const cache of this.graph.caches) {
      if (isRecent ? !cache.codec.packed : cache.pool !== pool) continue;
      const bytes = this.cacheBytes(cache, isRecent);
      const size = bytes.length / pool.pages;
      bytes.copyWithin(to * size, from * size, (from + 1) * size);
    }
  }

  async readPages(place: PagePlace, pages: readonly number[]): Promise<Uint8Array> {
    checkPlaces(this.graph, place, pages);
    const map = mapOf(place);
    const bytes = new Uint8Array(pages.length * map.pageBytes);
    const bytesOfAll = this.cacheBytes(place.cache, place.isRecent);
    pages.forEach((page, i) => {
      bytes.set(gather(map, bytesOfAll, pageAt(place, page), 0, 1), i * map.pageBytes);
    });
    return bytes;
  }

  async writePages(place: PagePlace, pages: readonly number[], bytes: Uint8Array): Promise<void> {
    checkPlaces(this.graph, place, pages, bytes);
    const map = mapOf(place);
    const size = map.pageBytes;
    const bytesOfAll = this.cacheBytes(place.cache, place.isRecent);
    pages.forEach((page, i) => {
      scatter(map, bytes.subarray(i * size, (i + 1) * size), bytesOfAll, pageAt(place, page), 0);
    });
  }

  async readState(state: State, slot: number): Promise<Uint8Array> {
    return this.#state(state, slot, state.values * 4).slice();
  }

  async writeState(state: State, slot: number, bytes: Uint8Array): Promise<void> {
    this.#state(state, slot, bytes.length).set(bytes);
  }

  async read(value: Value, first: number, rows: number): Promise<Float32Array> {
    const { memory, layout } = this.#open()[this.placed.madeIn[value.id]];
    const at = layout.arena + this.graph.offsets[value.id] + first * value.cols * 4;
    return new Float32Array(memory.buffer, at, rows * value.cols).slice();
  }

  async close(): Promise<void> {
    await this.workers.close();
    this.#shards = null;
  }

  /** All pages of a cache's pool, or its recent ones, as they are in memory. */
  cacheBytes(cache: Cache, isRecent = false): Uint8Array {
    const [{ memory, layout }] = this.#shardsWith("caches", cache.id);
    const bytes = new Uint8Array(memory.buffer, layout.caches[cache.id], layerCacheBytes(this.graph, cache));
    return isRecent ? bytes.subarray(poolBytes(cache)) : bytes.subarray(0, poolBytes(cache));
  }

  /** The memories that contain something. */
  #shardsWith(kind: "weights" | "caches" | "states", id: number): ShardMemory[] {
    return this.#open().filter((_, shard) => this.placed.shards[shard][kind].has(id));
  }

  #open(): readonly ShardMemory[] {
    if (!this.#shards) throw new DeviceError("wasm", "the device is closed");
    return this.#shards;
  }

  #state(state: State, slot: number, bytes: number): Uint8Array {
    checkState(this.graph, state, slot, bytes);
    const [{ memory, layout }] = this.#shardsWith("states", state.id);
    return new Uint8Array(memory.buffer, layout.states[state.id] + slot * bytes, bytes);
  }

  /** Writes the step's description into every memory. */
  #writeStep(rows: Rows): void {
    const shards = this.#open();
    const packs = rows.runs.map(({ packed }) => [...new Set(packed.pack)]);
    let packsTo = 0;
    const runs = rows.runs.flatMap(({ text, position, first, tokens, state, packed: { blocks } }, i) => {
      const [stateFrom, stateTo] = [state?.from ?? NO_SLOT, state?.to ?? NO_SLOT];
      const packsFrom = packsTo;
      packsTo += packs[i].length;
      const packed = { packed: blocks, packsFrom, packsTo };
      return runWords({ ...{ text, position, first, tokens, stateFrom, stateTo }, ...packed });
    });
    for (const { memory, layout } of shards) {
      const words = new Uint32Array(memory.buffer);
      words.set(rows.ids, layout.ids / 4);
      words.set(rows.outputRows, layout.outputRows / 4);
      words.set(runs, layout.runs / 4);
      if (this.graph.recentPool) words.set(packs.flat(), layout.packs / 4);
      const { tokens, outputs, runs: all } = rows;
      setControl(memory, layout.control, { tokens, outputs, runs: all.length });
    }
    for (const { shard, first, count } of this.program.stretches) {
      const { memory, layout } = shards[shard];
      const records = new Uint32Array(memory.buffer, layout.operations, (first + count) * RECORD_WORDS);
      for (let i = first; i < first + count; i++) records[i * RECORD_WORDS + WORD.taken] = 0;
    }
    for (const rope of this.graph.ropes) {
      const count = rows.tokens * 2 * rope.frequencies.length;
      const [angles, ...others] = shards.map(
        ({ memory, layout }) => new Float32Array(memory.buffer, layout.angles[rope.id], count),
      );
      this.#angles[rope.id].write(rows.positions, angles);
      for (const other of others) other.set(angles);
    }
  }
}

async function makeMemory(
  { module }: Kernels,
  layout: Layout,
  bytes: number,
  all: number,
): Promise<ShardMemory> {
  const pages = bytes / WASM_PAGE_BYTES;
  let memory: WebAssembly.Memory;
  try {
    memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    throw new DeviceError("wasm", `cannot reserve a memory of ${bytes} bytes (${all} bytes in total)`, {
      cause,
    });
  }
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  const dataEnd = (exports.__heap_base as WebAssembly.Global | undefined)?.value ?? 0;
  if (dataEnd > STATIC_BYTES)
    throw new DeviceError("wasm", `the kernels' constants end at ${dataEnd}, beyond ${STATIC_BYTES}`);
  return { memory, layout, repack: exports.repackRows as Repack };
}

/** Loads a tensor into its place in one memory. */
async function loadInto(
  { memory, layout, repack }: ShardMemory,
  weight: Weight,
  tensor: Tensor,
  onBytes?: (bytes: number) => void,
): Promise<void> {
  const { type, cols } = tensor;
  const target = layout.weights[weight.id];
  const bytes = rowBytes(type, cols);
  if (weight.role === "vector") {
    const file = new Uint8Array(tensor.rows * bytes);
    await tensor.readRows(0, tensor.rows, file);
    dequantize(type, file, new Float32Array(memory.buffer, target, tensor.rows * cols));
    onBytes?.(file.length);
    return;
  }
  const { staging, stagingBytes } = layout;
  const staged = stagedRowBytes(type, cols);
  // Whole panels, so that no piece leaves a panel half packed.
  const most = Math.max(PANEL_ROWS, Math.floor(stagingBytes / staged / PANEL_ROWS) * PANEL_ROWS);
  for (let first = 0; first < tensor.rows; first += most) {
    const rows = Math.min(most, tensor.rows - first);
    await stageRows(tensor, first, rows, new Uint8Array(memory.buffer, staging, rows * staged));
    repack(TYPE_IDS[weight.type], staging, target, weight.rows, weight.cols, first, rows);
    onBytes?.(rows * bytes);
  }
}

function mapOf({ cache, part, isRecent }: PagePlace): BlockMap {
  return kvBlockMap(cache.codec, part, heldDim(cache, part), isRecent);
}

function pageAt({ cache, part, kvHead, isRecent }: PagePlace, page: number): number {
  return kvBlockAt(cache, part, kvHead, page, isRecent);
}
