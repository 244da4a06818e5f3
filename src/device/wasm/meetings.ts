/**
 * Finds where worker threads must meet at a barrier: before an operation that reads what another has written since the
 * last barrier, or writes what another has read or written. It compares memory regions and knows no operations.
 */

/** Bytes [from, to) of the memory. */
export interface Region {
  readonly from: number;
  readonly to: number;
}

export class Meetings {
  #read: Region[] = [];
  #written: Region[] = [];

  /** Whether a barrier is needed before this operation; counts the operation as started. */
  isNeededBefore(reads: readonly Region[], writes: readonly Region[]): boolean {
    const needed = clash(reads, this.#written) || clash(writes, this.#written) || clash(writes, this.#read);
    if (needed) {
      this.#read = [];
      this.#written = [];
    }
    this.#read.push(...reads);
    this.#written.push(...writes);
    return needed;
  }
}

function clash(a: readonly Region[], b: readonly Region[]): boolean {
  return a.some((x) => b.some((y) => x.from < y.to && y.from < x.to));
}
