/** A Folder of byte arrays for tests, which also counts its open sources. */
import { bufferSource } from "../../src/format/buffer-source.ts";
import type { Folder } from "../../src/format/folder.ts";
import type { Source } from "../../src/format/source.ts";

export interface MemoryFolder extends Folder {
  /** Sources opened and not closed. */
  opened(): number;
}

export function memoryFolder(files: Record<string, Uint8Array | string>): MemoryFolder {
  let opened = 0;
  return {
    name: "folder",
    async open(file) {
      if (!Object.hasOwn(files, file)) return null;
      const found = files[file];
      const bytes = typeof found === "string" ? new TextEncoder().encode(found) : found;
      opened++;
      const source = bufferSource(`folder/${file}`, bytes);
      return {
        ...source,
        async close() {
          opened--;
        },
      };
    },
    opened: () => opened,
  };
}

/**
 * A source that fails the test when a read asks for more than the file has, and adds up what was read. The file is `bytes`,
 * followed by `tail`, which is not copied.
 */
export function watchedSource(
  name: string,
  bytes: Uint8Array,
  tail: Uint8Array = new Uint8Array(),
): Source & { readonly bytesRead: number } {
  const size = bytes.length + tail.length;
  let bytesRead = 0;
  return {
    ...{ name, size, close: async () => {} },
    get bytesRead() {
      return bytesRead;
    },
    async read(offset, into) {
      // A plain Error, which no reader throws: property tests tell it from a refusal.
      if (offset < 0 || offset + into.length > size) throw new Error(`read beyond the end of ${name}`);
      bytesRead += into.length;
      const front = bytes.subarray(offset, offset + into.length);
      into.set(front);
      const from = offset + front.length - bytes.length;
      into.set(tail.subarray(from, from + into.length - front.length), front.length);
    },
  };
}
