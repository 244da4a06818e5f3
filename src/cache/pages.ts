/**
 * The pages of one pool, or the slots of recurrent states, which are managed alike. A page is free, used by one or more
 * texts, or idle: no text uses it, but it still holds a known prefix, until a page is needed and it is the longest idle
 * one. The page's node knows its content (beginnings.ts).
 */
import type { Pool } from "../device/contract.ts";
import type { Page } from "./node.ts";

/** Not in the list of idle pages. */
const NOT_IDLE = -1;

export class PagePool {
  /** By number. */
  readonly all: readonly Page[];
  readonly #free: Page[];
  /** By page: the one that has been idle for less long, and for longer. The last entry is both ends of the list. */
  readonly #newer: Int32Array;
  readonly #older: Int32Array;
  #idle = 0;

  /** prefers: idle pages that are reused first. Default: none. */
  constructor(
    readonly pool: Pool,
    readonly prefers: (page: Page) => boolean = () => true,
  ) {
    this.all = Array.from({ length: pool.pages }, (_, index) => ({
      index,
      ...{ users: 0, block: null, isPacked: false },
    }));
    // Taken from the end: low numbers first.
    this.#free = [...this.all].reverse();
    this.#newer = new Int32Array(pool.pages + 1).fill(NOT_IDLE);
    this.#older = this.#newer.slice();
    this.#newer[pool.pages] = this.#older[pool.pages] = pool.pages;
  }

  get free(): number {
    return this.#free.length;
  }

  get idle(): number {
    return this.#idle;
  }

  /** How many pages `take` can still return. */
  get available(): number {
    return this.#free.length + this.#idle;
  }

  /** A page for one user; the former content of an idle one is forgotten. null: all are in use. */
  take(): Page | null {
    let page = this.#free.pop();
    if (!page) {
      const oldest = this.#oldest();
      if (!oldest) return null;
      oldest.block?.lose(oldest);
      this.#wake(oldest);
      page = oldest;
    }
    page.users = 1;
    page.isPacked = false;
    return page;
  }

  /** The next one to take, found without looking at all of them: there may be thousands. */
  #oldest(): Page | undefined {
    const end = this.pool.pages;
    for (let i = this.#newer[end]; i !== end; i = this.#newer[i])
      if (this.prefers(this.all[i])) return this.all[i];
    return this.all[this.#newer[end]];
  }

  #sleep({ index }: Page): void {
    const end = this.pool.pages;
    const newest = this.#older[end];
    this.#newer[newest] = this.#older[end] = index;
    this.#older[index] = newest;
    this.#newer[index] = end;
    this.#idle++;
  }

  /** false: it was not idle. */
  #wake({ index }: Page): boolean {
    const [older, newer] = [this.#older[index], this.#newer[index]];
    if (newer === NOT_IDLE) return false;
    this.#newer[older] = newer;
    this.#older[newer] = older;
    this.#older[index] = this.#newer[index] = NOT_IDLE;
    this.#idle--;
    return true;
  }

  /** Adds a user. */
  use(page: Page): void {
    if (page.users++ === 0) this.#wake(page);
  }

  /** Removes a user. Without any it is idle if its content is known, else free. */
  release(page: Page): void {
    if (--page.users > 0) return;
    if (page.block) this.#sleep(page);
    else this.#free.push(page);
  }

  /** Forgets its content. */
  forget(page: Page): void {
    page.block = null;
    if (page.users === 0 && this.#wake(page)) this.#free.push(page);
  }
}
