/**
 * One layer's cache and attention on a GPU for tests: the dispatches of attend.ts over scattered pages, run as the program
 * runs them. Expected values come from the reference attention over what the layer's buffers hold, read back and decoded.
 */
import { kvCodec } from "../../../src/cache/codecs.ts";
import { blocksOf } from "../../../src/cache/layers.ts";
import { type Cache, PAGE_SLOTS } from "../../../src/device/contract.ts";
import { attend as referenceAttend } from "../../../src/device/reference/ops.ts";
import { appendDispatch, type Heads } from "../../../src/device/webgpu/append.ts";
import { attendDispatches } from "../../../src/device/webgpu/attend.ts";
import {
  type Batch,
  type BatchGraph,
  batchBytes,
  batchOf,
  STEP_BYTES,
} from "../../../src/device/webgpu/batch.ts";
import type { Dispatch, Mode, PlannedBuffer } from "../../../src/device/webgpu/dispatch.ts";
import type { Form } from "../../../src/device/webgpu/forms.ts";
import type { Gpu, Traits } from "../../../src/device/webgpu/gpu.ts";
import { blockBytes, cacheBufferBytes, kvFormat, recentCache } from "../../../src/device/webgpu/kv.ts";
import { readVector } from "../../../src/device/webgpu/kv-pages.ts";
import { packDispatch } from "../../../src/device/webgpu/pack-kv.ts";
import { encodePass, makeReady } from "../../../src/device/webgpu/ready.ts";
import { scatteredPages } from "../../../src/study/attend/attend-timer.ts";

export interface Shape {
  format: string;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Keys end with values (Cache.turned). Default: 0. */
  turned?: number;
  /** Of the cache. */
  pages: number;
  window?: number | null;
  softcap?: number;
}

function cacheOf({ format, kvHeads, headDim, turned = 0, pages, window = null }: Shape): Cache {
  return {
    id: 0,
    layer: 0,
    codec: kvCodec(format),
    kvHeads,
    headDim,
    turned,
    pool: { id: 0, window, pages },
  };
}

/** One text; where it has more blocks than there are pages, pages come round again. */
export class AttendLayer {
  readonly cache: Cache;
  readonly #buffers = new Map<number, GPUBuffer>();
  readonly #planned: PlannedBuffer[] = [];
  readonly #graph: BatchGraph;
  /** By block. */
  readonly #pages: Uint32Array<ArrayBuffer>;
  readonly #batch: PlannedBuffer;
  readonly #step: GPUBuffer;
  readonly keys: PlannedBuffer;
  readonly values: PlannedBuffer;
  readonly spare: PlannedBuffer;

  constructor(
    readonly gpu: Gpu,
    readonly shape: Shape,
    readonly maxTokens: number,
    /** Positions that the text may reach. */
    context: number,
  ) {
    this.cache = cacheOf(shape);
    const blocks = blocksOf(context);
    this.#graph = { maxTokens, maxOutputs: 1, texts: 1, blocks, pools: [this.cache.pool] };
    this.#pages = scatteredPages(this.cache, blocks);
    this.#batch = this.buffer("batch", batchBytes(this.#graph), this.#pages);
    this.#step = gpu.device.createBuffer({ size: STEP_BYTES, usage: 8 | 64 });
    this.keys = this.buffer("keys", cacheBufferBytes(this.cache, "keys"));
    this.values = this.buffer("values", cacheBufferBytes(this.cache, "values"));
    this.spare = this.buffer("spare", 16);
  }

  buffer(label: string, bytes: number, data?: ArrayBufferView<ArrayBuffer>): PlannedBuffer {
    const planned = { id: this.#planned.length, label, bytes };
    this.#planned.push(planned);
    // GPUBufferUsage: copies, uniform where it is small enough, storage.
    const usage = 4 | 8 | 128 | (bytes <= 65_536 ? 64 : 0);
    const made = this.gpu.device.createBuffer({ label, size: Math.ceil(bytes / 16) * 16, usage });
    if (data) this.gpu.device.queue.writeBuffer(made, 0, data);
    this.#buffers.set(planned.id, made);
    return planned;
  }

  floats(label: string, data: Float32Array<ArrayBuffer>): PlannedBuffer {
    return this.buffer(label, data.byteLength, data);
  }

  /** keys, values [tokens, kvHeads, headDim] as they are; or through norms and a rope, with queries. */
  async append(
    position: number,
    tokens: number,
    keys: Heads,
    values: Heads["view"] | Parameters<typeof appendDispatch>[0]["values"],
    more: Pick<Parameters<typeof appendDispatch>[0], "rope" | "queries">,
  ): Promise<void> {
    const dispatch = appendDispatch({
      cache: this.cache,
      keys,
      values: "buffer" in values ? { view: values, epsilon: null } : values,
      ...more,
      cacheKeys: this.keys,
      cacheValues: this.values,
      batch: this.#batch,
      table: 0,
      spare: this.spare,
      scratch: (label, bytes) => this.buffer(label, bytes),
    });
    await this.#run([dispatch], this.#batchOf(position, tokens));
  }

  /** queries [tokens, heads, headDim] at position. fewRows: so many at most attend one by one, in spans. */
  async attend(
    position: number,
    queries: Float32Array<ArrayBuffer>,
    fewRows: number,
  ): Promise<{ mode: Mode; out: Float32Array }> {
    const { heads, headDim, softcap = 0 } = this.shape;
    const tokens = queries.length / heads / headDim;
    const out = this.buffer("out", queries.byteLength + 16);
    const batch = this.#batchOf(position, tokens, fewRows);
    const { mode, shape } = batch;
    const dispatches = attendDispatches({
      traits: this.gpu.traits,
      mode,
      cache: this.cache,
      heads,
      scale: 1 / Math.sqrt(headDim),
      softcap,
      sinks: null,
      queries: this.floats("queries", queries),
      cacheKeys: this.keys,
      cacheValues: this.values,
      batch: this.#batch,
      table: 0,
      out,
      form: "f32",
      maxTokens: this.maxTokens,
      maxSpanned: shape.spanned,
      mostPositions: this.#graph.blocks * PAGE_SLOTS,
      queriesRotated: false,
      scratch: (label, bytes) => this.buffer(label, bytes),
    });
    await this.#run(dispatches, batch);
    return { mode, out: new Float32Array((await this.read(out)).buffer, 0, queries.length) };
  }

  #batchOf(position: number, tokens: number, fewRows = 1): Batch {
    const run = { text: 0, position, ids: new Uint32Array(tokens), outputs: 0 };
    return batchOf(this.#graph, { runs: [run] }, { few: fewRows, several: fewRows, batch: fewRows });
  }

  async #run(dispatches: readonly Dispatch[], { shape, uniform, lists, at }: Batch): Promise<void> {
    const { device } = this.gpu;
    const bufferOf = ({ id }: PlannedBuffer) => this.#buffers.get(id)!;
    const ready = await makeReady(this.gpu, dispatches, { bufferOf, step: this.#step });
    device.queue.writeBuffer(this.#step, 0, uniform);
    device.queue.writeBuffer(bufferOf(this.#batch), at * 4, lists);
    const encoder = device.createCommandEncoder();
    encodePass(encoder, ready, shape);
    device.queue.submit([encoder.finish()]);
  }

  async read(planned: PlannedBuffer): Promise<Uint8Array<ArrayBuffer>> {
    const { device } = this.gpu;
    const from = this.#buffers.get(planned.id)!;
    const back = device.createBuffer({ size: from.size, usage: 1 | 8 });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(from, 0, back, 0, from.size);
    device.queue.submit([encoder.finish()]);
    await back.mapAsync(1);
    this.gpu.check();
    return new Uint8Array(back.getMappedRange().slice(0));
  }

  /** Codec bytes of what the cache holds: (part, kvHead, position) -> bytes. */
  async stored(): Promise<(part: "keys" | "values", kvHead: number, position: number) => Uint8Array> {
    const buffers = { keys: await this.read(this.keys), values: await this.read(this.values) };
    const { kvHeads, headDim } = this.shape;
    const format = kvFormat(this.shape.format);
    const bytes = blockBytes(format, headDim);
    return (part, kvHead, position) => {
      const page = this.#pages[Math.floor(position / PAGE_SLOTS)];
      const block = buffers[part].subarray((page * kvHeads + kvHead) * bytes).subarray(0, bytes);
      return readVector(format, headDim, part, block, position % PAGE_SLOTS);
    };
  }

  /** Reference attention over the decoded cache. */
  async expected(position: number, queries: Float32Array): Promise<Float32Array> {
    const { heads, kvHeads, headDim, window = null, softcap = 0 } = this.shape;
    const stored = await this.stored();
    const reader = (part: "keys" | "values") => {
      const known = new Map<number, Float32Array>();
      return (kvHead: number, at: number, into: Float32Array) => {
        const key = at * kvHeads + kvHead;
        let vector = known.get(key);
        if (!vector) {
          vector = new Float32Array(headDim);
          this.cache.codec.decode(stored(part, kvHead, at), vector);
          known.set(key, vector);
        }
        into.set(vector);
      };
    };
    const out = new Float32Array(queries.length);
    const tokens = queries.length / heads / headDim;
    const scale = 1 / Math.sqrt(headDim);
    const shape = { tokens, position, heads, kvHeads, headDim, window, scale, softcap };
    referenceAttend(queries, reader("keys"), reader("values"), shape, out);
    return out;
  }
}

export const ATTEND_DIMS = [64, 80, 96, 128, 256, 384, 512];

/** Every dispatch of a layer, in all forms that a device can ask for. */
export function attendDispatchesOf(traits: Traits, shape: Shape): Dispatch[] {
  const { heads, headDim, softcap = 0 } = shape;
  const cache = cacheOf(shape);
  let id = 0;
  const buffer = (label: string, bytes: number): PlannedBuffer => ({ id: id++, label, bytes });
  const any = buffer("any", 16);
  const view = { buffer: any, offset: 0, stride: heads * headDim };
  const caches = { cacheKeys: any, cacheValues: any, batch: any, table: 0 };
  const common = { traits, cache, ...caches, spare: any, scratch: buffer };
  const recent = cache.codec.packed ? { ...caches, cache: recentCache(cache, cache.pool) } : null;
  const appended = { ...common, ...recent };
  const most = { maxTokens: 64, mostPositions: 4096 };
  // The same text with sinks or without them, but for one that is read.
  const sinks = softcap > 0 ? any : null;
  const queries = { queries: any, queriesRotated: false, out: any };
  const attend = { ...common, recentCache: recent, ...most, heads, scale: 1, softcap, sinks, ...queries };
  const norm = { weight: any, epsilon: 1e-6 };
  const rope = { angles: any, pairs: headDim / 2 };
  // Of a prompt some rows may be alone.
  const forms: readonly (readonly [Mode, Form, number])[] = [
    ["decode", "f32", 1],
    ["prompt", "f32", 3],
    ...(headDim % 32 === 0 ? ([["few", "q8", 32]] as const) : []),
    ...(traits.matrices ? ([["prompt", "f16", 3]] as const) : []),
  ];
  return [
    appendDispatch({
      ...appended,
      keys: { view, norm, takes: cache.turned > 0 },
      values: { view, epsilon: 1e-6 },
      rope,
      queries: { view, norm, heads, out: any, takes: cache.turned > 0 },
    }),
    appendDispatch({
      ...appended,
      keys: { view, norm: null },
      values: { view, epsilon: null },
      rope: null,
      queries: null,
    }),
    ...(recent ? [packDispatch(recent, common, any)] : []),
    ...forms.flatMap(([mode, form, maxSpanned]) => attendDispatches({ ...attend, mode, form, maxSpanned })),
  ];
}
