/** Blobs as a Source: files that were chosen or dropped on a page. They are read by ranges, never whole. */
import { FormatError } from "./errors.ts";
import type { Folder } from "./folder.ts";
import { pagedSource } from "./paged-source.ts";
import type { Source } from "./source.ts";

/** `name` is for errors; default: the File's own. */
export function blobSource(blob: Blob, name = blob instanceof File ? blob.name : "a blob"): Source {
  return pagedSource({
    name,
    size: blob.size,
    async read(offset, into) {
      const range = blob.slice(offset, offset + into.length);
      const bytes = await range.arrayBuffer().catch((cause) => {
        // A File is a name and a date; browsers refuse to read on if the file on disk has changed.
        const found = `bytes ${offset} to ${offset + into.length} cannot be read (${(cause as Error).message}): was the file changed or removed after it was chosen?`;
        throw new FormatError(name, found, undefined, { cause });
      });
      into.set(new Uint8Array(bytes));
    },
    async close() {},
  });
}

/** Files that were chosen together: the parts of a split GGUF, or a safetensors folder. */
export function blobFolder(files: Iterable<File>, name = "the chosen files"): Folder {
  const byName = new Map(Array.from(files, (file) => [file.name, file]));
  return {
    name,
    async open(file) {
      const found = byName.get(file);
      return found ? blobSource(found) : null;
    },
  };
}
