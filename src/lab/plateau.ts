/**
 * When a search of one scope (a model, a bin of bits) is over for now: no candidate that is left promises much, and there was no
 * improvement for a while. Both are needed: in simulations "none in five" alone stopped with 67 % excess. A plateau is a
 * decision:
 * it makes experiments that somebody can claim (propose.ts). Pure.
 */

/** How much another draw of the rounding changes log KL. */
const NOISE = 0.1;
const PROMISES = 3;
const DRY = 10;

export class Plateau {
  #poor = 0;
  #best = Number.POSITIVE_INFINITY;
  #since = 0;
  #seen = 0;

  /**
   * best: the smallest log KL of the specs in the scope so far, in the order of measuring; promise: the largest expected
   * improvement of any that is left. true: it is a plateau.
   */
  look(best: number, specs: number, promise: number): boolean {
    // Differences within another draw are no improvement.
    if (best < this.#best - NOISE / 4) {
      this.#best = best;
      this.#since = 0;
    } else this.#since += specs - this.#seen;
    this.#seen = specs;
    this.#poor = promise < NOISE / 4 ? this.#poor + 1 : 0;
    return this.#poor >= PROMISES && this.#since >= DRY;
  }

  /** An improvement was found later. */
  reopen(): void {
    this.#poor = 0;
    this.#since = 0;
  }
}
