/**
 * A graph so small that thousands of tokens take a second on the reference device, and still one where what a token's keys
 * and values are depends on all tokens before it: a full layer, and a sliding one over its output.
 */
import { kvCodec } from "../../src/cache/codecs.ts";
import { poolPages, recentPages } from "../../src/cache/layers.ts";
import {
  type Allocation,
  type Graph,
  type KvCodec,
  PAGE_SLOTS,
  type Value,
} from "../../src/device/contract.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { Scheduler, type SchedulerOptions } from "../../src/engine/scheduler.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import { randomTensor } from "../device/random-tensor.ts";

export const VOCAB = 37;
const HEADS = 2;
const HEAD_DIM = 4;
const HIDDEN = HEADS * HEAD_DIM;

export interface TinyGraph {
  context?: number;
  cacheTokens?: number;
  texts?: number;
  chunk?: number;
  outputs?: number;
  windows?: readonly (number | null)[];
  /** Sliding pools hold all that full ones do. */
  isWhole?: boolean;
  /** Tokens that stay as they came before their page is packed, without a loss. Default: nothing is packed. */
  recent?: number;
  /** Slots of recurrent states, of which there are two then. Default: none. */
  stateSlots?: number;
}

/** f32, and packed pages that hold the same: what was never packed, or is another text's, is no number that is wanted. */
function losslessCodec(recent: number | undefined): KvCodec {
  const f32 = kvCodec("f32");
  if (recent === undefined) return f32;
  const bytesOf = (page: Float32Array) => new Uint8Array(page.buffer, page.byteOffset, page.byteLength);
  return {
    ...f32,
    packed: {
      keys: { bits: 8, scales: "channel" },
      values: { bits: 8, scales: "channel" },
      recentTokens: recent,
      firstPages: 1,
      pageBytes: (headDim) => PAGE_SLOTS * headDim * 4,
      encode: (page, bytes) => bytes.set(bytesOf(page)),
      decode: (bytes, page) => bytesOf(page).set(bytes),
    },
  };
}

function tinyGraph(options: TinyGraph = {}): Graph {
  const { context = 160, texts = 1, chunk = 24, windows = [null, 20] } = options;
  const { outputs = Math.max(texts, 4), cacheTokens = context, stateSlots } = options;
  const op = new Recorder(chunk, outputs);
  const rope = op.ropeTable(ropeFrequencies(10_000, HEAD_DIM));
  let x = op.embed(op.weight("embedding", "matrix", "f32", VOCAB, HIDDEN), 20);
  const pools = new Map(
    windows.map((window) => [
      window,
      op.pool(window, poolPages(options.isWhole ? null : window, { cacheTokens, texts, maxTokens: chunk })),
    ]),
  );
  const codec = losslessCodec(options.recent);
  if (codec.packed) op.recentPool(recentPages(codec.packed, { cacheTokens, texts, maxTokens: chunk }));
  windows.forEach((window, layer) => {
    const pool = pools.get(window)!;
    const cache = op.cache({ layer, codec, kvHeads: HEADS, headDim: HEAD_DIM, pool });
    const turned = op.rope(x, HEADS, rope);
    op.appendKv(cache, turned, x);
    x = op.add(x, op.attend(cache, turned, { heads: HEADS, scale: 1 / Math.sqrt(HEAD_DIM) }));
  });
  if (stateSlots !== undefined) x = op.add(x, recurrent(op, x));
  const logits = op.matmul(op.takeOutputs(x), op.weight("output", "matrix", "f32", VOCAB, HIDDEN));
  return op.finish(logits, { texts, blocks: Math.ceil(context / PAGE_SLOTS), stateSlots });
}

/** A layer over states; what it says depends on all tokens before, and not on where they lie. */
function recurrent(op: Recorder, x: Value): Value {
  const vector = (name: string, cols: number) => op.weight(name, "vector", "f32", 1, cols);
  const mixed = op.conv(
    op.matmul(x, op.weight("mixed", "matrix", "f32", 4 * HEAD_DIM, HIDDEN)),
    vector("kernel", 4 * HEAD_DIM * 3),
    { layer: 9, kernel: 3, activation: null },
  );
  const gates = op.matmul(x, op.weight("gates", "matrix", "f32", HEADS, HIDDEN));
  const heads = { keyHeads: 1, valueHeads: HEADS, keyDim: HEAD_DIM, valueDim: HEAD_DIM, epsilon: 1e-6 };
  const weights = { rates: vector("rates", HEADS), bias: vector("bias", HEADS) };
  return op.rmsNorm(
    op.gatedDelta({ x: mixed, a: gates, b: gates }, weights, { layer: 9, ...heads }),
    null,
    1e-6,
  );
}

async function allocated(graph: Graph): Promise<Allocation> {
  const allocation = await referenceDevice().allocate(graph);
  for (const [i, weight] of graph.weights.entries())
    await allocation.load(weight, randomTensor(weight.name, "f32", weight.rows, weight.cols, i + 1));
  return allocation;
}

/** A scheduler over the reference device. */
export async function tinyScheduler(options: TinyGraph & Partial<SchedulerOptions> = {}): Promise<Scheduler> {
  const graph = tinyGraph(options);
  const { context = 160, stretchMs, guess, clock } = options;
  const device = { name: "reference", chooses: false };
  const own = await allocated(graph);
  const allocation = watched(
    {
      run: (step) => own.run(step),
      setPages: (...asked) => own.setPages(...asked),
      copyPage: (...asked) => own.copyPage(...asked),
      readPages: (...asked) => own.readPages(...asked),
      writePages: (...asked) => own.writePages(...asked),
      readState: (...asked) => own.readState(...asked),
      writeState: (...asked) => own.writeState(...asked),
      read: (...asked) => own.read(...asked),
    } satisfies Partial<Allocation> as Allocation,
    graph,
    () => scheduler,
  );
  const scheduler: Scheduler = new Scheduler(graph, allocation, device, {
    ...{ context, vocab: VOCAB, stretchMs, guess, clock },
  });
  return scheduler;
}

/** What a text says alone, without any of the engine. */
export class Truth {
  readonly #graph: Graph;
  readonly #allocation: Promise<Allocation>;
  /** What the pages hold. */
  #ids: readonly number[] = [];
  /** Of two, the one with the states after it. */
  #slot = 0;
  /** By text. */
  readonly #known = new Map<string, Float32Array>();
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: Pick<TinyGraph, "context" | "windows" | "stateSlots">) {
    this.#graph = tinyGraph({ ...options, isWhole: true, chunk: 24, outputs: 24 });
    this.#allocation = allocated(this.#graph).then((allocation) => {
      for (const pool of this.#graph.pools)
        allocation.setPages(
          pool,
          0,
          0,
          Uint32Array.from({ length: pool.pages }, (_, i) => i),
        );
      return allocation;
    });
  }

  /** The logits after `ids`. */
  after(ids: readonly number[]): Promise<Float32Array> {
    const found = this.#last.then(() => this.#known.get(ids.join()) ?? this.#read(ids));
    this.#last = found;
    return found;
  }

  /** What comes after `ids`. */
  async generated(
    ids: readonly number[],
    count: number,
    choose: (logits: Float32Array, ids: readonly number[], draw: number) => number,
  ): Promise<number[]> {
    const all = [...ids];
    const most = this.#graph.blocks * PAGE_SLOTS;
    for (let draw = 0; draw < count && all.length <= most; draw++)
      all.push(choose((await this.after(all)).slice(), all, draw));
    return all.slice(ids.length);
  }

  async #read(ids: readonly number[]): Promise<Float32Array> {
    const allocation = await this.#allocation;
    const isRecurrent = this.#graph.states.length > 0;
    let position = 0;
    while (position < ids.length - 1 && this.#ids[position] === ids[position]) position++;
    // States stand at the end of what was read.
    if (isRecurrent && position < this.#ids.length) position = 0;
    for (; position < ids.length; position += 24) {
      const some = Uint32Array.from(ids.slice(position, position + 24));
      const from = position === 0 ? null : this.#slot;
      this.#slot ^= 1;
      const state = isRecurrent ? { from, to: this.#slot } : null;
      await allocation.run({ runs: [{ text: 0, position, ids: some, outputs: some.length, state }] });
      for (let i = 0; i < some.length; i++)
        this.#known.set(
          ids.slice(0, position + i + 1).join(),
          await allocation.read(this.#graph.logits, i, 1),
        );
    }
    this.#ids = [...ids];
    return this.#known.get(ids.join())!;
  }
}

/** Wraps an allocation: a step that looks at a page which no text uses is an error. */
export function watched<A extends Pick<Allocation, "run" | "setPages">>(
  allocation: A,
  graph: Pick<Graph, "pools">,
  scheduler: () => Scheduler,
): A {
  /** By pool and text: the page of each block. */
  const tables = graph.pools.map(() => [] as number[][]);
  return {
    ...allocation,
    setPages(pool, text, first, pages) {
      allocation.setPages(pool, text, first, pages);
      tables[pool.id][text] ??= [];
      for (let i = 0; i < pages.length; i++) tables[pool.id][text][first + i] = pages[i];
    },
    async run(step) {
      for (const { text, position, ids, packed } of step.runs)
        for (const { id } of graph.pools) {
          const { beginnings } = scheduler();
          const last = Math.floor((position + ids.length - 1) / PAGE_SLOTS);
          const { recent } = beginnings;
          const isSeen = (pool: number, block: number) => block >= beginnings.firstSeen(pool, position);
          const isRead = (block: number) => {
            if (id !== recent?.pool) return isSeen(id, block);
            const isAnywhere = graph.pools.some((pool) => pool.id !== id && isSeen(pool.id, block));
            return isAnywhere && (block < recent.firstPages || block >= packed!.blocks);
          };
          for (let block = 0; block <= last; block++)
            if (isRead(block) && !(beginnings.pools[id].all[tables[id][text]?.[block]]?.users > 0))
              throw new Error(`text ${text} looks at block ${block} of pool ${id}, which has no page`);
        }
      return allocation.run(step);
    },
  };
}

/** Pages and slots add up, and the tree of beginnings knows those that it should. */
export function pagesOf(scheduler: Scheduler): { free: number; idle: number; used: number } {
  let known = 0;
  let states = 0;
  const count = (block: Scheduler["beginnings"]["root"]): void => {
    block.pages.forEach((page) => {
      if (!page) return;
      if (page.block !== block) throw new Error("a page knows another block");
      known++;
    });
    for (const [tokens, slot] of block.states) {
      if (slot.block !== block) throw new Error("a slot knows another block");
      if (tokens > block.ids.length) throw new Error("states after the ids of a block");
      states++;
    }
    for (const next of [...block.children.values(), ...block.open]) {
      if (next.parent !== block) throw new Error("a block knows another parent");
      const more = next.children.size + next.open.size + next.states.size;
      if (next.pages.every((page) => !page) && more === 0) throw new Error("a block of nothing");
      count(next);
    }
  };
  count(scheduler.beginnings.root);
  const { pages } = scheduler;
  if (pages.used === 0 && known !== pages.idle) throw new Error(`${known} known pages, ${pages.idle} idle`);
  const slots = scheduler.beginnings.states;
  if (pages.used === 0 && slots) {
    const { free, idle, pool } = slots;
    if (idle !== states || free + idle !== pool.pages)
      throw new Error(`${states} known states, ${idle} idle, ${free} free of ${pool.pages}`);
  }
  return pages;
}
