/** Files that a command writes at its end: checked before the work, then written. */
import { constants } from "node:fs";
import { access, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { NibbleError } from "../index.ts";

/** Before an hour of measuring, not after it. */
export async function checkTarget(path: string): Promise<void> {
  try {
    await access(dirname(path), constants.W_OK);
    const found = await stat(path).catch(() => null);
    if (found && !found.isFile()) throw new Error("is a folder, not a file");
    if (found) await access(path, constants.W_OK);
  } catch (cause) {
    throw targetError(path, cause);
  }
}

/** Whole or not at all: on a full disk what was there stays. */
export async function writeTarget(path: string, page: string): Promise<void> {
  const whole = `${path}.${process.pid}.part`;
  try {
    await writeFile(whole, page);
    await rename(whole, path);
  } catch (cause) {
    await rm(whole, { force: true }).catch(() => {});
    throw targetError(path, cause);
  }
}

function targetError(path: string, cause: unknown): NibbleError {
  return new NibbleError("io", `cannot write ${path}: ${(cause as Error).message}`, { cause });
}
