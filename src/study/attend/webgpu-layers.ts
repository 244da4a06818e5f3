/**
 * Layers of attention without a model, for `webgpu-timer.ts`: caches that appendKv has filled with noise, with enough
 * copies that the GPU's own caches cannot hold them, and the dispatches that models run over them. Scratch and outputs
 * are shared by all layers, as in a model, so that each waits for the previous one.
 */

import { packedBlocks } from "../../cache/layers.ts";
import { type Cache, PAGE_SLOTS, type Pool } from "../../device/contract.ts";
import { appendDispatch } from "../../device/webgpu/append.ts";
import { attendDispatches } from "../../device/webgpu/attend.ts";
import type { AttendOptions, CacheBuffers } from "../../device/webgpu/attend-options.ts";
import { type Batch, type BatchGraph, batchBytes, batchOf, tableAt } from "../../device/webgpu/batch.ts";
import type { Dispatch, PlannedBuffer } from "../../device/webgpu/dispatch.ts";
import { type Form, formBytes } from "../../device/webgpu/forms.ts";
import type { Gpu } from "../../device/webgpu/gpu.ts";
import { cacheBufferBytes, recentCache } from "../../device/webgpu/kv.ts";
import { packDispatch } from "../../device/webgpu/pack-kv.ts";
import { ReadBack } from "../../device/webgpu/read-back.ts";
import { encodePass, makeReady, type Ready } from "../../device/webgpu/ready.ts";
import {
  type AttendJob,
  type AttendNoise,
  type AttendStep,
  attendNoise,
  expectedOutput,
  fillingRuns,
  NOISE_TOKENS,
  noiseReader,
  relativeError,
  rotatedCopies,
  scatteredPages,
} from "./attend-timer.ts";
import { attendDequantized } from "./dequantize.ts";
import { BenchBuffers } from "./webgpu-buffers.ts";

interface Pair {
  readonly keys: PlannedBuffer;
  readonly values: PlannedBuffer;
}

/** A cache's buffers; for a packed one also those of its unpacked vectors. */
interface Copy extends Pair {
  readonly recent: Pair | null;
}

/** Unpacked vectors: the noise repeats after this many pages, and so do they. */
const RECENT_PAGES = NOISE_TOKENS / PAGE_SLOTS;

const buffersOf = ({ keys, values, recent }: Copy): PlannedBuffer[] => [
  ...[keys, values],
  ...(recent ? [recent.keys, recent.values] : []),
];

/** The dispatches of one job, by layer: the same over another copy of the cache. */
export interface LayerRun {
  readonly layers: readonly (readonly Ready[])[];
}

/** Jobs of one shape. */
export class AttendLayers {
  readonly #buffers: BenchBuffers;
  readonly #noise: AttendNoise;
  readonly #queries: PlannedBuffer;
  readonly #spare: PlannedBuffer;
  readonly #copies = new Map<Cache, readonly Copy[]>();
  readonly #expanded: Pair | null;
  /** One text whose pages all jobs' caches have in the same places. */
  readonly #graph: BatchGraph;
  readonly #recentPool: Pool;
  /** Blocks before the step that are packed if a cache packs: the minimum over all jobs. */
  readonly #packed: number;
  readonly #batch: PlannedBuffer;
  /** What is timed. */
  readonly batch: Batch;

  constructor(
    readonly gpu: Gpu,
    readonly jobs: readonly AttendJob[],
    readonly step: AttendStep,
    /** Total bytes of the copies of one cache. */
    copiesBytes: number,
  ) {
    this.#buffers = new BenchBuffers(gpu);
    this.#noise = attendNoise(jobs[0], step);
    const { cache } = jobs[0];
    const blocks = Math.ceil((step.position + step.queries) / PAGE_SLOTS);
    const maxTokens = Math.max(NOISE_TOKENS, step.queries);
    const packings = jobs.flatMap(({ cache }) => cache.codec.packed ?? []);
    this.#recentPool = { id: 1, window: null, pages: RECENT_PAGES };
    this.#packed = Math.min(...packings.map(({ recentTokens }) => packedBlocks(recentTokens, step.position)));
    const pools = [cache.pool, this.#recentPool];
    const recentPool = packings.length > 0 ? this.#recentPool : null;
    this.#graph = { maxTokens, maxOutputs: 1, texts: 1, blocks, pools, recentPool };
    this.#batch = this.#buffers.make("batch", batchBytes(this.#graph));
    const recentPages = Uint32Array.from({ length: blocks }, (_, block) => block % RECENT_PAGES);
    const tables = this.#buffers.of(this.#batch);
    gpu.device.queue.writeBuffer(tables, 0, scatteredPages(cache, blocks));
    gpu.device.queue.writeBuffer(tables, tableAt(this.#graph, this.#recentPool) * 4, recentPages);
    this.batch = this.#batchOf(step.position, step.queries);
    this.#queries = this.#buffers.upload("queries", this.#noise.queries);
    this.#spare = this.#buffers.make("spare", 16);
    const pair = (label: string, cache: Cache): Pair => ({
      keys: this.#buffers.make(`${label} keys`, cacheBufferBytes(cache, "keys")),
      values: this.#buffers.make(`${label} values`, cacheBufferBytes(cache, "values")),
    });
    for (const { cache } of jobs) {
      if (this.#copies.has(cache)) continue;
      const copies = rotatedCopies(
        cacheBufferBytes(cache, "keys") + cacheBufferBytes(cache, "values"),
        copiesBytes,
      );
      this.#copies.set(
        cache,
        Array.from({ length: copies }, () => ({
          ...pair(cache.codec.name, cache),
          recent: cache.codec.packed && pair("recent", recentCache(cache, this.#recentPool)),
        })),
      );
    }
    const wide = jobs.find(({ expanded }) => expanded)?.expanded;
    this.#expanded = wide ? pair("expanded", wide) : null;
  }

  /** Throws NibbleError "memory" if the caches do not fit. */
  async fill(): Promise<void> {
    const { device } = this.gpu;
    const keys = this.#buffers.upload("noise", this.#noise.keys);
    const values = this.#buffers.upload("noise", this.#noise.values);
    const unwritten = this.#buffers.make("no queries", 16);
    await this.#buffers.settled();
    for (const [cache, [first, ...others]] of this.#copies) {
      const recent = this.#recentOf(cache, first);
      // For a packed cache everything that repeats, once.
      const runs = recent
        ? [{ position: 0, tokens: Math.min(NOISE_TOKENS, this.#graph.blocks * PAGE_SLOTS) }]
        : fillingRuns(cache, this.step.position + this.step.queries);
      for (const { position, tokens } of runs) {
        const stride = cache.kvHeads * cache.headDim;
        const offset = (position % NOISE_TOKENS) * stride;
        const append = appendDispatch({
          ...(recent ?? this.#buffersOf(cache, first)),
          keys: { view: { buffer: keys, offset, stride }, norm: null },
          values: { view: { buffer: values, offset, stride }, epsilon: null },
          rope: null,
          queries: null,
          batch: this.#batch,
          spare: this.#spare,
          scratch: () => unwritten,
        });
        this.#run(await this.#ready([append], first), this.#batchOf(position, tokens));
      }
      if (recent) {
        const pack = packDispatch(recent, this.#buffersOf(cache, first), this.#batch);
        this.#run(await this.#ready([pack], first), this.#packing(cache));
      }
      const encoder = device.createCommandEncoder();
      const { of } = this.#buffers;
      for (const copy of others)
        for (const [i, from] of buffersOf(first).entries())
          encoder.copyBufferToBuffer(of(from), 0, of(buffersOf(copy)[i]), 0, from.bytes);
      device.queue.submit([encoder.finish()]);
    }
  }

  /** The error of each job's output, in float32, against the reference. */
  async errors(): Promise<number[]> {
    const readBack = new ReadBack(this.gpu);
    const known = new Map<Cache, Float32Array>();
    const errors: number[] = [];
    const tokens = this.step.queries;
    for (const job of this.jobs) {
      const { layers, out } = await this.#layers(job, 1, { form: "f32", queriesRotated: false });
      this.#run(layers[0], this.batch);
      const headBytes = job.cache.headDim * 4;
      const found = await readBack.read(
        this.#buffers.of(out),
        [(tokens * job.heads - 1) * headBytes],
        headBytes,
      );
      const wanted = known.get(job.cache) ?? this.#expected(job.cache);
      known.set(job.cache, wanted);
      errors.push(relativeError(new Float32Array(found), wanted));
    }
    this.gpu.check();
    return errors;
  }

  /** The timed dispatches; outputs have the form that a model's next product needs. */
  async runs(): Promise<LayerRun[]> {
    const { headDim } = this.jobs[0].cache;
    const decodeForm: Form = headDim % 32 === 0 ? "q8" : "f32";
    const promptForm: Form = this.gpu.traits.matrices ? "f16" : "f32";
    const form = this.batch.mode === "prompt" ? promptForm : decodeForm;
    const runs: LayerRun[] = [];
    for (const job of this.jobs) {
      const copies = this.#copies.get(job.cache)!.length;
      runs.push({ layers: (await this.#layers(job, copies, { form, queriesRotated: true })).layers });
    }
    this.#buffers.writeStep(this.#batch, this.batch);
    return runs;
  }

  destroy(): void {
    this.#buffers.destroy();
  }

  /** [headDim], the last token's last head. */
  #expected(cache: Cache): Float32Array {
    const { keys, values, queries } = this.#noise;
    return expectedOutput(
      cache,
      this.step,
      queries.subarray(-cache.headDim),
      noiseReader(cache, "keys", keys, this.#packed),
      noiseReader(cache, "values", values, this.#packed),
    );
  }

  #batchOf(position: number, tokens: number, pack: readonly number[] = []): Batch {
    const packed = { blocks: pack.length > 0 ? 0 : this.#packed, pack };
    const run = { text: 0, position, ids: new Uint32Array(tokens), outputs: 0, packed };
    return batchOf(this.#graph, { runs: [run] }, this.gpu.traits);
  }

  /** Packs all blocks before the step that its rows attend to. */
  #packing({ codec, pool }: Cache): Batch {
    const first = Math.max(
      codec.packed!.firstPages,
      Math.ceil((this.step.position + 1) / PAGE_SLOTS) - pool.pages,
    );
    const blocks = Array.from({ length: Math.max(0, this.#packed - first) }, (_, i) => first + i);
    return this.#batchOf(this.step.position, 1, blocks);
  }

  #buffersOf(cache: Cache, { keys, values }: Pair): CacheBuffers {
    return { cache, cacheKeys: keys, cacheValues: values, table: 0 };
  }

  /** The unpacked vectors of a packed cache. */
  #recentOf(cache: Cache, { recent }: Copy): CacheBuffers | null {
    const table = tableAt(this.#graph, this.#recentPool);
    return recent && { ...this.#buffersOf(recentCache(cache, this.#recentPool), recent), table };
  }

  /**
   * A job over the first `copies` copies of its cache. queriesRotated: as in a model, whose appendKv rotates queries for rq4.
   */
  async #layers(
    job: AttendJob,
    copies: number,
    { form, queriesRotated }: Pick<AttendOptions, "form" | "queriesRotated">,
  ) {
    const { cache, heads } = job;
    const tokens = this.step.queries;
    const [first] = this.#copies.get(cache)!;
    const out = this.#buffers.make("output", formBytes(form, tokens, heads * cache.headDim));
    const options: AttendOptions = {
      traits: this.gpu.traits,
      mode: this.batch.mode,
      ...this.#buffersOf(cache, first),
      recentCache: this.#recentOf(cache, first),
      heads,
      scale: cache.headDim ** -0.5,
      softcap: 0,
      sinks: null,
      queries: this.#queries,
      queriesRotated,
      batch: this.#batch,
      out,
      form,
      maxTokens: tokens,
      maxSpanned: this.batch.shape.spanned,
      mostPositions: this.#graph.blocks * PAGE_SLOTS,
      scratch: this.#buffers.make,
      ...job.tuning,
    };
    const dispatches = job.expanded
      ? attendDequantized(options, { cache: job.expanded, ...this.#expanded! })
      : attendDispatches(options);
    const caches = this.#copies.get(cache)!.slice(0, copies);
    const layers = await Promise.all(caches.map((copy) => this.#ready(dispatches, caches[0], copy)));
    return { out, layers };
  }

  /** Bound to a copy of the cache in place of the first. */
  #ready(dispatches: readonly Dispatch[], first: Copy, copy = first): Promise<Ready[]> {
    const places = new Map(buffersOf(first).map((planned, i) => [planned, buffersOf(copy)[i]]));
    const bufferOf = (planned: PlannedBuffer) => this.#buffers.of(places.get(planned) ?? planned);
    return makeReady(this.gpu, dispatches, { bufferOf, step: this.#buffers.step });
  }

  #run(ready: readonly Ready[], batch: Batch): void {
    this.#buffers.writeStep(this.#batch, batch);
    const encoder = this.gpu.device.createCommandEncoder();
    encodePass(encoder, ready, batch.shape);
    this.gpu.device.queue.submit([encoder.finish()]);
  }
}
