/**
 * Conversations on the disk, each with its cache: read whole, written whole or not at all,
 * readable by their user only.
 */
import { link, lstat, readdir, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { NibbleError } from "../index.ts";
import { parseConversation, type Saved } from "./conversation.ts";
import { readText } from "./input.ts";

/** FormatError unless it is a conversation, NibbleError "io" when it cannot be read. */
export async function readConversation(path: string, signal: AbortSignal): Promise<Saved> {
  return parseConversation(await readText(path, signal), path);
}

/** The cache of a conversation is in its folder. */
export function cachePath(path: string): string {
  return `${path}.kv`;
}

/**
 * Unless `mayReplace`, a file that exists is left alone; an empty one counts as none. NibbleError "io", and no
 * partial file is left; errors of `data` are passed on.
 */
export async function writeWhole(
  path: string,
  data: string | AsyncIterable<Uint8Array>,
  mayReplace: boolean,
): Promise<void> {
  const unfinished = `${path}.${process.pid}${UNFINISHED}`;
  try {
    // The name first: a refusal should not come after a long file.
    if (!mayReplace) await checkFree(path);
    await removeUnfinished(path);
    await writeFile(unfinished, "", { mode: 0o600, flag: "wx" });
    await writeFile(unfinished, data);
    await (mayReplace ? rename(unfinished, path) : place(unfinished, path));
  } catch (cause) {
    await rm(unfinished, { force: true }).catch(() => {});
    if (cause instanceof NibbleError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new NibbleError("io", `${path}: ${REASONS[code ?? ""] ?? message}`, { cause });
  }
}

const UNFINISHED = ".unfinished";

const REASONS: Readonly<Record<string, string>> = {
  EEXIST: "exists already and is not what this chat has saved or loaded; choose another name",
  ENOENT: "no such folder",
  EISDIR: "is a folder, not a file",
  ENOSPC: "the disk is full; nothing was written",
  EDQUOT: "your disk quota is used up; nothing was written",
  EROFS: "the file system is read-only",
  EACCES: "no permission to write there",
};

/** Throws as the system does for a name that is taken. */
async function checkFree(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found === null || (found.isFile() && found.size === 0)) return;
  const code = found.isDirectory() ? "EISDIR" : "EEXIST";
  throw Object.assign(new Error(code), { code });
}

/** A link fails where another process has put a file meanwhile; a move, for file systems without links, would not. */
async function place(unfinished: string, path: string): Promise<void> {
  try {
    await link(unfinished, path);
    await rm(unfinished);
  } catch {
    await checkFree(path);
    await rename(unfinished, path);
  }
}

/** Files of processes that were killed while they wrote this file, found by their names. */
async function removeUnfinished(path: string): Promise<void> {
  const start = `${basename(path)}.`;
  for (const name of await readdir(dirname(path))) {
    if (!name.startsWith(start) || !name.endsWith(UNFINISHED)) continue;
    const pid = Number(name.slice(start.length, -UNFINISHED.length));
    if (Number.isSafeInteger(pid) && pid > 0 && (pid === process.pid || !isRunning(pid)))
      await rm(join(dirname(path), name), { force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** A path as people type or drop it after a command: quotes, "\ " and "~/", which no shell has processed. */
export function typedPath(text: string): string {
  const trimmed = text.trim();
  const quoted = /^(["'])(.*)\1$/.exec(trimmed);
  const bare =
    quoted?.[2] ?? (process.platform === "win32" ? trimmed : trimmed.replace(/\\(?=[ '"()\\])/g, ""));
  return bare.startsWith("~/") ? resolve(homedir(), bare.slice(2)) : bare;
}
