/** A Source over bytes in memory, for tests and for files that a page was given. */
import { FormatError } from "./errors.ts";
import type { Source } from "./source.ts";

/** Reads from `bytes`, which are not copied first. */
export function bufferSource(name: string, bytes: Uint8Array): Source {
  return {
    name,
    size: bytes.length,
    async read(offset, into) {
      checkRange(name, bytes.length, offset, into.length);
      into.set(bytes.subarray(offset, offset + into.length));
    },
    async close() {},
  };
}

/** Throws FormatError unless [offset, offset + bytes) is inside a source of `size` bytes. */
export function checkRange(name: string, size: number, offset: number, bytes: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && offset + bytes <= size) return;
  throw new FormatError(name, `bytes ${offset} to ${offset + bytes} asked for`, `0 to ${size}`);
}
