/**
 * The CPU device: SIMD kernels in one shared WebAssembly memory, run by worker threads that meet at barriers while the
 * calling thread's event loop stays free. Owns that memory and the way weights enter it.
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
import { RowTable } from "../row-table.ts";
import { type Rows, rowsOf } from "../rows.ts";
import { writeTurns } from "../turns.ts";
import { CONTROL, NO_SLOT } from "./control.ts";
import { physicalCores } from "./cores.ts";
import { KV_FORMATS, type KvFormat, kvBlockAt, kvBlockMap } from "./kv-layout.ts";
import { compileKernels, type Kernels } from "./module.ts";
import { type Program, writeProgram } from "./operations.ts";
import { PANEL_ROWS, TYPE_IDS } from "./packing.ts";
import {
  CPU_CHUNK,
  footprintOf,
  type Layout,
  layerCacheBytes,
  layOut,
  MEMORY_BYTES,
  mostRecords,
  PAGE_BYTES,
  STATIC_BYTES,
} from "./program.ts";
import { RECORD_WORDS, WORD } from "./records.ts";
import { stagedRowBytes, stageRows } from "./staged.ts";
import { Workers } from "./workers.ts";

const MOST_THREADS = 64;

export interface WasmOptions {
  /** Default: the physical cores. */
  threads?: number;
  /** "plain" refuses relaxed SIMD, for comparing. */
  simd?: "auto" | "plain";
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
    description: `wasm, ${kernels.relaxed ? "relaxed SIMD" : "SIMD128"}, ${threads} thread${threads === 1 ? "" : "s"}`,
    threads,
    memoryBytes: MEMORY_BYTES,
    chunk: CPU_CHUNK,
    chooses: false,
    pauses: true,
    kvFormats: Object.keys(KV_FORMATS),
    measure: (graph) => footprintOf(graph, threads),
    allocate: (graph) => WasmAllocation.create(graph, kernels, threads),
  };
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

export class WasmAllocation implements Allocation {
  /** null once closed: gigabytes must not wait until their owner is forgotten. */
  #held: { memory: WebAssembly.Memory; repack: Repack } | null;
  /** By weight id. */
  readonly #rows = new Map<number, RowTable>();
  /** Made when a cache is first read or written from outside. */
  readonly #maps = new Map<string, BlockMap>();

  private constructor(
    readonly graph: Graph,
    readonly footprint: Footprint,
    readonly layout: Layout,
    memory: WebAssembly.Memory,
    repack: Repack,
    readonly workers: Workers,
    readonly program: Program,
  ) {
    this.#held = { memory, repack };
    const { control, runs, outputRows } = layout;
    new Uint32Array(memory.buffer).set([runs, outputRows, graph.blocks], (control + CONTROL.runsAt) / 4);
  }

  get memory(): WebAssembly.Memory {
    return this.#open().memory;
  }

  static async create(graph: Graph, kernels: Kernels, threads: number): Promise<WasmAllocation> {
    const layout = layOut(graph, threads);
    const footprint = footprintOf(graph, threads);
    if (footprint.total > MEMORY_BYTES)
      throw new DeviceError("wasm", `${footprint.total} bytes are needed; one memory holds ${MEMORY_BYTES}`);
    const pages = footprint.total / PAGE_BYTES;
    let memory: WebAssembly.Memory;
    try {
      memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    } catch (cause) {
      throw new DeviceError("wasm", `cannot reserve ${footprint.total} bytes of memory`, { cause });
    }
    const { exports } = await WebAssembly.instantiate(kernels.module, { env: { memory } });
    const dataEnd = (exports.__heap_base as WebAssembly.Global | undefined)?.value ?? 0;
    if (dataEnd > STATIC_BYTES)
      throw new DeviceError("wasm", `the kernels' constants end at ${dataEnd}, beyond ${STATIC_BYTES}`);
    const words = new Uint32Array(memory.buffer, layout.operations, mostRecords(graph) * RECORD_WORDS);
    const program = writeProgram(graph, layout, words);
    const { control, operations } = layout;
    const cores = availableParallelism();
    const workers = await Workers.start({
      module: kernels.module,
      memory,
      control,
      operations,
      threads,
      cores,
    });
    return new WasmAllocation(
      graph,
      footprint,
      layout,
      memory,
      exports.repackRows as Repack,
      workers,
      program,
    );
  }

  async load(weight: Weight, tensor: Tensor, onBytes?: (bytes: number) => void): Promise<void> {
    if (weight.role === "table") {
      this.#rows.set(weight.id, new RowTable(tensor));
      return;
    }
    const { type, cols } = tensor;
    const target = this.layout.weights[weight.id];
    const bytes = rowBytes(type, cols);
    if (weight.role === "vector") {
      const file = new Uint8Array(tensor.rows * bytes);
      await tensor.readRows(0, tensor.rows, file);
      dequantize(type, file, new Float32Array(this.memory.buffer, target, tensor.rows * cols));
      onBytes?.(file.length);
      return;
    }
    const { staging, stagingBytes } = this.layout;
    const staged = stagedRowBytes(type, cols);
    // Whole panels, so that no piece leaves a panel half packed.
    const most = Math.max(PANEL_ROWS, Math.floor(stagingBytes / staged / PANEL_ROWS) * PANEL_ROWS);
    for (let first = 0; first < tensor.rows; first += most) {
      const rows = Math.min(most, tensor.rows - first);
      await stageRows(tensor, first, rows, new Uint8Array(this.memory.buffer, staging, rows * staged));
      this.#open().repack(TYPE_IDS[weight.type], staging, target, weight.rows, weight.cols, first, rows);
      onBytes?.(rows * bytes);
    }
  }

  async run(step: Step, afterAppend?: AfterAppend): Promise<Ran> {
    const { layout } = this;
    const { count, appends } = this.program;
    // Before anything is written: a running step reads these words.
    const { refusal } = this.workers;
    if (refusal) throw refusal;
    checkStep(this.graph, step, false);
    const rows = rowsOf(step);
    for (const { id, cols } of tablesOf(this.graph)) {
      const into = new Float32Array(this.memory.buffer, layout.weights[id], rows.tokens * cols);
      await this.#rows.get(id)!.read(rows.ids, into);
    }
    const words = new Uint32Array(this.memory.buffer);
    words.set(rows.ids, layout.ids / 4);
    words.set(rows.outputRows, layout.outputRows / 4);
    const runs = rows.runs.flatMap(({ text, position, first, tokens, state }) => [
      ...[text, position, first, tokens],
      ...[state?.from ?? NO_SLOT, state?.to ?? NO_SLOT],
    ]);
    words.set(runs, layout.runs / 4);
    words.set([rows.tokens, rows.outputs, rows.runs.length], (layout.control + CONTROL.tokens) / 4);
    const records = this.#records();
    for (let i = 0; i < count; i++) records[i * RECORD_WORDS + WORD.taken] = 0;
    this.#writeTurns(rows);
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
    const at = this.layout.tables[pool.id] / 4 + text * this.graph.blocks + first;
    new Uint32Array(this.memory.buffer).set(pages, at);
  }

  async copyPage(pool: Pool, from: number, to: number): Promise<void> {
    const { refusal } = this.workers;
    if (refusal) throw refusal;
    for (const page of [from, to]) checkPage(pool, page);
    const bytes = new Uint8Array(this.memory.buffer);
    for (const cache of this.graph.caches) {
      if (cache.pool !== pool) continue;
      const size = layerCacheBytes(cache) / pool.pages;
      const at = this.layout.caches[cache.id];
      bytes.copyWithin(at + to * size, at + from * size, at + (from + 1) * size);
    }
  }

  async readPages(place: PagePlace, pages: readonly number[]): Promise<Uint8Array> {
    checkPlaces(this.graph, place, pages);
    const map = this.#map(place);
    const bytes = new Uint8Array(pages.length * map.pageBytes);
    const memory = new Uint8Array(this.memory.buffer);
    pages.forEach((page, i) => {
      bytes.set(gather(map, memory, this.#pageAt(place, page), 0, 1), i * map.pageBytes);
    });
    return bytes;
  }

  async writePages(place: PagePlace, pages: readonly number[], bytes: Uint8Array): Promise<void> {
    checkPlaces(this.graph, place, pages, bytes);
    const map = this.#map(place);
    const size = map.pageBytes;
    const memory = new Uint8Array(this.memory.buffer);
    pages.forEach((page, i) => {
      scatter(map, bytes.subarray(i * size, (i + 1) * size), memory, this.#pageAt(place, page), 0);
    });
  }

  async readState(state: State, slot: number): Promise<Uint8Array> {
    return this.#state(state, slot, state.values * 4).slice();
  }

  async writeState(state: State, slot: number, bytes: Uint8Array): Promise<void> {
    this.#state(state, slot, bytes.length).set(bytes);
  }

  async read(value: Value, first: number, rows: number): Promise<Float32Array> {
    const at = this.layout.arena + this.graph.offsets[value.id] + first * value.cols * 4;
    return new Float32Array(this.memory.buffer, at, rows * value.cols).slice();
  }

  async close(): Promise<void> {
    await this.workers.close();
    this.#held = null;
  }

  #open() {
    if (!this.#held) throw new DeviceError("wasm", "the device is closed");
    return this.#held;
  }

  #state(state: State, slot: number, bytes: number): Uint8Array {
    checkState(this.graph, state, slot, bytes);
    return new Uint8Array(this.memory.buffer, this.layout.states[state.id] + slot * bytes, bytes);
  }

  #pageAt({ cache, part, kvHead }: PagePlace, page: number): number {
    return this.layout.caches[cache.id] + kvBlockAt(cache, part, kvHead, page);
  }

  #map({ cache, part }: PagePlace): BlockMap {
    const { headDim, codec } = cache;
    const key = `${codec.name} ${part} ${headDim}`;
    let map = this.#maps.get(key);
    if (!map) {
      map = kvBlockMap(codec.name as KvFormat, part, headDim, codec.vectorBytes(headDim));
      this.#maps.set(key, map);
    }
    return map;
  }

  #records(): Uint32Array {
    return new Uint32Array(this.memory.buffer, this.layout.operations, this.program.count * RECORD_WORDS);
  }

  #writeTurns({ tokens, positions }: Rows): void {
    for (const rope of this.graph.ropes) {
      const count = tokens * 2 * rope.frequencies.length;
      const turns = new Float32Array(this.memory.buffer, this.layout.turns[rope.id], count);
      writeTurns(rope, positions, turns);
    }
  }
}
