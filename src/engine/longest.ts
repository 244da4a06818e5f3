/**
 * Finds the longest context, or the largest cache, that fits. Planning a large model takes a twentieth of a second, so
 * a line through the bytes of two plans is tried first: it is exact if no layer slides.
 */
import { PAGE_SLOTS } from "../device/contract.ts";

export interface Tried {
  readonly fits: boolean;
  /** Total bytes. Only if the search has a limit in bytes. */
  readonly bytes?: number;
}

export interface LongestOptions {
  /** Known to fit; the result if nothing longer does. Default 0. */
  readonly least?: number;
  /** Results are `most`, `least` or a multiple of this. Default: a page. */
  readonly step?: number;
  /** The limit of `bytes`. Default: not known, so the search bisects. */
  readonly limitBytes?: number;
}

/**
 * The largest number of tokens, at most `most`, that fits. `of` is called for few numbers, and must fit up to some
 * number and not beyond.
 */
export function longest(most: number, of: (tokens: number) => Tried, options: LongestOptions = {}): number {
  const { least = 0, step = PAGE_SLOTS, limitBytes = Number.POSITIVE_INFINITY } = options;
  const whole = of(most);
  if (whole.fits) return most;
  let low = Math.floor(least / step);
  let high = Math.ceil(most / step);
  const half = Math.floor((low + high) / 2);
  let next = half;
  if (half > low && whole.bytes !== undefined && Number.isFinite(limitBytes)) {
    const middle = of(half * step);
    const slope = (whole.bytes - middle.bytes!) / (most - half * step);
    next = Math.floor((most - (whole.bytes - limitBytes) / slope) / step);
  }
  let isNeighbour = false;
  while (high - low > 1) {
    const steps = Math.min(high - 1, Math.max(low + 1, next));
    const { fits } = of(steps * step);
    if (fits) low = steps;
    else high = steps;
    // After the line's own estimate its neighbour; if that was not the border either, bisection.
    next = isNeighbour ? Math.floor((low + high) / 2) : steps + (fits ? 1 : -1);
    isNeighbour = true;
  }
  return Math.max(least, low * step);
}
