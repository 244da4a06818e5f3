/**
 * Conversations on the disk, and beside each what the model has read of it: read whole, written whole or not at all, and
 * only their user can read them.
 */
import { randomBytes } from "node:crypto";
import { rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { resolve } from "node:path";
import { NibbleError } from "../index.ts";
import { parseConversation, type Saved } from "./conversation.ts";
import { readText } from "./input.ts";

/** FormatError unless it is a conversation, NibbleError "io" when it cannot be read. */
export async function readConversation(path: string, signal: AbortSignal): Promise<Saved> {
  return parseConversation(await readText(path, signal), path);
}

/** What the model has read of a conversation lies beside it. */
export function cachePath(path: string): string {
  return `${path}.kv`;
}

/**
 * Unless `mayReplace`, a file that exists is left alone. NibbleError "io", and nothing half-written is left; what `data`
 * rejects with goes on as it is.
 */
export async function writeWhole(
  path: string,
  data: string | AsyncIterable<Uint8Array>,
  mayReplace: boolean,
): Promise<void> {
  const unfinished = `${path}.${randomBytes(4).toString("hex")}`;
  const ours: string[] = [];
  const claim = async (name: string) => {
    await writeFile(name, "", { mode: 0o600, flag: "wx" });
    ours.push(name);
  };
  try {
    // The name first: who is refused should not wait for a long file.
    if (!mayReplace) await claim(path);
    await claim(unfinished);
    await writeFile(unfinished, data);
    await rename(unfinished, path);
  } catch (cause) {
    for (const name of ours) await rm(name, { force: true });
    if (cause instanceof NibbleError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    const reasons: Record<string, string> = {
      EEXIST: "exists already and is not what this chat has saved or loaded; choose another name",
      ENOENT: "no such folder",
      EISDIR: "is a folder, not a file",
    };
    throw new NibbleError("io", `${path}: ${reasons[code ?? ""] ?? message}`, { cause });
  }
}

/** A path as people type or drop it behind a command: quotes, "\ " and "~/", which no shell has seen. */
export function typedPath(text: string): string {
  const trimmed = text.trim();
  const quoted = /^(["'])(.*)\1$/.exec(trimmed);
  const bare =
    quoted?.[2] ?? (process.platform === "win32" ? trimmed : trimmed.replace(/\\(?=[ '"()\\])/g, ""));
  return bare.startsWith("~/") ? resolve(homedir(), bare.slice(2)) : bare;
}
