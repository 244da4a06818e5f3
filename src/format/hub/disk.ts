/** Writing to the cache folder: small files as a whole, free space, and the system's errors as one line (Node only). */
import { randomBytes } from "node:crypto";
import { rename, rm, statfs, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { NibbleError } from "../errors.ts";
import { makeFolder } from "../make-folder.ts";

/** A name in the folder of `path` that no other process uses. */
export function besideName(path: string): string {
  return `${path}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
}

/** Writes a small file atomically and creates its folder. */
export async function writeWhole(path: string, content: string): Promise<void> {
  const made = besideName(path);
  try {
    makeFolder(dirname(path));
    await writeFile(made, content);
    await rename(made, path);
  } catch (cause) {
    await rm(made, { force: true }).catch(() => {});
    throw diskError(path, cause);
  }
}

/** Free bytes for us on the disk of the folder; null if the system does not report them. */
export async function freeBytes(folder: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch {
    return null;
  }
}

/** A message for a failed write, with the way out. */
export function diskError(path: string, cause: unknown): NibbleError {
  if (cause instanceof NibbleError) return cause;
  const { code, message } = cause as NodeJS.ErrnoException;
  const reasons: Readonly<Record<string, string | undefined>> = {
    ENOSPC: "the disk is full. Downloaded data is kept: free some space and pull again to resume",
    EDQUOT: "your disk quota is used up. Downloaded data is kept: free some space and pull again to resume",
    EACCES: "no permission to write there. HF_HOME or HF_HUB_CACHE chooses another folder",
    EPERM: "no permission to write there. HF_HOME or HF_HUB_CACHE chooses another folder",
    EROFS: "the file system is read-only. HF_HOME or HF_HUB_CACHE chooses another folder",
    EFBIG:
      "the file system does not support files of this size. HF_HOME or HF_HUB_CACHE chooses another folder",
  };
  return new NibbleError("io", `${path}: ${reasons[code ?? ""] ?? message}`, { cause });
}
