/**
 * The pages of one running text: those of its known prefix, which it may share, and those that it writes. They are
 * taken, grow, become known and are given back here; `tables` lists changes for the device. Only tokens that were
 * written and whose ids are known enter the prefix tree, so it is always correct.
 */
import { PAGE_SLOTS, type RunPacked } from "../device/contract.ts";
import type { Beginning, Beginnings } from "./beginnings.ts";
import { blocksOf, packedBlocks } from "./layers.ts";
import type { Page } from "./node.ts";
import { type BlockKey, keyOf, Node } from "./node.ts";

/** Copies that a device has to make before the text's next step. */
export interface PageCopy {
  readonly pool: number;
  readonly from: number;
  readonly to: number;
}

export class TextPages {
  readonly #all: Beginnings;
  /** By pool, by block; null: given back because it left the window. */
  readonly #pages: (Page | null)[][];
  /** By pool: the number of these pages. */
  readonly #held: number[];
  /** By pool: blocks before this one are given back. */
  readonly #trimmed: number[];
  /** By pool: blocks missing in the device's table, [from, to). */
  readonly #changed: { from: number; to: number }[];
  /** Full blocks that are known. */
  #blocks: Node[] = [];
  /** The block after them. */
  #tail: Node | null = null;
  #tokens = 0;
  /** Blocks before this one are read packed, the others unpacked. 0 in a graph without packed caches. */
  #packed = 0;
  /** Blocks before this one will be packed after the current step. */
  #packing = 0;
  /** The states after the known prefix; the text uses them until a caller takes them. */
  #state: Page | null = null;
  #known = 0;
  /** Pages that are being copied. */
  #pinned: { pool: number; page: Page }[] = [];

  constructor(all: Beginnings) {
    this.#all = all;
    this.#pages = all.pools.map(() => []);
    this.#held = all.pools.map(() => 0);
    this.#trimmed = all.pools.map(() => 0);
    this.#changed = all.pools.map(() => ({ from: 0, to: 0 }));
  }

  /** The number of the text's tokens in its pages. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Tokens before this one have pages. */
  get room(): number {
    return Math.min(...this.#pages.map((pages) => pages.length)) * PAGE_SLOTS;
  }

  /** Tokens of the text that were in the tree when it began, including those that have to be read again. */
  get known(): number {
    return this.#known;
  }

  /** The states after the prefix that was found, which the text uses: the caller that takes them releases them. */
  takeState(): Page | null {
    const state = this.#state;
    this.#state = null;
    return state;
  }

  /** The block of the token before a position that was written, and how many of its ids come before it. */
  place(position: number): { block: Node; tokens: number } | null {
    const index = Math.ceil(position / PAGE_SLOTS) - 1;
    const block = this.#blocks[index] ?? (index === this.#blocks.length ? this.#tail : null);
    return block && { block, tokens: position - index * PAGE_SLOTS };
  }

  held(pool: number): number {
    return this.#held[pool];
  }

  /** The node after the full blocks: equal for two texts with the same tokens before it. */
  get last(): Node {
    return this.#blocks[this.#blocks.length - 1] ?? this.#all.root;
  }

  /** Index of the block that is written next. */
  get block(): number {
    return this.#blocks.length;
  }

  /**
   * Takes the longest known prefix of at most `most` tokens. The caller makes the returned copies, then calls `copied`.
   * found: that prefix, if the caller has just looked for it.
   */
  start(
    ids: readonly number[],
    key: BlockKey,
    most: number,
    found: Beginning = this.#all.longest(ids, key, most),
  ): PageCopy[] {
    this.#use(found, 0, this.#all.packedOf(found)!);
    this.#known = found.known;
    const copies = found.last ? this.#begin(found.last, found.tokens % PAGE_SLOTS) : [];
    if (copies) return copies;
    // No page for the copy: continue without it.
    this.release();
    const whole = this.#all.longest(ids, key, most, { whole: true });
    this.#use(whole, 0, this.#all.packedOf(whole)!);
    return [];
  }

  /**
   * Instead of `start`: nothing is there, and no pool will have anything before these blocks. Blocks without recent
   * pages are packed.
   */
  begin(firsts: readonly number[]): void {
    if (this.#all.recent) this.#packed = this.#packing = firsts[this.#all.recent.pool];
    firsts.forEach((first, pool) => {
      this.#pages[pool] = new Array(first).fill(null);
    });
  }

  /** By pool: the pages of the blocks from `firsts` on. */
  from(firsts: readonly number[]): { first: number; pages: number[]; head: number[] }[] {
    const numbers = (pages: (Page | null)[]) => pages.map((page) => page!.index);
    return firsts.map((first, pool) => ({
      first,
      pages: numbers(this.#pages[pool].slice(first)),
      head: numbers(this.#pages[pool].slice(0, this.#head(pool))),
    }));
  }

  copied(): void {
    for (const { pool, page } of this.#pinned) this.#all.pools[pool].release(page);
    this.#pinned = [];
  }

  /** Takes full blocks that others have made known since; true: there were some. No step of the text may be running. */
  extend(ids: readonly number[], key: BlockKey, most: number): boolean {
    const found = this.#all.longest(ids, key, most, { held: this.#blocks, whole: true });
    if (found.tokens <= this.#tokens) return false;
    const first = this.#blocks.length;
    const packed = this.#all.packedOf(found, this.#packed);
    if (packed === null) return false;
    const own = this.#tail;
    this.#tail = null;
    // Its tokens are the first of the block that replaces it.
    if (own) {
      this.#all.moveStates(own, found.blocks[first]);
      this.#all.forget(own);
    }
    this.#pages.forEach((pages, pool) => {
      for (const page of pages.splice(first)) if (page) this.#drop(pool, page);
    });
    this.#use(found, first, packed);
    return true;
  }

  /** Gets pages for the tokens up to `tokens`, as long as `may` allows and there are some. */
  grow(tokens: number, may: (pool: number) => boolean): void {
    const blocks = blocksOf(tokens);
    this.#pages.forEach((pages, pool) => {
      for (let block = 0; block < this.#head(pool); block++) {
        const page = pages[block] ? null : this.#all.pools[pool].take();
        if (page) this.#put(pool, block, page);
      }
      while (pages.length < blocks && may(pool)) {
        const page = this.#all.pools[pool].take();
        if (!page) return;
        this.#put(pool, pages.length, page);
      }
    });
  }

  /** These tokens are written now. */
  wrote(ids: readonly number[]): void {
    for (const id of ids) {
      this.#tail ??= this.#open();
      this.#tail.ids.push(id);
      if (this.#tail.isFull) this.#close(this.#tail);
    }
    this.#tokens += ids.length;
  }

  /** Gives back pages that no token from `position` on attends to. */
  trim(position: number): void {
    this.#pages.forEach((pages, pool) => {
      const to = Math.min(pages.length, this.#all.firstSeen(pool, position));
      this.#leave(pool, this.#trimmed[pool], to);
      this.#trimmed[pool] = Math.max(this.#trimmed[pool], to);
    });
  }

  /**
   * For a run from `position` to `to`: the blocks that it reads packed, and those that it packs. null: the graph has no
   * packed caches. Packed blocks are never read unpacked again, so the text may go back by less than recent.tokens.
   */
  pack(position: number, to: number): RunPacked | null {
    const { recent } = this.#all;
    if (!recent) return null;
    const blocks = this.#packed;
    const pack: number[] = [];
    const end = Math.max(blocks, packedBlocks(recent.tokens, to));
    for (let block = Math.max(blocks, recent.firstPages); block < end; block++) {
      const missing = this.#pages.filter((pages, pool) => {
        const { window } = this.#all.pools[pool].pool;
        const isSeen = window === null || position - (block * PAGE_SLOTS + PAGE_SLOTS - 1) < window;
        return pool !== recent.pool && isSeen && pages[block]?.isPacked === false;
      });
      if (missing.length > 0) pack.push(block);
      for (const pages of missing) pages[block]!.isPacked = true;
    }
    this.#packing = end;
    return { blocks, pack };
  }

  /** The device has accepted the run: what it packed is read packed from now on. */
  packed(): void {
    const { recent } = this.#all;
    if (!recent) return;
    this.#leave(recent.pool, this.#packed, this.#packing);
    this.#packed = this.#packing;
  }

  /**
   * Gives all pages back; known ones stay known until they are needed, the end of a text for a shorter time than its
   * beginning.
   */
  release(): void {
    this.copied();
    const state = this.takeState();
    if (state) this.#all.states!.release(state);
    if (this.#tail) this.#settle(this.#tail);
    this.#pages.forEach((pages, pool) => {
      for (const page of pages.reverse()) if (page) this.#drop(pool, page);
      pages.length = 0;
      this.#trimmed[pool] = 0;
      this.#changed[pool] = { from: 0, to: 0 };
    });
    this.#blocks = [];
    this.#tail = null;
    this.#tokens = 0;
    this.#packed = this.#packing = 0;
  }

  /**
   * Tells a device's tables, once, what has changed: by pool, writes the pages to the text's row, and gives those that it did
   * not have to `set`, with the block of the first.
   */
  tables(
    rowOf: (pool: number) => Uint32Array,
    set: (pool: number, first: number, pages: Uint32Array) => void,
  ): void {
    this.#changed.forEach(({ from, to }, pool) => {
      this.#changed[pool] = { from: 0, to: 0 };
      const pages = this.#pages[pool];
      const row = rowOf(pool);
      const end = Math.min(to, pages.length);
      const isNew = (block: number) =>
        block < end && pages[block] !== null && pages[block].index !== row[block];
      for (let block = from; block < end; block++) {
        const first = block;
        while (isNew(block)) row[block] = pages[block++]!.index;
        if (block > first) set(pool, first, row.slice(first, block));
      }
    });
  }

  /**
   * Uses the full blocks from `first` on, as far as a token after them attends to them; those before `packed` are read
   * packed.
   */
  #use({ blocks, state }: Beginning, first: number, packed: number): void {
    const tokens = blocks.length * PAGE_SLOTS;
    const { recent } = this.#all;
    if (state) this.#all.states!.use(state);
    this.#state = state;
    this.#all.pools.forEach((pages, pool) => {
      const isRecent = pool === recent?.pool;
      const seen = isRecent ? packed : this.#all.firstSeen(pool, tokens);
      for (let block = first; block < blocks.length; block++) {
        const isNeeded = block >= seen || (isRecent && block < recent.firstPages);
        const page = isNeeded ? blocks[block].pages[pool] : null;
        if (page) pages.use(page);
        this.#put(pool, block, page);
      }
    });
    if (recent) this.#leave(recent.pool, this.#packed, Math.min(first, packed));
    this.#packed = this.#packing = packed;
    this.#blocks = [...blocks];
    this.#tokens = tokens;
  }

  /**
   * The first `tokens` of a known block: taken over if nothing is lost, otherwise to be copied. null: no page is left.
   */
  #begin(source: Node, tokens: number): PageCopy[] | null {
    const { pools } = this.#all;
    const index = this.#blocks.length;
    const isUsed = source.isUsed;
    const use = () => {
      this.#tail = source;
      source.pages.forEach((page, pool) => {
        pools[pool].use(page!);
        this.#put(pool, index, page);
      });
      this.#tokens += tokens;
      return [];
    };
    if (!isUsed && source.ids.length === tokens) return use();
    const own = new Node(source.parent, pools.length);
    source.pages.forEach((page, pool) => {
      pools[pool].use(page!);
      this.#pinned.push({ pool, page: page! });
      own.pages[pool] = pools[pool].take();
    });
    if (own.pages.every((page) => page)) {
      own.ids.push(...source.ids.slice(0, tokens));
      own.parent!.open.add(own);
      this.#tail = own;
      this.#tokens += tokens;
      return own.pages.map((page, pool) => {
        page!.block = own;
        this.#put(pool, index, page);
        return { pool, from: source.pages[pool]!.index, to: page!.index };
      });
    }
    own.pages.forEach((page, pool) => {
      if (!page) return;
      page.block = null;
      pools[pool].release(page);
    });
    this.copied();
    if (isUsed) return null;
    this.#all.cut(source, tokens);
    return use();
  }

  #open(): Node {
    const block = new Node(this.last, this.#pages.length);
    this.#pages.forEach((pages, pool) => {
      const page = pages[this.#blocks.length];
      if (page) page.block = block;
      const isPacked =
        this.#blocks.length < this.#packed && this.#blocks.length >= (this.#all.recent?.firstPages ?? 0);
      if (page && isPacked) page.isPacked = true;
      block.pages[pool] = page;
    });
    block.parent!.open.add(block);
    return block;
  }

  /** A full block becomes known by its ids. If one with these ids exists, its pages replace the text's own. */
  #close(block: Node): void {
    const parent = block.parent!;
    const key = keyOf(block.ids, 0);
    const same = parent.children.get(key);
    parent.open.delete(block);
    this.#tail = null;
    if (!same) {
      parent.add(block, key);
      this.#blocks.push(block);
      return;
    }
    const index = this.#blocks.length;
    block.pages.forEach((own, pool) => {
      const other = same.pages[pool];
      if (!own) return;
      if (!other) {
        same.pages[pool] = own;
        own.block = same;
        return;
      }
      if (own.isPacked && !other.isPacked) {
        // The text already reads it packed.
        this.#all.pools[pool].forget(other);
        same.pages[pool] = own;
        own.block = same;
        return;
      }
      own.block = null;
      this.#all.pools[pool].use(other);
      this.#drop(pool, own);
      this.#put(pool, index, other);
    });
    this.#all.moveStates(block, same);
    for (const state of [...block.states.values()]) this.#all.forgetState(state);
    this.#blocks.push(same);
  }

  /** The last block of a text that ends: of two with the same beginning the longer one is enough. */
  #settle(tail: Node): void {
    const parent = tail.parent!;
    const isWhole = (block: Node) => block.pages.every((page) => page);
    for (const other of [...parent.open, ...parent.children.values()]) {
      if (other === tail) continue;
      const common = other.common(tail.ids, 0);
      if (common === tail.ids.length && isWhole(other)) {
        this.#all.moveStates(tail, other);
        return this.#all.forget(tail);
      }
      if (common === other.ids.length && !other.isUsed) {
        this.#all.moveStates(other, tail);
        this.#all.forget(other);
      }
    }
  }

  #put(pool: number, block: number, page: Page | null): void {
    const pages = this.#pages[pool];
    pages[block] = page;
    if (!page) return;
    this.#held[pool]++;
    const changed = this.#changed[pool];
    if (changed.from === changed.to) this.#changed[pool] = { from: block, to: block + 1 };
    else {
      changed.from = Math.min(changed.from, block);
      changed.to = Math.max(changed.to, block + 1);
    }
  }

  /** Blocks at the beginning that stay in the recent pool, separate from those that follow the packed ones. */
  #head(pool: number): number {
    const { recent } = this.#all;
    return pool === recent?.pool ? Math.min(recent.firstPages, this.#packed) : 0;
  }

  /** Blocks [from, to) of a pool are no longer needed, except those at the beginning that are never packed. */
  #leave(pool: number, from: number, to: number): void {
    const pages = this.#pages[pool];
    const { recent } = this.#all;
    const first = pool === recent?.pool ? Math.max(from, recent.firstPages) : from;
    for (let block = first; block < to; block++) {
      const page = pages[block];
      pages[block] = null;
      if (page) this.#drop(pool, page);
    }
  }

  #drop(pool: number, page: Page): void {
    this.#held[pool]--;
    this.#all.pools[pool].release(page);
  }
}
