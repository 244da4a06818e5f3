/**
 * Reads token ids with an f16 cache and lets methods rewrite its contents, a page of tokens at a time. A method that
 * needs one token rewrites the step's keys and values after each layer's appendKv, before its own queries read them;
 * one that needs a page, and everything older than `recent` tokens, is rewritten when its page is full. So a position
 * attends to exactly what it would attend to in a cache of that kind.
 */
import { f16 } from "../cache/codec-f16.ts";
import { packedBlocks, type RecentPages, recentOf } from "../cache/layers.ts";
import {
  type AfterAppend,
  type Allocation,
  type Cache,
  type Graph,
  PAGE_SLOTS,
  type RunPacked,
  type Value,
} from "../device/contract.ts";
import { throwIfAborted } from "../format/errors.ts";
import type { Holding } from "./holding.ts";

const PARTS = ["keys", "values"] as const;

export interface Rewriting {
  readonly keys: Holding | null;
  readonly values: Holding | null;
  readonly sinks: number;
  readonly recent: number;
  readonly layers: readonly [number, number] | null;
}

export const UNTOUCHED: Rewriting = { keys: null, values: null, sinks: 0, recent: 0, layers: null };

export class Reader {
  readonly #allocation: Allocation;
  readonly #graph: Graph;
  readonly #recent: RecentPages | null;

  constructor(allocation: Allocation, graph: Graph) {
    this.#allocation = allocation;
    this.#graph = graph;
    // A text's blocks go round in its pool: a sliding pool has pages for its window and a step.
    this.#recent = recentOf(graph);
    for (const pool of graph.pools) {
      // The first pages stay where the first tokens are kept in f16.
      const first = pool.id === this.#recent?.pool ? this.#recent.firstPages : 0;
      const pageOf = (block: number) =>
        block < first ? block : first + ((block - first) % (pool.pages - first));
      const pages = Uint32Array.from({ length: graph.blocks }, (_, block) => pageOf(block));
      allocation.setPages(pool, 0, 0, pages);
    }
  }

  /** Logits [vocab] after each position from `from` on. */
  async *read(
    ids: readonly number[],
    from: number,
    how: Rewriting,
    signal?: AbortSignal,
  ): AsyncGenerator<Float32Array, void> {
    const { logits } = this.#graph;
    let blocks = 0;
    for (let first = 0; first < ids.length; first += PAGE_SLOTS) {
      throwIfAborted(signal, "measuring");
      const some = ids.slice(first, first + PAGE_SLOTS);
      const outputs = Math.max(0, Math.min(some.length, first + some.length - from));
      const packed = this.#packing(blocks, first + some.length);
      if (packed) blocks = Math.max(blocks, ...packed.pack.map((block) => block + 1));
      const run = { text: 0, position: first, ids: Uint32Array.from(some), outputs, packed };
      await this.#allocation.run({ runs: [run] }, this.#atAppend(first, some.length, how));
      if (outputs > 0) {
        const rows = await this.#allocation.read(logits, 0, outputs);
        for (let row = 0; row < outputs; row++)
          yield rows.subarray(row * logits.cols, (row + 1) * logits.cols);
      }
      if (some.length === PAGE_SLOTS) await this.#atPage(first / PAGE_SLOTS, how);
    }
  }

  /** Blocks that are packed, and those that a run to `to` packs. null: the cache has no packed pages. */
  #packing(blocks: number, to: number): RunPacked | null {
    if (!this.#recent) return null;
    const { tokens, firstPages } = this.#recent;
    const from = Math.max(blocks, firstPages);
    const count = Math.max(0, packedBlocks(tokens, to) - from);
    return { blocks, pack: Array.from({ length: count }, (_, i) => from + i) };
  }

  /** Greedy: what comes after `prompt` over f16, as far as the page tables go. */
  async answer(
    prompt: readonly number[],
    most: number,
    ends: ReadonlySet<number>,
    signal?: AbortSignal,
  ): Promise<number[]> {
    const { logits, blocks } = this.#graph;
    const answer: number[] = [];
    let next = 0;
    for await (const row of this.read(prompt, prompt.length - 1, UNTOUCHED, signal)) next = largest(row);
    while (!ends.has(next)) {
      answer.push(next);
      const position = prompt.length + answer.length - 1;
      if (answer.length === most || position + 1 >= blocks * PAGE_SLOTS) break;
      throwIfAborted(signal, "measuring");
      await this.#allocation.run({
        runs: [{ text: 0, position, ids: Uint32Array.of(next), outputs: 1 }],
      });
      next = largest(await this.#allocation.read(logits, 0, 1));
    }
    return answer;
  }

  /** Keys or values [tokens, headDim] of one head, the first `tokens` of the text, as far as its pool still has them. */
  async vectors(
    cache: Cache,
    part: (typeof PARTS)[number],
    kvHead: number,
    tokens: number,
  ): Promise<Float32Array> {
    const { pages } = cache.pool;
    const blocks = Math.min(Math.floor(tokens / PAGE_SLOTS), pages);
    const all = await this.#allocation.readPages({ cache, part, kvHead }, [...Array(blocks).keys()]);
    return decoded(all, cache.headDim);
  }

  /** The last step's first rows of a value that stays readable. */
  value(value: Value, rows: number): Promise<Float32Array> {
    return this.#allocation.read(value, 0, rows);
  }

  #atAppend(first: number, tokens: number, how: Rewriting): AfterAppend | undefined {
    const parts = PARTS.filter((part) => how[part]?.needs === "token" && how.recent === 0);
    if (parts.length === 0) return undefined;
    return async (cache) => {
      for (const part of parts)
        await this.#rewrite(cache, part, first / PAGE_SLOTS, Math.max(0, how.sinks - first), tokens, how);
    };
  }

  /** Page `block` is full: quantizes what is no longer among the newest tokens. */
  async #atPage(block: number, how: Rewriting): Promise<void> {
    const leaving = block - how.recent / PAGE_SLOTS;
    const parts = PARTS.filter((part) => how[part] && (how[part].needs === "page" || how.recent > 0));
    if (leaving < 0) return;
    for (const cache of this.#graph.caches) {
      // A window shorter than `recent` never sees a page outside of it.
      if (block - leaving >= cache.pool.pages) continue;
      const sinks = Math.max(0, how.sinks - leaving * PAGE_SLOTS);
      for (const part of parts) await this.#rewrite(cache, part, leaving, sinks, PAGE_SLOTS, how);
    }
  }

  /** Slots [from, to) of a page in every head. A method that needs a page sees all of it. */
  async #rewrite(
    cache: Cache,
    part: (typeof PARTS)[number],
    block: number,
    from: number,
    to: number,
    how: Rewriting,
  ): Promise<void> {
    const { headDim, kvHeads, layer, pool } = cache;
    const { layers } = how;
    const method = how[part]!;
    if (from >= to || (layers && !(layer >= layers[0] && layer < layers[1]))) return;
    const page = block % pool.pages;
    const size = f16.vectorBytes(headDim);
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const place = { cache, part, kvHead };
      const bytes = await this.#allocation.readPages(place, [page]);
      const seen = method.needs === "page" ? 0 : from;
      const vectors = decoded(bytes.subarray(seen * size, to * size), headDim);
      method.apply(vectors, headDim, { layer, kvHead });
      for (let slot = from; slot < to; slot++)
        f16.encode(
          vectors.subarray((slot - seen) * headDim, (slot - seen + 1) * headDim),
          bytes.subarray(slot * size, (slot + 1) * size),
          part,
        );
      await this.#allocation.writePages(place, [page], bytes);
    }
  }
}

function largest(logits: Float32Array): number {
  let top = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[top]) top = id;
  return top;
}

/** float16 vectors as float32. */
function decoded(bytes: Uint8Array, headDim: number): Float32Array {
  const size = f16.vectorBytes(headDim);
  const vectors = new Float32Array((bytes.length / size) * headDim);
  for (let i = 0; i * size < bytes.length; i++)
    f16.decode(bytes.subarray(i * size, (i + 1) * size), vectors.subarray(i * headDim, (i + 1) * headDim));
  return vectors;
}
