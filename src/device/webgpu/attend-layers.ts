/**
 * Layers of attention without a model, for `attend-timer.ts`: caches that appendKv has filled with noise, each with as
 * many copies as leave no room for them in the GPU's own caches, and the dispatches that models run over them.
 * Owns their buffers. Scratch and outputs are shared by all layers, as in a model, so that each waits for the one before.
 */
import {
  type AttendJob,
  type AttendNoise,
  attendNoise,
  expectedOutput,
  NOISE_TOKENS,
  noiseReader,
  relativeError,
  rotatedCopies,
} from "../attend-timer.ts";
import type { Cache } from "../contract.ts";
import { appendDispatch } from "./append.ts";
import { attendDispatches } from "./attend.ts";
import type { AttendOptions } from "./attend-options.ts";
import { BenchBuffers } from "./bench-buffers.ts";
import { attendDequantized } from "./dequantize.ts";
import type { Buffer, Dispatch, StepShape } from "./dispatch.ts";
import { type Form, formBytes } from "./forms.ts";
import type { Gpu } from "./gpu.ts";
import { kvBytes } from "./kv.ts";
import { ReadBack } from "./read-back.ts";
import { encodePass, makeReady, type Ready } from "./ready.ts";

interface Pair {
  readonly keys: Buffer;
  readonly values: Buffer;
}

/** The dispatches of one job; a layer is a timeline: the same over another copy of the cache. */
export interface LayerRun {
  readonly layers: number;
  readonly ready: readonly Ready[];
}

/** Jobs of one shape. */
export class AttendLayers {
  readonly #buffers: BenchBuffers;
  readonly #noise: AttendNoise;
  readonly #queries: Buffer;
  readonly #spare: Buffer;
  readonly #copies = new Map<Cache, readonly Pair[]>();
  readonly #expanded: Pair | null;

  constructor(
    readonly gpu: Gpu,
    readonly jobs: readonly AttendJob[],
    readonly step: StepShape,
    /** That copies of one cache have together. */
    copiesBytes: number,
  ) {
    this.#buffers = new BenchBuffers(gpu);
    this.#noise = attendNoise(jobs[0], { queries: step.tokens, position: step.position });
    this.#queries = this.#buffers.upload("queries", this.#noise.queries);
    this.#spare = this.#buffers.make("spare", 16);
    const pair = (label: string, { keys, values }: { keys: number; values: number }): Pair => ({
      keys: this.#buffers.make(`${label} keys`, keys),
      values: this.#buffers.make(`${label} values`, values),
    });
    for (const { cache } of jobs) {
      if (this.#copies.has(cache)) continue;
      const bytes = kvBytes(cache);
      const copies = rotatedCopies(bytes.keys + bytes.values, copiesBytes);
      this.#copies.set(
        cache,
        Array.from({ length: copies }, () => pair(cache.codec.name, bytes)),
      );
    }
    const wide = jobs.find(({ expanded }) => expanded)?.expanded;
    this.#expanded = wide ? pair("expanded", kvBytes(wide)) : null;
  }

  /** NibbleError "memory" when the caches do not fit. */
  async fill(): Promise<void> {
    const { device } = this.gpu;
    const keys = this.#buffers.upload("noise", this.#noise.keys);
    const values = this.#buffers.upload("noise", this.#noise.values);
    await this.#buffers.settled();
    for (const [cache, [first, ...others]] of this.#copies) {
      const view = (buffer: Buffer) => ({ buffer, offset: 0, stride: cache.kvHeads * cache.headDim });
      const append = appendDispatch({
        cache,
        keys: { view: view(keys), norm: null },
        values: view(values),
        rope: null,
        queries: null,
        cacheKeys: first.keys,
        cacheValues: first.values,
        spare: this.#spare,
        scratch: this.#buffers.make,
      });
      const ready = await this.#ready([append], [first]);
      for (let position = 0; position < cache.capacity; position += NOISE_TOKENS) {
        const tokens = Math.min(NOISE_TOKENS, cache.capacity - position);
        this.#run(ready, { tokens, position, outputs: 0 });
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
    const { tokens } = this.step;
    for (const job of this.jobs) {
      const { ready, out } = await this.#layers(job, 1, { form: "f32", rotated: false });
      this.#run(ready, this.step);
      const headBytes = job.cache.headDim * 4;
      const found = await readBack.read(
        this.#buffers.of(out),
        (tokens * job.heads - 1) * headBytes,
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
    const form = this.step.tokens === 1 ? decodeForm : promptForm;
    const runs: LayerRun[] = [];
    for (const job of this.jobs) {
      const layers = this.#copies.get(job.cache)!.length;
      runs.push({ layers, ready: (await this.#layers(job, layers, { form, rotated: true })).ready });
    }
    this.#buffers.writeStep(this.step);
    return runs;
  }

  destroy(): void {
    this.#buffers.destroy();
  }

  /** [headDim], the last token's last head. */
  #expected(cache: Cache): Float32Array {
    const { keys, values, queries } = this.#noise;
    const { tokens, position } = this.step;
    return expectedOutput(
      cache,
      { queries: tokens, position },
      queries.subarray(-cache.headDim),
      noiseReader(cache, "keys", keys),
      noiseReader(cache, "values", values),
    );
  }

  /** A job over the first `layers` copies of its cache. rotated: as in a model, whose appendKv rotates queries for rq4. */
  async #layers(job: AttendJob, layers: number, { form, rotated }: Pick<AttendOptions, "form" | "rotated">) {
    const { cache, heads } = job;
    const { tokens } = this.step;
    const [{ keys, values }] = this.#copies.get(cache)!;
    const out = this.#buffers.make("output", formBytes(form, tokens, heads * cache.headDim));
    const options: AttendOptions = {
      traits: this.gpu.traits,
      mode: tokens === 1 ? "decode" : "prompt",
      cache,
      heads,
      scale: cache.headDim ** -0.5,
      softcap: 0,
      queries: this.#queries,
      rotated,
      cacheKeys: keys,
      cacheValues: values,
      out,
      form,
      maxTokens: tokens,
      scratch: this.#buffers.make,
    };
    const dispatches = job.expanded
      ? attendDequantized(options, { cache: job.expanded, ...this.#expanded! })
      : attendDispatches(options);
    return { out, ready: await this.#ready(dispatches, this.#copies.get(cache)!.slice(0, layers)) };
  }

  /** Bound to each of the copies in place of the first. */
  #ready(dispatches: readonly Dispatch[], copies: readonly Pair[]): Promise<Ready[]> {
    const [first] = copies;
    const bufferOf = (planned: Buffer, layer: number) => {
      if (planned === first.keys) return this.#buffers.of(copies[layer].keys);
      if (planned === first.values) return this.#buffers.of(copies[layer].values);
      return this.#buffers.of(planned);
    };
    return makeReady(this.gpu, dispatches, { bufferOf, step: this.#buffers.step, timelines: copies.length });
  }

  #run(ready: readonly Ready[], step: StepShape): void {
    this.#buffers.writeStep(step);
    const encoder = this.gpu.device.createCommandEncoder();
    encodePass(encoder, ready, step, 0);
    this.gpu.device.queue.submit([encoder.finish()]);
  }
}
