/**
 * Times one layer's attention on the CPU: a graph whose operations are attention over one cache after the other, run
 * like a model's step.
 */

import { gather } from "../../device/cache-bytes.ts";
import { type Cache, type Graph, type KvPart, PAGE_SLOTS } from "../../device/contract.ts";
import { median } from "../../device/median.ts";
import { Recorder } from "../../device/recorder.ts";
import { kvBlockAt, kvBlockMap } from "../../device/wasm/kv-layout.ts";
import { MEMORY_BYTES, poolBytes } from "../../device/wasm/program.ts";
import type { WasmAllocation, WasmDevice } from "../../device/wasm/wasm.ts";
import { measureReadRate } from "../cpu-bandwidth.ts";
import {
  type AttendJob,
  type AttendStep,
  type AttendTime,
  type AttendTimer,
  expectedOutput,
  noise,
  relativeError,
  rotatedCopies,
  scatteredPages,
} from "./attend-timer.ts";

/** V8 compiles kernels again while they run. */
const WARM_UP_MS = 300;
const REPETITIONS = 9;
/** All repetitions together should not take much longer. */
const TIMED_MS = 3000;

/** The device's allocations are closed after each measurement; there is nothing to close here. */
export function wasmAttendTimer(device: WasmDevice): AttendTimer {
  return {
    adapter: device.description,
    kvFormats: device.kvFormats ?? [],
    kvParts: device.kvParts,
    expandable: [],
    readBytesPerSecond: async () => (await measureReadRate(device.threads)).bytesPerSecond,
    refusal(job) {
      const { total, largest } = device.measure(graphOf(job, 1, { queries: 1, position: 0 }));
      const bytes = largest?.bytes ?? total;
      return bytes > MEMORY_BYTES ? `${bytes} bytes; a memory of WASM holds ${MEMORY_BYTES}` : null;
    },
    async time(jobs, step) {
      const layers: LayersOnCpu[] = [];
      try {
        for (const job of jobs) layers.push(await LayersOnCpu.open(device, job, step));
        return await timeInTurns(layers);
      } finally {
        await Promise.all(layers.map((each) => each.allocation.close()));
      }
    },
    close: async () => {},
  };
}

async function timeInTurns(layers: readonly LayersOnCpu[]): Promise<AttendTime[]> {
  const errors: number[] = [];
  let once = 0;
  for (const each of layers) {
    const started = performance.now();
    let ms = 0;
    do ms = await each.run();
    while (performance.now() - started < WARM_UP_MS);
    once += ms;
    errors.push(await each.error());
  }
  const repetitions = Math.max(1, Math.min(REPETITIONS, Math.floor(TIMED_MS / once)));
  const times = layers.map((): number[] => []);
  for (let i = 0; i < repetitions; i++)
    for (const [j, each] of layers.entries()) times[j].push((await each.run()) / each.layers);
  return layers.map((_, i) => ({ us: median(times[i]) * 1000, error: errors[i] }));
}

/** `layers` times attention, each over its own cache, with the step's rows as queries from a table. */
function graphOf({ cache, heads }: AttendJob, layers: number, { queries, position }: AttendStep): Graph {
  const { kvHeads, headDim, codec } = cache;
  const recorder = new Recorder(queries, 1);
  const rows = recorder.embed(recorder.weight("queries", "matrix", "f32", queries, heads * headDim));
  const pool = recorder.pool(cache.pool.window, cache.pool.pages);
  const step = { queries, position };
  if (codec.packed) recorder.recentPool(Math.max(...recentPages(cache, step)) + 1);
  let out = rows;
  for (let layer = 0; layer < layers; layer++) {
    const of = recorder.cache({ layer, kvHeads, headDim, codec, pool });
    out = recorder.attend(of, rows, { heads, scale: headDim ** -0.5 });
  }
  return recorder.finish(recorder.takeOutputs(out), { blocks: blocksOf(step) });
}

/** Blocks before a step that are packed. */
function packedBlocks({ codec }: Cache, { position }: AttendStep): number {
  return codec.packed ? Math.max(0, Math.floor((position - codec.packed.recentTokens) / PAGE_SLOTS)) : 0;
}

/** By block; packed ones have none. */
function recentPages(cache: Cache, step: AttendStep): number[] {
  const packed = packedBlocks(cache, step);
  const { firstPages = 0 } = cache.codec.packed ?? {};
  return Array.from({ length: blocksOf(step) }, (_, block) =>
    block < firstPages ? block : firstPages + Math.max(0, block - Math.max(firstPages, packed)),
  );
}

function blocksOf({ queries, position }: AttendStep): number {
  return Math.ceil((position + queries) / PAGE_SLOTS);
}

class LayersOnCpu {
  private constructor(
    readonly allocation: WasmAllocation,
    readonly job: AttendJob,
    readonly step: AttendStep,
    readonly queries: Float32Array,
    readonly layers: number,
  ) {}

  static async open(device: WasmDevice, job: AttendJob, step: AttendStep): Promise<LayersOnCpu> {
    const bytes = poolBytes(job.cache);
    const layers = rotatedCopies(bytes);
    const graph = graphOf(job, layers, step);
    const allocation = await device.allocate(graph);
    const made = new LayersOnCpu(
      allocation,
      job,
      step,
      noise(step.queries * job.heads * job.cache.headDim, 3),
      layers,
    );
    for (const cache of graph.caches) {
      fillCache(allocation.cacheBytes(cache));
      if (cache.codec.packed) fillCache(allocation.cacheBytes(cache, true));
    }
    allocation.setPages(graph.pools[0], 0, 0, scatteredPages(job.cache, blocksOf(step)));
    if (graph.recentPool) allocation.setPages(graph.recentPool, 0, 0, recentPages(job.cache, step));
    await made.#loadQueries(graph);
    return made;
  }

  async #loadQueries({ weights: [table] }: Graph): Promise<void> {
    const { rows, cols } = table;
    const bytes = new Uint8Array(this.queries.buffer);
    await this.allocation.load(table, {
      name: table.name,
      type: table.type,
      rows,
      cols,
      readRows: async (first, count, into) =>
        into.set(bytes.subarray(first * cols * 4, (first + count) * cols * 4)),
    });
  }

  /** Ms of all layers. */
  async run(): Promise<number> {
    const { queries, position } = this.step;
    const started = performance.now();
    const ids = Uint32Array.from({ length: queries }, (_, i) => i);
    const packed = { blocks: packedBlocks(this.job.cache, this.step), pack: [] };
    await this.allocation.run({ runs: [{ text: 0, position, ids, outputs: 1, packed }] });
    return performance.now() - started;
  }

  async error(): Promise<number> {
    const { cache } = this.job;
    const { graph } = this.allocation;
    const found = await this.allocation.read(graph.logits, 0, 1);
    const held = graph.caches[this.layers - 1];
    const read = (part: KvPart) => lastHeadReader(this.allocation, held, this.step, part);
    const wanted = expectedOutput(
      cache,
      this.step,
      this.queries.subarray(-cache.headDim),
      read("keys"),
      read("values"),
    );
    return relativeError(found.subarray(-cache.headDim), wanted);
  }
}

/**
 * All pairs of bytes from 0x28 to 0x2f are a float16 from 0.03 to 0.12 and four codes in any format, so noise of them
 * is a valid cache, wherever a layout has its scales.
 */
function fillCache(bytes: Uint8Array): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  let state = 1;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    words[i] = 0x28282828 | ((state >>> 5) & 0x07070707);
  }
}

function lastHeadReader(allocation: WasmAllocation, cache: Cache, step: AttendStep, part: KvPart) {
  const { kvHeads, headDim, codec } = cache;
  const packed = packedBlocks(cache, step);
  const tables = { packed: scatteredPages(cache, blocksOf(step)), recent: recentPages(cache, step) };
  const maps = [false, true].map((isRecent) => kvBlockMap(codec, part, headDim, isRecent));
  const vectors = new Float32Array(PAGE_SLOTS * headDim);
  let known = -1;
  const readBlock = (block: number) => {
    const isRecent = codec.packed !== null && !(block >= codec.packed.firstPages && block < packed);
    const page = (isRecent ? tables.recent : tables.packed)[block];
    const at = kvBlockAt(cache, part, kvHeads - 1, page, isRecent);
    const bytes = gather(maps[isRecent ? 1 : 0], allocation.cacheBytes(cache, isRecent), at, 0, 1);
    if (codec.packed && !isRecent) return codec.packed.decode(bytes, vectors, part);
    const size = bytes.length / PAGE_SLOTS;
    for (let slot = 0; slot < PAGE_SLOTS; slot++)
      codec.decode(
        bytes.subarray(slot * size, (slot + 1) * size),
        vectors.subarray(slot * headDim, (slot + 1) * headDim),
      );
  };
  return (_: number, position: number, into: Float32Array) => {
    const block = Math.floor(position / PAGE_SLOTS);
    if (block !== known) readBlock(block);
    known = block;
    const slot = position % PAGE_SLOTS;
    into.set(vectors.subarray(slot * headDim, (slot + 1) * headDim));
  };
}
