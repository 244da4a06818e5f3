/**
 * Texts over an allocation, with pages in a scattered order as after long use; sliding pools get back what no later row sees.
 * A page is full of NaN when a text gets it, which must not count: a page of a text that met NaN may be another's later.
 * For tests: the engine has its own.
 */
import { packedBlocks } from "../../src/cache/layers.ts";
import {
  type Allocation,
  type Graph,
  PAGE_SLOTS,
  type Pool,
  type Ran,
  type Sampling,
} from "../../src/device/contract.ts";
import { pageBytes } from "../../src/device/page-bytes.ts";

export interface More {
  readonly text: number;
  readonly ids: ArrayLike<number>;
  readonly outputs?: number;
  readonly sampling?: Sampling;
}

export class PagedTexts {
  /** By pool: pages that nobody has. */
  readonly #free: number[][];
  /** By pool and text: the page of each block; undefined: none. */
  readonly #pages: (number | undefined)[][][];
  /** By text. */
  readonly positions: number[];
  /** By text: blocks that are packed. */
  readonly packed: number[];
  /** By text: the slot with its states, of the two that are its own. */
  readonly #slots: number[];
  #failed: Error | null = null;

  constructor(
    readonly allocation: Allocation,
    readonly graph: Graph,
  ) {
    this.#free = graph.pools.map(({ pages }) => scattered(pages));
    this.#pages = graph.pools.map(() => Array.from({ length: graph.texts }, () => []));
    this.#slots = Array.from({ length: graph.texts }, (_, text) => 2 * text);
    this.positions = new Array(graph.texts).fill(0);
    this.packed = new Array(graph.texts).fill(0);
  }

  /** One step with new tokens of some texts. */
  run(more: readonly More[]): Promise<Ran> {
    if (this.#failed) throw this.#failed;
    const runs = more.map(({ text, ids, outputs = 1, sampling }) => {
      const position = this.positions[text];
      this.reserve(text, ids.length);
      this.positions[text] += ids.length;
      const state = this.#states(text, position);
      const packed = this.#pack(text, position + ids.length);
      return { text, position, ids: Uint32Array.from(ids), outputs, sampling, state, packed };
    });
    const ran = this.allocation.run({ runs });
    // Calls take effect in their order: what was packed may be another's from the next step on.
    const { recentPool } = this.graph;
    for (const { text, packed } of runs)
      for (const block of packed?.pack ?? [])
        this.#giveBack(recentPool!, this.#pages[recentPool!.id][text], block);
    return ran;
  }

  #pack(text: number, position: number) {
    const { caches, recentPool } = this.graph;
    if (!recentPool) return null;
    const tokens = Math.max(...caches.map(({ codec }) => codec.packed?.recentTokens ?? 0));
    const first = Math.max(...caches.map(({ codec }) => codec.packed?.firstPages ?? 0));
    const blocks = this.packed[text];
    const to = Math.max(blocks, packedBlocks(tokens, position));
    this.packed[text] = to;
    const from = Math.max(blocks, first);
    return { blocks, pack: Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i) };
  }

  #states(text: number, position: number) {
    if (this.graph.states.length === 0) return null;
    const from = this.#slots[text];
    this.#slots[text] = from ^ 1;
    return { from: position === 0 ? null : from, to: from ^ 1 };
  }

  /** Gives a text pages for `tokens` more tokens. */
  reserve(text: number, tokens: number): void {
    const position = this.positions[text];
    for (const pool of this.graph.pools) {
      const pages = this.#pages[pool.id][text];
      const oldest = pool.window === null ? 0 : Math.max(0, position - pool.window + 1);
      for (let block = 0; block < Math.floor(oldest / PAGE_SLOTS); block++)
        this.#giveBack(pool, pages, block);
      for (let block = Math.floor(position / PAGE_SLOTS); block * PAGE_SLOTS < position + tokens; block++) {
        if (pages[block] !== undefined) continue;
        const page = this.#free[pool.id].pop();
        if (page === undefined) throw new Error(`no page of pool ${pool.id} is left`);
        pages[block] = page;
        this.#poison(pool, page);
        this.allocation.setPages(pool, text, block, [page]);
      }
    }
  }

  /** Takes effect at once; what fails, fails the next step. */
  #poison(pool: Pool, page: number): void {
    const isRecent = pool === this.graph.recentPool;
    // NaN as float16, in any byte order.
    const stale = 0xff;
    for (const cache of this.graph.caches) {
      if (isRecent ? !cache.codec.packed : cache.pool !== pool) continue;
      for (const part of ["keys", "values"] as const) {
        const bytes = new Uint8Array(pageBytes(cache, part, isRecent)).fill(stale);
        for (let kvHead = 0; kvHead < cache.kvHeads; kvHead++)
          this.allocation.writePages({ cache, part, kvHead, isRecent }, [page], bytes).catch((error) => {
            this.#failed ??= error;
          });
      }
    }
  }

  /** Pages as another text has them, with nothing in them yet. */
  beginLike(text: number, other: number): void {
    this.positions[text] = 0;
    this.reserve(text, this.positions[other]);
    this.positions[text] = this.positions[other];
    this.packed[text] = this.packed[other];
  }

  /** The page of a text's block; undefined: given back, or never had. */
  page(pool: Pool, text: number, block: number): number | undefined {
    return this.#pages[pool.id][text][block];
  }

  /** `to` becomes a copy of `from`, page by page. */
  async copy(from: number, to: number): Promise<void> {
    this.end(to);
    for (const pool of this.graph.pools)
      for (const [block, page] of this.#pages[pool.id][from].entries()) {
        if (page === undefined) continue;
        const own = this.#free[pool.id].pop()!;
        this.#pages[pool.id][to][block] = own;
        this.allocation.setPages(pool, to, block, [own]);
        await this.allocation.copyPage(pool, page, own);
      }
    this.positions[to] = this.positions[from];
    this.packed[to] = this.packed[from];
  }

  end(text: number): void {
    for (const pool of this.graph.pools) {
      const pages = this.#pages[pool.id][text];
      for (let block = 0; block < pages.length; block++) this.#giveBack(pool, pages, block);
      pages.length = 0;
    }
    this.positions[text] = 0;
    this.packed[text] = 0;
  }

  #giveBack(pool: Pool, pages: (number | undefined)[], block: number): void {
    const page = pages[block];
    pages[block] = undefined;
    // To the front: pages go around.
    if (page !== undefined) this.#free[pool.id].unshift(page);
  }
}

/** 0 to count - 1, in an order without runs. */
function scattered(count: number): number[] {
  const stride = [7, 5, 3, 2, 1].find((n) => count % n !== 0 || n === 1)!;
  return Array.from({ length: count }, (_, i) => (i * stride + 2) % count);
}
