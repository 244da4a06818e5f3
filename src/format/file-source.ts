/**
 * Files on disk as a Source and a directory as a Folder (Node only). A read either fills `into` completely or rejects,
 * so a file that shrinks while it is read is an error and not an endless loop of empty reads. `into` may be shared
 * memory, which is how weights reach the workers.
 */
import { type FileHandle, open, stat } from "node:fs/promises";
import { join } from "node:path";
import { checkRange } from "./buffer-source.ts";
import { FormatError, NibbleError } from "./errors.ts";
import type { Folder } from "./folder.ts";
import type { Source } from "./source.ts";

/** One system call reads at most 2^31 - 4096 bytes on Linux; a smaller step also keeps a read interruptible. */
const STEP_BYTES = 256 * 1024 * 1024;

/** The part of a file handle that is used. Not Node's own type: programs read these declarations without Node's. */
export interface FileFacts {
  readonly size: number;
  isFile(): boolean;
  isDirectory(): boolean;
}

/**
 * Opens a regular file for ranged reads. Throws NibbleError "io" if it is missing, unreadable or not a regular file.
 */
export async function fileSource(path: string): Promise<Source> {
  // Checked before opening: opening a named pipe would wait for a writer.
  const found = await lookAt(path);
  if (found === null) throw new NibbleError("io", `${path}: no such file`);
  if (!found.isFile()) throw new NibbleError("io", `${path}: not a regular file`);
  const handle = await open(path, "r").catch((cause) => systemError(path, cause));
  const size = found.size;
  return {
    name: path,
    size,
    async read(offset, into) {
      checkRange(path, size, offset, into.length);
      await readWhole(handle, path, offset, into);
    },
    close: () => handle.close(),
  };
}

/** A directory on disk. */
export function fileFolder(path: string): Folder {
  return {
    name: path,
    async open(file) {
      const full = join(path, file);
      return (await lookAt(full)) === null ? null : fileSource(full);
    },
  };
}

/** The file's status, with links followed; null if there is none. Throws NibbleError "io" for any other failure. */
export async function lookAt(path: string): Promise<FileFacts | null> {
  try {
    return await stat(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    return systemError(path, cause);
  }
}

async function readWhole(handle: FileHandle, path: string, offset: number, into: Uint8Array): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const step = Math.min(into.length - done, STEP_BYTES);
    const { bytesRead } = await handle
      .read(into, done, step, offset + done)
      .catch((cause) => systemError(path, cause));
    if (bytesRead === 0) {
      throw new FormatError(path, `the file ends at byte ${offset + done}: it shrank after it was opened`);
    }
    done += bytesRead;
  }
}

function systemError(path: string, cause: unknown): never {
  const { code, message } = cause as NodeJS.ErrnoException;
  throw new NibbleError("io", `${path}: ${code === "EACCES" ? "no permission to read it" : message}`, {
    cause,
  });
}
