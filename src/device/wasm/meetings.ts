/**
 * Where worker threads meet: before an operation that reads what another wrote since they met, or writes what another
 * read or wrote. Owns the comparison of memory regions; knows no operation.
 */

/** Bytes [from, to) of the memory. */
export interface Region {
  readonly from: number;
  readonly to: number;
}

export class Meetings {
  #read: Region[] = [];
  #written: Region[] = [];

  /** Whether all threads have to be done with what came before; counts the operation as begun. */
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
