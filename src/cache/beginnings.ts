/**
 * The prefix tree: beginnings of texts whose pages are still in the cache. A node is PAGE_SLOTS tokens after its
 * parent's, with its page in each pool and, in a graph with recurrent states, a slot for each position within the block
 * where one was kept. Full blocks are found by all of their ids, so there are no collisions; the last block of a text,
 * not full yet, is compared id by id, and is copied for a text that shares its first ids.
 */
import { PAGE_SLOTS, type Pool } from "../device/contract.ts";
import { packedBlocks, type RecentPages } from "./layers.ts";
import type { Page } from "./node.ts";
import { type BlockKey, Node } from "./node.ts";
import { PagePool } from "./pages.ts";

/** The longest known prefix of a text. */
export interface Beginning {
  /** Its length in tokens. */
  readonly tokens: number;
  /** Its full blocks, from the first. */
  readonly blocks: readonly Node[];
  /** A block that contains its last tokens % PAGE_SLOTS tokens, and maybe others after them. */
  readonly last: Node | null;
  /** In a graph with states: the slot with the states after `tokens`; null at 0. */
  readonly state: Page | null;
  /** How many full blocks a search for whole blocks finds. */
  readonly full: number;
  /** The tree has N tokens of the text, even if a next token would not find all pages that it needs. */
  readonly known: number;
}

export class Beginnings {
  readonly pools: readonly PagePool[];
  /** Slots of recurrent states; null: the graph has none. */
  readonly states: PagePool | null;
  readonly root: Node;
  /** The pool of the newest tokens of texts; null: the same pages as for all others. */
  readonly recent: RecentPages | null;

  constructor(pools: readonly Pool[], stateSlots = 0, recent: RecentPages | null = null) {
    this.recent = recent;
    // Without its first block nothing of a text is known.
    const isLater = ({ block }: Page) => block?.parent !== this.root;
    this.pools = pools.map((pool) => new PagePool(pool, recent?.pool === pool.id ? isLater : undefined));
    const slots = { id: pools.length, window: null, pages: stateSlots };
    this.states = stateSlots > 0 ? new PagePool(slots) : null;
    this.root = new Node(null, pools.length);
  }

  /**
   * The longest known prefix of `ids`, at most `most` tokens long, after which a next token finds all pages that it
   * attends to, and the states that it continues from. held: full blocks that the text already has, where the search
   * starts. whole: full blocks only.
   */
  longest(
    ids: readonly number[],
    key: BlockKey,
    most: number,
    { held = [], whole = false }: { held?: readonly Node[]; whole?: boolean } = {},
  ): Beginning {
    const blocks = [...held];
    /** By pool: the first block from which all are there, up to the last. */
    const since = this.pools.map(() => 0);
    /** By pool: the first block after the last one that is neither there nor packed. */
    const unpacked = this.pools.map(() => 0);
    let best: Found = { tokens: held.length * PAGE_SLOTS, last: null, state: null };
    let full = held.length;
    /** The first `count` ids of the block after `blocks` are the text's. */
    const offer = (block: Node, count: number) => {
      const kept = this.states ? block.lastState(count) : { tokens: count, state: null };
      if (!kept || (whole && kept.tokens < PAGE_SLOTS)) return;
      const tokens = blocks.length * PAGE_SLOTS + kept.tokens;
      if (tokens <= best.tokens || !this.#sees(tokens, since)) return;
      const isWhole = kept.tokens === PAGE_SLOTS;
      if (!isWhole && block.pages.some((page) => !page)) return;
      best = { tokens, last: isWhole ? null : block, state: kept.state };
      if (isWhole) full = blocks.length + 1;
    };
    let node = blocks[blocks.length - 1] ?? this.root;
    while ((blocks.length + 1) * PAGE_SLOTS <= most) {
      const child = node.next(ids, blocks.length, key);
      if (!child) break;
      node = child;
      this.#follow(child, blocks.length, since, unpacked);
      if (this.states) offer(child, PAGE_SLOTS);
      else if (this.#sees((blocks.length + 1) * PAGE_SLOTS, since)) full = blocks.length + 1;
      blocks.push(child);
    }
    if (!this.states) best = { ...best, tokens: full * PAGE_SLOTS };
    const at = blocks.length * PAGE_SLOTS;
    const next = this.#partial(node, ids, at, most);
    if (!whole) for (const { block, tokens } of this.states ? next : next.slice(0, 1)) offer(block, tokens);
    const known = at + (next[0]?.tokens ?? 0);
    blocks.length = Math.floor(best.tokens / PAGE_SLOTS);
    return { ...best, blocks, full, known };
  }

  /** The oldest block that a token at `position` attends to in a pool. */
  firstSeen(pool: number, position: number): number {
    const { window } = this.pools[pool].pool;
    return window === null ? 0 : Math.max(0, Math.floor((position - window + 1) / PAGE_SLOTS));
  }

  /**
   * How many blocks of a prefix are read packed: those without a recent page and all before them, and those that are
   * packed and old enough. least: at least this many. null: an unpacked block precedes one that exists only packed.
   */
  packedOf({ tokens, blocks }: Pick<Beginning, "tokens" | "blocks">, least = 0): number | null {
    const { recent } = this;
    if (!recent) return 0;
    const isPacked = (block: Node, index: number) =>
      index < recent.firstPages ||
      block.pages.every((page, pool) => {
        const isSeen = pool !== recent.pool && index >= this.firstSeen(pool, tokens);
        return !isSeen || page?.isPacked !== false;
      });
    const first = blocks.findIndex((block, i) => i >= least && !isPacked(block, i));
    const all = first < 0 ? blocks.length : first;
    const isMissing = ({ pages }: Node, index: number) => index >= recent.firstPages && !pages[recent.pool];
    const needed = Math.max(least, 1 + blocks.findLastIndex(isMissing));
    if (needed > all) return null;
    return Math.max(needed, Math.min(all, packedBlocks(recent.tokens, tokens)));
  }

  /** Frees the pages of a block that no text uses, and of all blocks after it. */
  forget(block: Node): void {
    for (const next of [...block.children.values(), ...block.open]) this.forget(next);
    block.pages.forEach((page, pool) => {
      if (page) this.pools[pool].forget(page);
      block.pages[pool] = null;
    });
    for (const state of [...block.states.values()]) this.forgetState(state);
    block.prune();
  }

  /** Keeps the states after the first `tokens` ids of a block there, unless it has them. */
  keepState(block: Node, tokens: number, state: Page): void {
    if (state.block || block.states.has(tokens)) return;
    block.states.set(tokens, state);
    state.block = block;
  }

  /** Forgets the contents of the slot. */
  forgetState(state: Page): void {
    const { block } = state;
    if (!block) return;
    block.lose(state);
    this.states!.forget(state);
  }

  /** `to` begins with all ids of `from`, which is about to be removed: its states move there. */
  moveStates(from: Node, to: Node): void {
    for (const [tokens, state] of from.states) {
      if (to.states.has(tokens)) continue;
      from.states.delete(tokens);
      state.block = null;
      this.keepState(to, tokens, state);
    }
  }

  /** Truncates a block that no text uses to its first ids, and forgets everything after it. */
  cut(block: Node, tokens: number): void {
    for (const next of [...block.children.values(), ...block.open]) this.forget(next);
    if (block.isFull) {
      block.parent!.remove(block);
      block.parent!.open.add(block);
    }
    block.ids.length = tokens;
    for (const page of block.pages) if (page) page.isPacked = false;
    for (const [at, state] of [...block.states]) if (at > tokens) this.forgetState(state);
  }

  /** Keeps a prefix's first block and the pages that its last token attends to, by pool, until `release`. */
  pin({ tokens, blocks, last, state }: Beginning): {
    held: { first: number; pages: number[]; head: number[] }[];
    release: () => void;
  } {
    const all = last ? [...blocks, last] : blocks;
    const pinned: { pool: PagePool; page: Page }[] = [];
    const held = this.pools.map((pool, i) => {
      let first = all.length;
      const least =
        i === this.recent?.pool ? this.packedOf({ tokens, blocks })! : this.firstSeen(i, tokens - 1);
      while (first > least && all[first - 1].pages[i]) first--;
      const heads = i === this.recent?.pool ? Math.min(this.recent.firstPages, first) : 0;
      const [head, pages] = [all.slice(0, heads), all.slice(first)].map((some) => {
        const found = some.map((block) => block.pages[i]!);
        for (const page of found) {
          pool.use(page);
          pinned.push({ pool, page });
        }
        return found.map(({ index }) => index);
      });
      return { first, pages, head };
    });
    if (state) {
      this.states!.use(state);
      pinned.push({ pool: this.states!, page: state });
    }
    const release = () => {
      for (const { pool, page } of pinned.splice(0).reverse()) pool.release(page);
    };
    return { held, release };
  }

  /** If a block exists only packed, all blocks before it are read packed, too. */
  #follow(block: Node, index: number, since: number[], unpacked: number[]): void {
    const { pool: recent, firstPages } = this.recent ?? NO_RECENT;
    const isRecent = !this.recent || block.pages[recent] !== null;
    const isFirst = index < firstPages;
    // A long text has thousands of blocks.
    for (let pool = 0; pool < since.length; pool++) {
      if (pool === recent) continue;
      const page = block.pages[pool];
      if (page && !page.isPacked && !isFirst) unpacked[pool] = index + 1;
      if (!page || (isFirst && !isRecent)) since[pool] = index + 1;
      else if (!isRecent) since[pool] = Math.max(since[pool], unpacked[pool]);
    }
  }

  #sees(position: number, since: readonly number[]): boolean {
    for (let pool = 0; pool < since.length; pool++)
      if (since[pool] > this.firstSeen(pool, position)) return false;
    return true;
  }

  /** The blocks after `node` that share some ids and have all their pages, longest match first. */
  #partial(node: Node, ids: readonly number[], at: number, most: number) {
    const found: { block: Node; tokens: number }[] = [];
    const room = most - at;
    for (const block of [...node.open, ...node.children.values()]) {
      if (block.ids[0] !== ids[at] || block.pages.some((page) => !page)) continue;
      const tokens = Math.min(room, block.common(ids, at));
      if (tokens > 0) found.push({ block, tokens });
    }
    // Ties: one that need not be copied.
    const isOwn = ({ block, tokens }: (typeof found)[number]) =>
      block.ids.length === tokens && !block.isUsed ? 1 : 0;
    return found.sort((a, b) => b.tokens - a.tokens || isOwn(b) - isOwn(a));
  }
}

const NO_RECENT = { pool: -1, firstPages: 0 };

/** The best result of a search so far. */
type Found = Pick<Beginning, "tokens" | "last" | "state">;
