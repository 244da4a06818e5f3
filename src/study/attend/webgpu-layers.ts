/**
 * Layers of attention without a model, for `webgpu-timer.ts`: caches that appendKv has filled with noise, each with as
 * many copies as leave no room for them in the GPU's own caches, and the dispatches that models run over them.
 * Owns their buffers. Scratch and outputs are shared by all layers, as in a model, so that each waits for the one before.
 */

import { type Cache, PAGE_SLOTS } from "../../device/contract.ts";
import { appendDispatch } from "../../device/webgpu/append.ts";
import { attendDispatches } from "../../device/webgpu/attend.ts";
import type { AttendOptions } from "../../device/webgpu/attend-options.ts";
import { type Batch, type BatchGraph, batchBytes, batchOf } from "../../device/webgpu/batch.ts";
import type { Buffer, Dispatch } from "../../device/webgpu/dispatch.ts";
import { type Form, formBytes } from "../../device/webgpu/forms.ts";
import type { Gpu } from "../../device/webgpu/gpu.ts";
import { cacheBufferBytes } from "../../device/webgpu/kv.ts";
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
  readonly keys: Buffer;
  readonly values: Buffer;
}

/** The dispatches of one job, by layer: the same over another copy of the cache. */
export interface LayerRun {
  readonly layers: readonly (readonly Ready[])[];
}

/** Jobs of one shape. */
export class AttendLayers {
  readonly #buffers: BenchBuffers;
  readonly #noise: AttendNoise;
  readonly #queries: Buffer;
  readonly #spare: Buffer;
  readonly #copies = new Map<Cache, readonly Pair[]>();
  readonly #expanded: Pair | null;
  /** One text whose pages all jobs' caches have in the same places. */
  readonly #graph: BatchGraph;
  readonly #batch: Buffer;
  /** What is timed. */
  readonly batch: Batch;

  constructor(
    readonly gpu: Gpu,
    readonly jobs: readonly AttendJob[],
    readonly step: AttendStep,
    /** That copies of one cache have together. */
    copiesBytes: number,
  ) {
    this.#buffers = new BenchBuffers(gpu);
    this.#noise = attendNoise(jobs[0], step);
    const { cache } = jobs[0];
    const blocks = Math.ceil((step.position + step.queries) / PAGE_SLOTS);
    const maxTokens = Math.max(NOISE_TOKENS, step.queries);
    this.#graph = { maxTokens, maxOutputs: 1, texts: 1, blocks, pools: [cache.pool] };
    this.#batch = this.#buffers.make("batch", batchBytes(this.#graph));
    gpu.device.queue.writeBuffer(this.#buffers.of(this.#batch), 0, scatteredPages(cache, blocks));
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
        Array.from({ length: copies }, () => pair(cache.codec.name, cache)),
      );
    }
    const wide = jobs.find(({ expanded }) => expanded)?.expanded;
    this.#expanded = wide ? pair("expanded", wide) : null;
  }

  /** NibbleError "memory" when the caches do not fit. */
  async fill(): Promise<void> {
    const { device } = this.gpu;
    const keys = this.#buffers.upload("noise", this.#noise.keys);
    const values = this.#buffers.upload("noise", this.#noise.values);
    const unwritten = this.#buffers.make("no queries", 16);
    await this.#buffers.settled();
    for (const [cache, [first, ...others]] of this.#copies) {
      for (const { position, tokens } of fillingRuns(cache, this.step.position + this.step.queries)) {
        const stride = cache.kvHeads * cache.headDim;
        const offset = (position % NOISE_TOKENS) * stride;
        const append = appendDispatch({
          cache,
          keys: { view: { buffer: keys, offset, stride }, norm: null },
          values: { view: { buffer: values, offset, stride }, epsilon: null },
          rope: null,
          queries: null,
          cacheKeys: first.keys,
          cacheValues: first.values,
          batch: this.#batch,
          table: 0,
          spare: this.#spare,
          scratch: () => unwritten,
        });
        this.#run(await this.#ready([append], first), this.#batchOf(position, tokens));
      }
      const encoder = device.createCommandEncoder();
      const { of } = this.#buffers;
      for (const copy of others)
        for (const part of ["keys", "values"] as const)
          encoder.copyBufferToBuffer(of(first[part]), 0, of(copy[part]), 0, first[part].bytes);
      device.queue.submit([encoder.finish()]);
    }
  }

  /** How far each job's output, in float32, is from the reference. */
  async errors(): Promise<number[]> {
    const readBack = new ReadBack(this.gpu);
    const known = new Map<Cache, Float32Array>();
    const errors: number[] = [];
    const tokens = this.step.queries;
    for (const job of this.jobs) {
      const { layers, out } = await this.#layers(job, 1, { form: "f32", rotated: false });
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

  /** What is timed; outputs are in the form in which a model's next product wants them. */
  async runs(): Promise<LayerRun[]> {
    const { headDim } = this.jobs[0].cache;
    const decodeForm: Form = headDim % 32 === 0 ? "q8" : "f32";
    const promptForm: Form = this.gpu.traits.matrices ? "f16" : "f32";
    const form = this.batch.mode === "prompt" ? promptForm : decodeForm;
    const runs: LayerRun[] = [];
    for (const job of this.jobs) {
      const copies = this.#copies.get(job.cache)!.length;
      runs.push({ layers: (await this.#layers(job, copies, { form, rotated: true })).layers });
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
      noiseReader(cache, "keys", keys),
      noiseReader(cache, "values", values),
    );
  }

  #batchOf(position: number, tokens: number): Batch {
    const run = { text: 0, position, ids: new Uint32Array(tokens), outputs: 0 };
    return batchOf(this.#graph, { runs: [run] }, this.gpu.traits);
  }

  /** A job over the first `copies` copies of its cache. rotated: as in a model, whose appendKv rotates queries for rq4. */
  async #layers(job: AttendJob, copies: number, { form, rotated }: Pick<AttendOptions, "form" | "rotated">) {
    const { cache, heads } = job;
    const tokens = this.step.queries;
    const [{ keys, values }] = this.#copies.get(cache)!;
    const out = this.#buffers.make("output", formBytes(form, tokens, heads * cache.headDim));
    const options: AttendOptions = {
      traits: this.gpu.traits,
      mode: this.batch.mode,
      cache,
      heads,
      scale: cache.headDim ** -0.5,
      softcap: 0,
      sinks: null,
      queries: this.#queries,
      rotated,
      cacheKeys: keys,
      cacheValues: values,
      batch: this.#batch,
      table: 0,
      out,
      form,
      maxTokens: tokens,
      maxSpanned: this.batch.shape.spanned,
      mostPositions: this.#graph.blocks * PAGE_SLOTS,
      scratch: this.#buffers.make,
    };
    const dispatches = job.expanded
      ? attendDequantized(options, { cache: job.expanded, ...this.#expanded! })
      : attendDispatches(options);
    const caches = this.#copies.get(cache)!.slice(0, copies);
    const layers = await Promise.all(caches.map((copy) => this.#ready(dispatches, caches[0], copy)));
    return { out, layers };
  }

  /** Bound to a copy of the cache in place of the first. */
  #ready(dispatches: readonly Dispatch[], first: Pair, copy = first): Promise<Ready[]> {
    const bufferOf = (planned: Buffer) => {
      if (planned === first.keys) return this.#buffers.of(copy.keys);
      if (planned === first.values) return this.#buffers.of(copy.values);
      return this.#buffers.of(planned);
    };
    return makeReady(this.gpu, dispatches, { bufferOf, step: this.#buffers.step });
  }

  #run(ready: readonly Ready[], batch: Batch): void {
    this.#buffers.writeStep(this.#batch, batch);
    const encoder = this.gpu.device.createCommandEncoder();
    encodePass(encoder, ready, batch.shape);
    this.gpu.device.queue.submit([encoder.finish()]);
  }
}
