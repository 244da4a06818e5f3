/**
 * A forward-only window over the front of a Source, for headers whose length is known only after reading them. It never
 * asks for bytes beyond the end of the file. Reading is synchronous while the bytes are in the window, so a vocabulary
 * of a million strings costs a few awaits: callers do `if (!window.has(n)) await window.load(n, what)` and then take n
 * bytes.
 */
import { FormatError } from "./errors.ts";
import type { Source } from "./source.ts";

/** Windows double from a size that holds a small header to one that keeps HTTP round trips rare. */
const FIRST_BYTES = 256 * 1024;
const LAST_BYTES = 8 * 1024 * 1024;

/** No header may be longer, whatever the file's size: the largest published vocabularies are near 20 MB. */
const HEADER_BYTES = 512 * 1024 * 1024;

export class ByteWindow {
  readonly #source: Source;
  #bytes = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  /** The file offset of the window's first byte, and the reader's position in the window. */
  #base = 0;
  #at = 0;
  #step = FIRST_BYTES;

  constructor(source: Source) {
    this.#source = source;
  }

  /** The file offset of the next byte. */
  get offset(): number {
    return this.#base + this.#at;
  }

  /** Bytes left for the header: every count read from it is checked against this. */
  get left(): number {
    return Math.min(this.#source.size, HEADER_BYTES) - this.offset;
  }

  /** Bytes that can be taken without another read. */
  get loaded(): number {
    return this.#bytes.length - this.#at;
  }

  /** The file and the byte, for error messages. */
  get place(): string {
    return `${this.#source.name} at byte ${this.offset}`;
  }

  has(bytes: number): boolean {
    return this.loaded >= bytes;
  }

  /** Moves the window so that it holds at least `bytes` from here. Throws FormatError if the file has fewer. */
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

  /** The next `bytes`, which must be loaded. The array belongs to the window: copy what must last. */
  take(bytes: number): Uint8Array {
    return this.#bytes.subarray(this.#at, this.#skip(bytes) + bytes);
  }

  u32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }

  /** An unsigned 64-bit integer. Above 2^53 it is the nearest number, which callers can recognise by its size. */
  u64(): number {
    const low = this.u32();
    return this.u32() * 2 ** 32 + low;
  }

  /** The next u64 without advancing; null if it is not loaded. */
  peekU64(): number | null {
    if (!this.has(8)) return null;
    return this.#view.getUint32(this.#at + 4, true) * 2 ** 32 + this.#view.getUint32(this.#at, true);
  }

  /** Reads the next `bytes` as a number with the given reader. */
  number(bytes: number, read: (view: DataView, at: number) => number): number {
    return read(this.#view, this.#skip(bytes));
  }

  #skip(bytes: number): number {
    const at = this.#at;
    this.#at += bytes;
    return at;
  }
}
