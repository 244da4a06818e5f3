/**
 * A compiled graph on one GPUDevice: its buffers, and steps. One submit a step, cached bind groups, nothing allocated;
 * generation can run ahead of its reader, each step taking its token from the sampling before it, on the GPU. Owns the
 * order of writes and submits. Whatever goes wrong rejects with the GPU's one error.
 */
import { ArgumentError, NibbleError } from "../../format/errors.ts";
import type { Tensor } from "../../format/tensor.ts";
import { BLOCK_SLOTS, leadingBlocks } from "../cache-blocks.ts";
import { type BlockMap, blockMap, gather, scatter } from "../cache-bytes.ts";
import { checkContinue, checkCopy, checkRange, checkStep } from "../check.ts";
import type {
  Allocation,
  CacheRange,
  Continuation,
  ContinueOptions,
  Footprint,
  Graph,
  Step,
  StepProfile,
  Value,
  Weight,
} from "../contract.ts";
import { writeTurns } from "../turns.ts";
import { STEP_BYTES, storageUsage } from "./buffers.ts";
import type { Buffer, Dispatch, StepShape } from "./dispatch.ts";
import { USAGE } from "./flags.ts";
import type { Gpu } from "./gpu.ts";
import { kvFormat, readVector } from "./kv.ts";
import { profileStep } from "./profile.ts";
import type { GpuProgram } from "./program.ts";
import { ReadBack } from "./read-back.ts";
import { encodePass, makeReady, type Ready } from "./ready.ts";
import { RunAhead, WordBack } from "./run-ahead.ts";
import { MOST_KEPT, packChoice, unpackCandidates } from "./sample.ts";
import { loadWeight } from "./weight-loading.ts";

/** Steps of a prompt under way: the GPU never waits for the next, and an abort does not wait for many. */
const UNDER_WAY = 2;

export class WebgpuAllocation implements Allocation {
  readonly footprint: Footprint;
  readonly #readBack: ReadBack;
  /** By rope id: a step's turns on their way to the GPU. */
  readonly #turns: readonly Float32Array<ArrayBuffer>[];
  /** The list that the last step ran. */
  #last: readonly Ready[] = [];
  readonly #under: Promise<void>[] = [];
  #word: WordBack | null = null;
  /** Made when a cache is first read or written from outside. */
  readonly #maps = new Map<string, BlockMap>();
  /** Sampling dispatches are compiled when first needed. */
  readonly #sampling = new Map<readonly Dispatch[], Promise<Ready[]>>();

  private constructor(
    readonly graph: Graph,
    readonly program: GpuProgram,
    readonly gpu: Gpu,
    readonly buffers: ReadonlyMap<number, GPUBuffer>,
    readonly ready: { readonly decode: readonly Ready[]; readonly prompt: readonly Ready[] },
    readonly stepBuffer: GPUBuffer,
  ) {
    this.footprint = program.footprint;
    this.#readBack = new ReadBack(gpu);
    this.#turns = graph.ropes.map(
      ({ frequencies }) => new Float32Array(graph.maxTokens * 2 * frequencies.length),
    );
  }

  /** NibbleError "memory" when the buffers do not fit, DeviceError for anything else. */
  static async create(graph: Graph, program: GpuProgram, gpu: Gpu): Promise<WebgpuAllocation> {
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
    const { decode, prompt, place } = program;
    const bufferOf = (planned: Buffer, timeline: number) => buffers.get(place(planned, timeline).id)!;
    const { timelines } = graph;
    const all = await makeReady(gpu, [...decode, ...prompt], { bufferOf, step, timelines });
    const ready = { decode: all.slice(0, decode.length), prompt: all.slice(decode.length) };
    return new WebgpuAllocation(graph, program, gpu, buffers, ready, step);
  }

  async load(weight: Weight, tensor: Tensor, onBytes?: (bytes: number) => void): Promise<void> {
    this.gpu.check();
    await loadWeight(this.gpu, this.program.weight(weight), tensor, this.#buffer, onBytes);
    this.gpu.check();
  }

  async run(step: Step): Promise<void> {
    this.gpu.check();
    checkStep(this.graph, step);
    const { ids, position, outputs, timeline = 0 } = step;
    if (this.#under.length >= UNDER_WAY) await this.#under.shift();
    this.gpu.check();
    const { queue } = this.gpu.device;
    queue.writeBuffer(this.#buffer(this.program.ids), 0, ids as Uint32Array<ArrayBuffer>);
    const encoder = this.#encode({ tokens: ids.length, position, outputs }, timeline);
    queue.submit([encoder.finish()]);
    this.#under.push(this.gpu.submitted());
  }

  async copyCache(from: number, to: number, tokens: number): Promise<void> {
    this.gpu.check();
    checkCopy(this.graph, from, to, tokens);
    const encoder = this.gpu.device.createCommandEncoder();
    for (const cache of this.graph.caches)
      for (const part of Object.values(this.program.caches[cache.id]))
        for (const { at, bytes } of leadingBlocks(cache, part.bytes, tokens))
          encoder.copyBufferToBuffer(this.#buffer(part, from), at, this.#buffer(part, to), at, bytes);
    this.gpu.device.queue.submit([encoder.finish()]);
  }

  async readCache(range: CacheRange): Promise<Uint8Array> {
    this.gpu.check();
    checkRange(this.graph, range);
    const { buffer, map, at, bytes } = this.#place(range);
    const found = new Uint8Array(await this.#readBack.read(buffer, at, bytes));
    this.gpu.check();
    return gather(map, found, 0, map.blockBytes, range.slots);
  }

  async writeCache(range: CacheRange, bytes: Uint8Array): Promise<void> {
    this.gpu.check();
    checkRange(this.graph, range);
    const place = this.#place(range);
    const blocks = new Uint8Array(place.bytes);
    scatter(place.map, bytes, blocks, 0, place.map.blockBytes);
    this.gpu.device.queue.writeBuffer(place.buffer, place.at, blocks);
    // Without a wait the queue would hold a whole cache in host memory.
    await this.gpu.submitted();
    this.gpu.check();
  }

  continue(options: ContinueOptions): Continuation | null {
    this.gpu.check();
    const { sampling, position, most, timeline = 0 } = options;
    checkContinue(this.graph, options);
    const { device } = this.gpu;
    const plan = this.program.sampling;
    const dispatches = plan.dispatchesFor(sampling);
    if (!dispatches) return null;
    const samplers = this.#samplers(dispatches);
    device.queue.writeBuffer(this.#buffer(plan.choice), 0, packChoice(sampling, position));
    this.#word ??= new WordBack(this.gpu, this.#buffer(plan.chosen));
    const word = this.#word;
    // The sampling kernels take step.position + step.tokens for the position of the token that they choose.
    const start = async (at: number | null) => {
      const ready = await samplers;
      this.gpu.check();
      const step = { tokens: at === null ? 0 : 1, position: at ?? position, outputs: 1 };
      const encoder = this.#encode(step, timeline);
      encodePass(encoder, ready, step, timeline);
      const back = word.encode(encoder);
      device.queue.submit([encoder.finish()]);
      return back();
    };
    return new RunAhead({ position, most, start });
  }

  candidates(count: number): Promise<{ ids: Uint32Array; logits: Float32Array }> | null {
    return count > MOST_KEPT ? null : this.#candidates(count);
  }

  async #candidates(count: number): Promise<{ ids: Uint32Array; logits: Float32Array }> {
    this.gpu.check();
    const plan = this.program.sampling;
    const ready = await this.#samplers(plan.candidatesFor(count));
    const { device } = this.gpu;
    const encoder = device.createCommandEncoder();
    encodePass(encoder, ready, { tokens: 0, position: 0, outputs: 1 }, 0);
    device.queue.submit([encoder.finish()]);
    const bytes = await this.#readBack.read(this.#buffer(plan.candidates), 0, plan.candidates.bytes);
    this.gpu.check();
    return unpackCandidates(bytes, count);
  }

  async read(value: Value, first: number, rows: number): Promise<Float32Array> {
    this.gpu.check();
    const buffer = this.program.kept(value);
    if (!buffer) throw new ArgumentError("value", value.id, "the logits or a labelled value");
    const [offset, bytes] = [first * value.cols * 4, rows * value.cols * 4];
    const found = await this.#readBack.read(this.#buffer(buffer), offset, bytes);
    this.gpu.check();
    return new Float32Array(found);
  }

  async profile(step: Step): Promise<StepProfile> {
    // Puts ids, turns and the step's numbers in place.
    await this.run(step);
    const { position, outputs, timeline = 0 } = step;
    const list = this.#last.map(({ groups, ...rest }) => ({ ...rest, group: groups[timeline] }));
    return profileStep(this.gpu, list, { tokens: step.ids.length, position, outputs });
  }

  async close(): Promise<void> {
    for (const buffer of this.buffers.values()) buffer.destroy();
    this.gpu.close();
  }

  readonly #buffer = (planned: Buffer, timeline = 0): GPUBuffer =>
    this.buffers.get(this.program.place(planned, timeline).id)!;

  #place({ cache, part, kvHead, first, slots, timeline }: CacheRange) {
    const { codec, headDim, kvHeads, capacity } = cache;
    const planned = this.program.caches[cache.id][part];
    const blockBytes = (planned.bytes * BLOCK_SLOTS) / (kvHeads * capacity);
    const key = `${codec.name} ${part} ${headDim}`;
    let map = this.#maps.get(key);
    if (!map) {
      const one = { format: kvFormat(codec.name), kvHeads: 1, headDim, capacity: BLOCK_SLOTS };
      map = blockMap(blockBytes, codec.vectorBytes(headDim), (block, slot) =>
        readVector(one, part, block, 0, slot),
      );
      this.#maps.set(key, map);
    }
    const block = (kvHead * capacity + first) / BLOCK_SLOTS;
    const bytes = (slots / BLOCK_SLOTS) * blockBytes;
    return { buffer: this.#buffer(planned, timeline), map, at: block * blockBytes, bytes };
  }

  #samplers(dispatches: readonly Dispatch[]): Promise<Ready[]> {
    let made = this.#sampling.get(dispatches);
    if (!made) {
      const { timelines } = this.graph;
      made = makeReady(this.gpu, dispatches, { bufferOf: this.#buffer, step: this.stepBuffer, timelines });
      this.#sampling.set(dispatches, made);
      // Whoever starts a step meets the error; nobody may.
      made.catch(() => {});
    }
    return made;
  }

  /** An encoder with the step's dispatches; none for a step without tokens. Its ids are on the GPU already. */
  #encode(step: StepShape, timeline: number): GPUCommandEncoder {
    const { device } = this.gpu;
    const { tokens, position, outputs } = step;
    device.queue.writeBuffer(this.stepBuffer, 0, Uint32Array.of(tokens, position, outputs));
    const encoder = device.createCommandEncoder();
    if (tokens === 0) return encoder;
    for (const rope of this.graph.ropes) {
      const turns = this.#turns[rope.id];
      writeTurns(rope, position, tokens, turns);
      const count = tokens * 2 * rope.frequencies.length;
      device.queue.writeBuffer(this.#buffer(this.program.turns[rope.id]), 0, turns, 0, count);
    }
    this.#last = tokens === 1 && outputs <= 1 ? this.ready.decode : this.ready.prompt;
    encodePass(encoder, this.#last, step, timeline);
    return encoder;
  }
}
