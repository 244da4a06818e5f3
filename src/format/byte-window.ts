/**
 * A forward-only look at the front of a Source, for headers whose length is known only by reading them. Owns the
 * window's growth and the promise that nothing is asked for beyond the file's end. Knows no format.
 * One idea: reading is synchronous while the bytes are in the window, so a vocabulary of a million strings costs a
 * few awaits: callers ask `if (!window.has(n)) await window.load(n, what)` and then take n bytes.
 */
import { FormatError } from "./errors.ts";
import type { Source } from "./source.ts";

/** Windows double from a first read that holds a small header to one that makes HTTP round trips rare. */
const FIRST_BYTES = 256 * 1024;
const LAST_BYTES = 8 * 1024 * 1024;

/** No header is longer, whatever the file's size: the largest published vocabularies are near 20 MB. */
const HEADER_BYTES = 512 * 1024 * 1024;

export class ByteWindow {
  readonly #source: Source;
  #bytes = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  /** File offset of the window's first byte, and the reader's place within the window. */
  #base = 0;
  #at = 0;
  #step = FIRST_BYTES;

  constructor(source: Source) {
    this.#source = source;
  }

  /** Where in the file the next byte is. */
  get offset(): number {
    return this.#base + this.#at;
  }

  /** Bytes that the header can still take: what any count read from it has to fit into. */
  get left(): number {
    return Math.min(this.#source.size, HEADER_BYTES) - this.offset;
  }

  /** Bytes that can be taken without another read. */
  get loaded(): number {
    return this.#bytes.length - this.#at;
  }

  /** For error messages: the file and the byte. */
  get place(): string {
    return `${this.#source.name} at byte ${this.offset}`;
  }

  has(bytes: number): boolean {
    return this.loaded >= bytes;
  }

  /** Moves the window so that it holds at least `bytes` from here. FormatError when the file has not that many. */
  async load(bytes: number, what: string): Promise<void> {
    if (bytes > this.left) {
      throw new FormatError(this.place, `${what} needs ${bytes} bytes`, `the ${this.left} that are left`);
    }
    const kept = this.#bytes.subarray(this.#at);
    const next = new Uint8Array(Math.max(bytes, Math.min(this.#step, this.left)));
    next.set(kept.subarray(0, next.length));
    if (next.length > kept.length) {
      await this.#source.read(this.offset + kept.length, next.subarray(kept.length));
    }
    this.#step = Math.min(2 * this.#step, LAST_BYTES);
    this.#base = this.offset;
    this.#at = 0;
    this.#bytes = next;
    this.#view = new DataView(next.buffer);
  }

  /** The next `bytes`, which must be loaded. The array is the window's own: copy what has to last. */
  take(bytes: number): Uint8Array {
    return this.#bytes.subarray(this.#at, this.#skip(bytes) + bytes);
  }

  u32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }

  /** An unsigned 64-bit integer; beyond 2^53 it is the nearest number, which is how such a value is recognised. */
  u64(): number {
    const low = this.u32();
    return this.u32() * 2 ** 32 + low;
  }

  /** The next u64 without moving on; null when it is not loaded. */
  peekU64(): number | null {
    if (!this.has(8)) return null;
    return this.#view.getUint32(this.#at + 4, true) * 2 ** 32 + this.#view.getUint32(this.#at, true);
  }

  /** The next `bytes` as a number, by a reader for one of the types that a format defines. */
  number(bytes: number, read: (view: DataView, at: number) => number): number {
    return read(this.#view, this.#skip(bytes));
  }

  #skip(bytes: number): number {
    const at = this.#at;
    this.#at += bytes;
    return at;
  }
}
