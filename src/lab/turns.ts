/**
 * Which study's experiment comes next, where several wait: the study that was served longest ago, so that a grid of a thousand
 * does not keep a search waiting, nor the other way round. Pure.
 */
import type { Queue } from "./store.ts";

/** Claims after which new queues are looked for, although the known ones are not empty. */
const REFRESH = 8;

/** The queues that one kind of worker may take from. */
export class Turns {
  #queues: readonly Queue[] = [];
  readonly #order = new Order();
  #claims = REFRESH;

  know(queues: readonly Queue[]): void {
    this.#queues = queues;
    this.#claims = 0;
  }

  /** Whether it is time to look for new queues. */
  get isOld(): boolean {
    return this.#claims >= REFRESH;
  }

  /** The most demanding first, since few others can serve them; ties in rotation. */
  order(): Queue[] {
    return [...this.#queues].sort(
      (a, b) => b.asks - a.asks || this.#order.of(a.name) - this.#order.of(b.name),
    );
  }

  served(name: string): void {
    this.#claims++;
    this.#order.served(name);
  }
}

/** When each was served last; never served: first. */
export class Order {
  readonly #served = new Map<string, number>();
  #clock = 0;

  of(name: string): number {
    return this.#served.get(name) ?? 0;
  }

  served(name: string): void {
    this.#served.set(name, ++this.#clock);
  }
}
