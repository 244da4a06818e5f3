/**
 * A node of the prefix tree (beginnings.ts), and a page of a pool (pages.ts), which refer to each other: a node has up
 * to 32 ids and a page of each pool; a page has the node whose tokens it holds.
 */
import { PAGE_SLOTS } from "../device/contract.ts";

export interface Page {
  /** Its number in the pool. */
  readonly index: number;
  /** Texts that use it. */
  users: number;
  /** The node whose tokens it holds; null: none. */
  block: Node | null;
  /** In a graph with packed caches: its content was packed, and can be read. */
  isPacked: boolean;
}

const units = new Uint16Array(2 * PAGE_SLOTS);

/**
 * All of a block's ids as a string, 32 bits each. 2,000 blocks take 0.6 ms, `join` 2.6 (Node 20.20, a loaded EPYC,
 * 2026-11-28).
 */
export function keyOf(ids: readonly number[], block: number): string {
  const first = block * PAGE_SLOTS;
  for (let i = 0; i < PAGE_SLOTS; i++) {
    units[2 * i] = ids[first + i];
    units[2 * i + 1] = ids[first + i] >>> 16;
  }
  return String.fromCharCode.apply(null, units as unknown as number[]);
}

/** The lookup key of a text's block. */
export type BlockKey = (block: number) => string;

/** Up to PAGE_SLOTS ids after those of its parent. */
export class Node {
  readonly ids: number[] = [];
  /** By pool; null: given back, or never there. */
  readonly pages: (Page | null)[];
  /** By number of its ids: slots with the states after them. */
  readonly states = new Map<number, Page>();
  /** Full blocks that follow, by keyOf. */
  readonly children = new Map<string, Node>();
  /** Of these, the last one that was found: in a long text nearly always the next one to find. */
  #found: Node | null = null;
  /** Others that follow; those of running texts still grow. */
  readonly open = new Set<Node>();

  constructor(
    readonly parent: Node | null,
    pools: number,
  ) {
    this.pages = new Array(pools).fill(null);
  }

  get isFull(): boolean {
    return this.ids.length === PAGE_SLOTS;
  }

  /** It is among its parent's full blocks. */
  #isListed = false;

  add(child: Node, key: string): void {
    this.children.set(key, child);
    child.#isListed = true;
  }

  /** The block that follows with ids of a text; its key is asked for only if it is not the last one found. */
  next(ids: readonly number[], block: number, key: BlockKey): Node | null {
    if (this.#found?.common(ids, block * PAGE_SLOTS) === PAGE_SLOTS) return this.#found;
    const child = this.children.get(key(block)) ?? null;
    if (child) this.#found = child;
    return child;
  }

  /** A full block that follows is about to be cut, or to leave the tree. false: it does not follow. */
  remove(child: Node): boolean {
    if (this.#found === child) this.#found = null;
    if (!child.#isListed) return false;
    child.#isListed = false;
    return this.children.delete(keyOf(child.ids, 0));
  }

  /** Whether some text uses one of its pages. */
  get isUsed(): boolean {
    return this.pages.some((page) => page !== null && page.users > 0);
  }

  /** How many of its ids equal those from `at` on. */
  common(ids: readonly number[], at: number): number {
    const own = this.ids;
    const length = own.length;
    let count = 0;
    while (count < length && own[count] === ids[at + count]) count++;
    return count;
  }

  /** A page, or a slot with states, was given to another text. */
  lose(page: Page): void {
    page.block = null;
    const pool = this.pages.indexOf(page);
    if (pool >= 0) this.pages[pool] = null;
    for (const [tokens, state] of this.states) if (state === page) this.states.delete(tokens);
    this.prune();
  }

  /** The last states within its first `most` ids. */
  lastState(most: number): { tokens: number; state: Page } | null {
    const tokens = Math.max(0, ...[...this.states.keys()].filter((at) => at <= most));
    return tokens > 0 ? { tokens, state: this.states.get(tokens)! } : null;
  }

  /** Removes the node from the tree if nothing of it is left, and then its parents likewise. */
  prune(): void {
    const { parent } = this;
    if (!parent || this.children.size > 0 || this.open.size > 0) return;
    if (this.states.size > 0 || this.pages.some((page) => page)) return;
    if (!parent.open.delete(this) && !parent.remove(this)) return;
    parent.prune();
  }
}
