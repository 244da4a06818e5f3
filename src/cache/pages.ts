/**
 * The pages of one pool, or the slots of recurrent states, which are managed alike. A page is free, used by one or more
 * texts, or idle: no text uses it, but it still holds a known prefix, until a page is needed and it is the longest idle
 * one. The page's node knows its content (beginnings.ts).
 */
import type { Pool } from "../device/contract.ts";
import type { Page } from "./node.ts";

export class PagePool {
  /** By number. */
  readonly all: readonly Page[];
  readonly #free: Page[];
  /** Longest idle first. */
  readonly #idle = new Set<Page>();

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
  }

  get free(): number {
    return this.#free.length;
  }

  get idle(): number {
    return this.#idle.size;
  }

  /** How many pages `take` can still return. */
  get available(): number {
    return this.#free.length + this.#idle.size;
  }

  /** A page for one user; the former content of an idle one is forgotten. null: all are in use. */
  take(): Page | null {
    let page = this.#free.pop();
    if (!page) {
      const oldest = this.#oldest();
      if (!oldest) return null;
      oldest.block?.lose(oldest);
      this.#idle.delete(oldest);
      page = oldest;
    }
    page.users = 1;
    page.isPacked = false;
    return page;
  }

  /** The next one to take, found without looking at all of them: there may be thousands. */
  #oldest(): Page | undefined {
    for (const page of this.#idle) if (this.prefers(page)) return page;
    const [oldest] = this.#idle;
    return oldest;
  }

  /** Adds a user. */
  use(page: Page): void {
    if (page.users++ === 0) this.#idle.delete(page);
  }

  /** Removes a user. Without any it is idle if its content is known, else free. */
  release(page: Page): void {
    if (--page.users > 0) return;
    if (page.block) this.#idle.add(page);
    else this.#free.push(page);
  }

  /** Forgets its content. */
  forget(page: Page): void {
    page.block = null;
    if (page.users === 0 && this.#idle.delete(page)) this.#free.push(page);
  }
}
