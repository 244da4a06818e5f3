/** The bytes of a file that are there: sorted ranges [start, end) that neither overlap nor touch. Pure. */
export type Range = readonly [start: number, end: number];

export class Ranges {
  #all: Range[] = [];

  constructor(ranges: Iterable<Range> = []) {
    for (const [start, end] of ranges) this.add(start, end);
  }

  add(start: number, end: number): void {
    if (end <= start) return;
    const before = this.#all.filter((range) => range[1] < start);
    const after = this.#all.filter((range) => range[0] > end);
    const touching = this.#all.slice(before.length, this.#all.length - after.length);
    const joined: Range = [
      Math.min(start, ...touching.map((range) => range[0])),
      Math.max(end, ...touching.map((range) => range[1])),
    ];
    this.#all = [...before, joined, ...after];
  }

  get all(): readonly Range[] {
    return this.#all;
  }

  get bytes(): number {
    return this.#all.reduce((sum, [start, end]) => sum + end - start, 0);
  }

  /** The end of the range that starts at 0. */
  get prefix(): number {
    const first = this.#all[0];
    return first?.[0] === 0 ? first[1] : 0;
  }

  /** The missing ranges of a file of `bytes` bytes, each at most `rangeBytes` long. */
  missing(bytes: number, rangeBytes = Number.POSITIVE_INFINITY): Range[] {
    const found: Range[] = [];
    let at = 0;
    for (const [start, end] of [...this.#all, [bytes, bytes] as const]) {
      for (; at < start; at = Math.min(at + rangeBytes, start))
        found.push([at, Math.min(at + rangeBytes, start)]);
      at = Math.max(at, end);
    }
    return found;
  }
}
