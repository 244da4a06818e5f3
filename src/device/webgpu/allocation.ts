/**
 * A compiled graph on one GPUDevice: its buffers and its steps. A short step is one submit, with cached bind groups and
 * no allocation; a row may take its id from the sampling of the step before, on the GPU. This file defines the order of
 * writes and submits. Every failure rejects with the GPU's one error.
 */
import { ArgumentError, NibbleError } from "../../format/errors.ts";
import type { Tensor } from "../../format/tensor.ts";
import { type BlockMap, gather, pageMap, scatter } from "../cache-bytes.ts";
import { checkPage, checkPages, checkPlaces, checkState, checkStep } from "../check.ts";
import type {
  Allocation,
  Footprint,
  Graph,
  KvPart,
  PagePlace,
  Pool,
  Ran,
  Sampling,
  State,
  Step,
  StepProfile,
  Value,
  Weight,
} from "../contract.ts";
import { tablesOf } from "../facts.ts";
import { heldDim } from "../kv.ts";
import { pageBytes } from "../page-bytes.ts";
import { Angles } from "../rope-angles.ts";
import { RowTable } from "../row-table.ts";
import type { CacheBuffers } from "./attend-options.ts";
import { type Batch, batchOf, candidatesBatch, STEP_BYTES, tableAt } from "./batch.ts";
import { storageUsage } from "./buffers.ts";
import { type Dispatch, MODES, type Mode, type PlannedBuffer, type StepShape } from "./dispatch.ts";
import { USAGE } from "./flags.ts";
import type { Gpu } from "./gpu.ts";
import { blockBytes, kvLayout, layerPageBytes } from "./kv.ts";
import { readPage } from "./kv-pages.ts";
import { profileStep } from "./profile.ts";
import type { GpuProgram } from "./program.ts";
import { ReadBack } from "./read-back.ts";
import { encodePass, makeReady, type Ready } from "./ready.ts";
import { keepFor, MOST_KEPT, NOT_PROVEN, unpackCandidates } from "./sample.ts";
import { Submits } from "./submits.ts";
import { loadWeight } from "./weight-loading.ts";
import { type PackThreadsMaker, WeightPacking } from "./weight-packing.ts";
import { DirectUploads, StagedUploads } from "./weight-uploads.ts";
import { WordsBack } from "./words-back.ts";

/**
 * Most steps in progress, enough that the GPU never waits for the next one. Few for prompts, so that an abort does not
 * wait for many. More for the others, because the host wakes up some 0.1 ms after a submit is done, and a garbage
 * collection takes a few ms.
 */
const UNDER_WAY: Readonly<Record<Mode, number>> = { decode: 5, few: 5, several: 5, batch: 5, prompt: 2 };

/** Pages that are written before the host waits for the GPU. */
const WRITES_UNDER_WAY = 256;

/** Where pages' bits are in the GPU's blocks, by layout, part and size of a head. */
const maps = new Map<string, BlockMap>();

const NOTHING_CHOSEN: Ran = { chosen: Promise.resolve([]) };

export interface AllocationOptions {
  /** Longest submit by estimate; default: 300 ms (submit-parts.ts). For tests. */
  readonly submitMs?: number;
  /** Threads that pack weights; null: none. */
  readonly packing?: PackThreadsMaker | null;
}

export class WebgpuAllocation implements Allocation {
  readonly footprint: Footprint;
  readonly #readBack: ReadBack;
  /** By rope id; values: those of a step, before they are written to the GPU. */
  readonly #angles: readonly { readonly angles: Angles; readonly values: Float32Array<ArrayBuffer> }[];
  /** The dispatches and the shape of the last step. */
  #last: { readonly list: readonly Ready[]; readonly shape: StepShape } | null = null;
  readonly #under: Promise<void>[] = [];
  /** Resolves when the last step has run. */
  #done: Promise<void> = Promise.resolve();
  readonly #submits: Submits;
  readonly #words: WordsBack;
  readonly #packing: WeightPacking;
  /** Weights of role `table`: a step reads only the rows of its ids. */
  readonly #tables: readonly Weight[];
  #pagesWritten = 0;
  /** The tables by weight id. */
  readonly #rows = new Map<number, RowTable>();
  /** Dispatches of sampling, compiled when they are first needed. */
  readonly #sampling = new Map<readonly Dispatch[], Promise<Ready[]>>();

  private constructor(
    readonly graph: Graph,
    readonly program: GpuProgram,
    readonly gpu: Gpu,
    readonly buffers: ReadonlyMap<number, GPUBuffer>,
    readonly ready: Readonly<Record<Mode, readonly Ready[]>>,
    readonly stepBuffer: GPUBuffer,
    stamp: Ready,
    { submitMs, packing = null }: AllocationOptions,
  ) {
    this.footprint = program.footprint;
    // Threads mean Node.
    this.#packing = new WeightPacking(packing, packing ? new StagedUploads(gpu) : new DirectUploads(gpu));
    this.#tables = tablesOf(graph);
    this.#readBack = new ReadBack(gpu);
    this.#words = new WordsBack(gpu, this.#buffer(program.sampling.chosen), (graph.texts + 1) * 4);
    this.#submits = new Submits({
      gpu,
      submitMs,
      stamp,
      stampBuffer: this.#buffer(stamp.dispatch.buffers.out),
      write: (uniform, lists, at) => this.#writeLists({ uniform, lists, at }),
    });
    this.#angles = graph.ropes.map((rope) => ({
      angles: new Angles(rope),
      values: new Float32Array(graph.maxTokens * 2 * rope.frequencies.length),
    }));
  }

  /** Throws NibbleError "memory" if the buffers do not fit, DeviceError for all other failures. */
  static async create(
    graph: Graph,
    program: GpuProgram,
    gpu: Gpu,
    options: AllocationOptions = {},
  ): Promise<WebgpuAllocation> {
    const { device } = gpu;
    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    const buffers = new Map<number, GPUBuffer>();
    for (const { id, label, bytes } of program.buffers)
      buffers.set(id, device.createBuffer({ label, size: bytes, usage: storageUsage(bytes) }));
    const stepUsage = USAGE.uniform | USAGE.copyTarget;
    const step = device.createBuffer({ label: "step", size: STEP_BYTES, usage: stepUsage });
    const [invalid, noMemory] = await Promise.all([gpu.scoped(), gpu.scoped()]);
    gpu.check();
    if (invalid) throw await gpu.failure("making buffers", invalid);
    if (noMemory) {
      const gib = (program.footprint.total / 2 ** 30).toFixed(2);
      throw new NibbleError(
        "memory",
        `${gpu.name} cannot hold the ${gib} GiB of weights, cache and workspace. Ask for a shorter context or choose a smaller model.`,
        { cause: noMemory },
      );
    }
    const bufferOf = (planned: PlannedBuffer) => buffers.get(program.allocated(planned).id)!;
    const lists = MODES.map((mode) => program.modes[mode]);
    const all = await makeReady(gpu, [...lists.flat(), program.stamp], { bufferOf, step });
    const [decode, few, several, batch, prompt] = lists.map(({ length }) => all.splice(0, length));
    const ready = { decode, few, several, batch, prompt };
    return new WebgpuAllocation(graph, program, gpu, buffers, ready, step, all[0], options);
  }

  async load(weight: Weight, tensor: Tensor, onBytes?: (bytes: number) => void): Promise<void> {
    this.gpu.check();
    if (weight.role === "table") {
      this.#rows.set(weight.id, new RowTable(tensor));
      return;
    }
    const placement = this.program.weight(weight);
    await loadWeight(this.gpu, placement, tensor, this.#buffer, this.#packing, onBytes);
    this.gpu.check();
  }

  async run(step: Step): Promise<Ran> {
    this.gpu.check();
    checkStep(this.graph, step, true);
    const samplings = step.runs.flatMap(({ sampling }) => sampling ?? []);
    const batch = batchOf(this.graph, step, this.gpu.traits);
    const sampling = this.program.sampling.dispatchesFor(samplings);
    if (samplings.length > 0 && !sampling)
      throw new ArgumentError("sampling", "more than the GPU sorts", "options for which canChoose holds");
    const samplers = samplings.length > 0 ? await this.#samplers(sampling!) : [];
    const tables = await this.#lookUp(batch.rows.ids);
    while (this.#under.length >= UNDER_WAY[batch.mode]) await this.#under.shift();
    this.gpu.check();
    const { device } = this.gpu;
    for (const { buffer, values } of tables) device.queue.writeBuffer(buffer, 0, values);
    this.#write(batch);
    const list = [...this.ready[batch.mode], ...samplers];
    this.#last = { list, shape: batch.shape };
    const { done, words } = await this.#submits.run(list, batch, (encoder) =>
      batch.sampled > 0 ? this.#words.encode(encoder, batch.sampled) : null,
    );
    this.#under.push(done);
    this.#done = done;
    if (!words) return NOTHING_CHOSEN;
    const chosen = this.#chosen(words, done);
    // The step's error reaches callers that await the ids; callers need not await them.
    chosen.catch(() => {});
    return { chosen };
  }

  /**
   * The ids that a step chose, after it has run to its end. null: the choice is not proven, and the host has to choose.
   */
  async #chosen(words: Promise<Uint32Array>, done: Promise<void>): Promise<(number | null)[]> {
    const found = await words;
    await done;
    this.gpu.check();
    return Array.from(found, (word) => (word === NOT_PROVEN ? null : word));
  }

  setPages(pool: Pool, text: number, first: number, pages: ArrayLike<number>): void {
    checkPages(this.graph, pool, text, first, pages);
    const at = tableAt(this.graph, pool) + text * this.graph.blocks + first;
    this.gpu.device.queue.writeBuffer(this.#buffer(this.program.batch), at * 4, Uint32Array.from(pages));
  }

  async copyPage(pool: Pool, from: number, to: number): Promise<void> {
    this.gpu.check();
    for (const page of [from, to]) checkPage(pool, page);
    if (from === to) return;
    const encoder = this.gpu.device.createCommandEncoder();
    const through = this.#buffer(this.program.page);
    const { caches, recentCaches } = this.program;
    for (const own of pool === this.graph.recentPool ? recentCaches : caches) {
      if (own?.cache.pool.id !== pool.id) continue;
      for (const part of ["keys", "values"] as const) {
        const bytes = layerPageBytes(own.cache, part);
        const buffer = this.#buffer(partOf(own, part));
        // WebGPU does not copy within a buffer.
        encoder.copyBufferToBuffer(buffer, from * bytes, through, 0, bytes);
        encoder.copyBufferToBuffer(through, 0, buffer, to * bytes, bytes);
      }
    }
    this.gpu.device.queue.submit([encoder.finish()]);
  }

  async readPages(place: PagePlace, pages: readonly number[]): Promise<Uint8Array> {
    this.gpu.check();
    checkPlaces(this.graph, place, pages);
    if (pages.length === 0) return new Uint8Array();
    const { buffer, map, at } = this.#blocks(place);
    const found = new Uint8Array(await this.#readBack.read(buffer, pages.map(at), map.blockBytes));
    this.gpu.check();
    return gather(map, found, 0, map.blockBytes, pages.length);
  }

  async writePages(place: PagePlace, pages: readonly number[], bytes: Uint8Array): Promise<void> {
    this.gpu.check();
    checkPlaces(this.graph, place, pages, bytes);
    const { buffer, map, at } = this.#blocks(place);
    const blocks = new Uint8Array(pages.length * map.blockBytes);
    scatter(map, bytes, blocks, 0, map.blockBytes);
    const { queue } = this.gpu.device;
    for (const [i, page] of pages.entries()) {
      queue.writeBuffer(buffer, at(page), blocks, i * map.blockBytes, map.blockBytes);
      // Without these waits, the queue would hold a whole cache in host memory.
      if (++this.#pagesWritten % WRITES_UNDER_WAY === 0) await this.gpu.submitted();
    }
    this.gpu.check();
  }

  async readState(state: State, slot: number): Promise<Uint8Array> {
    this.gpu.check();
    const bytes = state.values * 4;
    checkState(this.graph, state, slot, bytes);
    const found = await this.#readBack.read(
      this.#buffer(this.program.states[state.id]),
      [slot * bytes],
      bytes,
    );
    this.gpu.check();
    return new Uint8Array(found);
  }

  async writeState(state: State, slot: number, bytes: Uint8Array): Promise<void> {
    this.gpu.check();
    checkState(this.graph, state, slot, bytes.length);
    const buffer = this.#buffer(this.program.states[state.id]);
    this.gpu.device.queue.writeBuffer(buffer, slot * bytes.length, bytes.slice());
    await this.gpu.submitted();
    this.gpu.check();
  }

  canChoose(sampling: Sampling): boolean {
    return keepFor(sampling) !== null;
  }

  candidates(row: number, count: number): Promise<{ ids: Uint32Array; logits: Float32Array }> | null {
    return count > MOST_KEPT ? null : this.#candidates(row, count);
  }

  async #candidates(row: number, count: number): Promise<{ ids: Uint32Array; logits: Float32Array }> {
    this.gpu.check();
    const plan = this.program.sampling;
    const ready = await this.#samplers(plan.candidatesFor(count));
    const { device } = this.gpu;
    const batch = candidatesBatch(this.graph, row);
    this.#writeLists(batch);
    const encoder = device.createCommandEncoder();
    encodePass(encoder, ready, batch.shape);
    device.queue.submit([encoder.finish()]);
    const bytes = await this.#readBack.read(this.#buffer(plan.candidates), [0], MOST_KEPT * 8);
    this.gpu.check();
    return unpackCandidates(bytes, count);
  }

  async read(value: Value, first: number, rows: number): Promise<Float32Array> {
    this.gpu.check();
    const buffer = this.program.kept(value);
    if (!buffer) throw new ArgumentError("value", value.id, "the logits or a labelled value");
    const [offset, bytes] = [first * value.cols * 4, rows * value.cols * 4];
    const found = await this.#readBack.read(this.#buffer(buffer), [offset], bytes);
    await this.#done;
    this.gpu.check();
    return new Float32Array(found);
  }

  async profile(step: Step): Promise<StepProfile> {
    // Writes the step's lists and angles.
    await this.run(step);
    const { list, shape } = this.#last!;
    return profileStep(this.gpu, list, shape);
  }

  async close(): Promise<void> {
    for (const buffer of this.buffers.values()) buffer.destroy();
    this.gpu.close();
  }

  /** For each table, the rows of the step's ids. */
  #lookUp(ids: Uint32Array) {
    return Promise.all(
      this.#tables.map(async (weight) => {
        const values = new Float32Array(ids.length * weight.cols);
        await this.#rows.get(weight.id)!.read(ids, values);
        return { buffer: this.#buffer(this.program.table(weight)), values };
      }),
    );
  }

  readonly #buffer = (planned: PlannedBuffer): GPUBuffer =>
    this.buffers.get(this.program.allocated(planned).id)!;

  /** The blocks of a head's keys or values: their buffer, their layout, and the address of a page's. */
  #blocks({ cache, part, kvHead, isRecent = false }: PagePlace) {
    const own = (isRecent ? this.program.recentCaches : this.program.caches)[cache.id]!;
    const { codec, kvHeads } = own.cache;
    const layout = kvLayout(codec, part);
    const dims = heldDim(own.cache, part);
    const bytes = blockBytes(layout, dims);
    const key = `${layout} ${part} ${dims}`;
    let map = maps.get(key);
    if (!map) {
      const read = (block: Uint8Array) => readPage(layout, dims, part, block);
      map = pageMap(bytes, pageBytes(own.cache, part), read);
      maps.set(key, map);
    }
    const buffer = this.#buffer(partOf(own, part));
    return { buffer, map, at: (page: number) => (page * kvHeads + kvHead) * bytes };
  }

  #samplers(dispatches: readonly Dispatch[]): Promise<Ready[]> {
    let made = this.#sampling.get(dispatches);
    if (!made) {
      made = makeReady(this.gpu, dispatches, { bufferOf: this.#buffer, step: this.stepBuffer });
      this.#sampling.set(dispatches, made);
      // The step that awaits this reports the error; if none does, it is dropped.
      made.catch(() => {});
    }
    return made;
  }

  /** Writes what the kernels of a step read in addition to weights and caches. */
  #write(batch: Batch): void {
    this.#writeLists(batch);
    const { positions, tokens } = batch.rows;
    for (const rope of this.graph.ropes) {
      const { angles, values } = this.#angles[rope.id];
      angles.write(positions, values);
      const count = tokens * 2 * rope.frequencies.length;
      const buffer = this.#buffer(this.program.angles[rope.id]);
      this.gpu.device.queue.writeBuffer(buffer, 0, values, 0, count);
    }
  }

  #writeLists({ uniform, lists, at }: Pick<Batch, "uniform" | "lists" | "at">): void {
    const { queue } = this.gpu.device;
    queue.writeBuffer(this.stepBuffer, 0, uniform);
    if (lists.length > 0) queue.writeBuffer(this.#buffer(this.program.batch), at * 4, lists);
  }
}

const partOf = ({ cacheKeys, cacheValues }: CacheBuffers, part: KvPart): PlannedBuffer =>
  part === "keys" ? cacheKeys : cacheValues;
