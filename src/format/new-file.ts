/**
 * Writes a file that appears complete or not at all (Node only): it is written under another name in its folder and
 * renamed when it is on the disk. Free space is checked first. An error or an abort leaves nothing behind.
 */
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { NibbleError } from "./errors.ts";
import { lookAt } from "./file-source.ts";
import { besideName, freeBytes } from "./hub/disk.ts";

/** Appends bytes; the buffer may be reused when the promise resolves. */
export type Append = (bytes: Uint8Array) => Promise<void>;

/**
 * Writes the file `path` of `bytes` bytes through `fill`. Throws NibbleError "io" if it exists, its folder does not, or
 * space or permission is missing. Errors of `fill` are passed on.
 */
export async function writeNewFile(
  path: string,
  bytes: number,
  fill: (append: Append) => Promise<void>,
): Promise<void> {
  await checkNewFile(path);
  const folder = dirname(path);
  const free = await freeBytes(folder);
  if (free !== null && free < bytes)
    throw new NibbleError("io", `${path} takes ${bytes} bytes; free on its disk: ${free}`);
  const made = besideName(path);
  try {
    const handle = await open(made, "wx").catch((cause) => writeError(path, cause));
    try {
      await fill(async (part) => {
        for (let done = 0; done < part.length; ) {
          const { bytesWritten } = await handle
            .write(part, done, part.length - done)
            .catch((cause) => writeError(path, cause));
          done += bytesWritten;
        }
      });
      await handle.sync().catch((cause) => writeError(path, cause));
    } finally {
      await handle.close();
    }
    await rename(made, path).catch((cause) => writeError(path, cause));
  } catch (error) {
    await rm(made, { force: true }).catch(() => {});
    throw error;
  }
}

/** The checks of `writeNewFile` on a name, for work that takes long before there is anything to write. */
export async function checkNewFile(path: string): Promise<void> {
  if ((await lookAt(path)) !== null)
    throw new NibbleError("io", `${path} exists already; remove it, or give another name`);
  const folder = dirname(path);
  if (!(await lookAt(folder))?.isDirectory())
    throw new NibbleError("io", `${path}: there is no folder ${folder}`);
}

function writeError(path: string, cause: unknown): never {
  const { code, message } = cause as NodeJS.ErrnoException;
  const reasons: Readonly<Record<string, string | undefined>> = {
    ENOSPC: "the disk is full; the partial file was removed",
    EDQUOT: "your disk quota is used up; the partial file was removed",
    EFBIG: "the file system does not support files of this size",
    EACCES: "no permission to write there",
    EPERM: "no permission to write there",
    EROFS: "the file system is read-only",
  };
  throw new NibbleError("io", `${path}: ${reasons[code ?? ""] ?? message}`, { cause });
}
