/**
 * The pages of one pool, or the slots of recurrent states, which come and go alike. A page is free, used by one or more texts, or idle: no text uses it, but it still holds a known
 * beginning, until a page is needed and it is the one idle for longest. Owns these states and their order; a page's block
 * says what it holds (beginnings.ts).
 */
import type { Pool } from "../device/contract.ts";
import type { Page } from "./node.ts";

export class PagePool {
  /** By number. */
  readonly all: readonly Page[];
  readonly #free: Page[];
  /** Longest idle first. */
  readonly #idle = new Set<Page>();

  /** prefers: of idle pages that are needed for others those that are go first. Default: all alike. */
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

  /** Pages that `take` can still give. */
  get available(): number {
    return this.#free.length + this.#idle.size;
  }

  /** A page for one user; what an idle one held is known no more. null: all are in use. */
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

  /** The one to take next, found without looking at all: they may be thousands. */
  #oldest(): Page | undefined {
    for (const page of this.#idle) if (this.prefers(page)) return page;
    const [oldest] = this.#idle;
    return oldest;
  }

  /** One user more. */
  use(page: Page): void {
    if (page.users++ === 0) this.#idle.delete(page);
  }

  /** One user less. Without any it is idle if what it holds is known, else free. */
  release(page: Page): void {
    if (--page.users > 0) return;
    if (page.block) this.#idle.add(page);
    else this.#free.push(page);
  }

  /** What it holds is known no more. */
  forget(page: Page): void {
    page.block = null;
    if (page.users === 0 && this.#idle.delete(page)) this.#free.push(page);
  }
}
