/**
 * What was typed in earlier chats, for the arrow keys: a file of lines, oldest first, that only its user can read. Its
 * size is bounded. A history that cannot be read or written does not prevent a chat.
 */
import {
  appendFileSync,
  chmodSync,
  closeSync,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { makeFolder } from "../format/make-folder.ts";
import { printable } from "./terminal.ts";

export const MOST_LINES = 1000;
const MOST_BYTES = 2 ** 18;
/** Pasted pages are not kept for the arrow keys. */
const LONGEST = 2000;

/** XDG_STATE_HOME, or this system's folder for program state. */
export function historyPath(
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
  home = homedir(),
): string {
  // The specification says to ignore a relative one.
  const set = (name: string) => (env[name] && isAbsolute(env[name]) ? env[name] : undefined);
  const system: Partial<Record<NodeJS.Platform, string>> = {
    darwin: join(home, "Library", "Application Support"),
    win32: set("LOCALAPPDATA") ?? join(home, "AppData", "Local"),
  };
  const folder = set("XDG_STATE_HOME") ?? system[platform] ?? join(home, ".local", "state");
  return join(folder, "nibble", "chat-history");
}

export class History {
  readonly #path: string;
  #isUsable = true;

  constructor(path: string) {
    this.#path = path;
  }

  /** Newest first, as readline takes it. Makes the file smaller when it has outgrown its bound. */
  lines(): string[] {
    try {
      const { text, size } = tail(this.#path);
      const all = text.split("\n").filter((line) => line !== "");
      const lines = all.filter(isPlain).slice(-MOST_LINES);
      if (size > MOST_BYTES || all.length > 2 * MOST_LINES) this.#rewrite(lines);
      else chmodSync(this.#path, 0o600);
      return lines.reverse();
    } catch {
      return [];
    }
  }

  /** Appends at once, so that a crash loses nothing and two concurrent chats both keep their lines. */
  add(line: string): void {
    if (!this.#isUsable || line.trim() === "" || line.length > LONGEST || !isPlain(line)) return;
    try {
      makeFolder(dirname(this.#path), 0o700);
      appendFileSync(this.#path, `${line}\n`, { mode: 0o600 });
    } catch {
      this.#isUsable = false;
    }
  }

  #rewrite(lines: readonly string[]): void {
    const unfinished = `${this.#path}.${process.pid}`;
    try {
      writeFileSync(unfinished, lines.map((line) => `${line}\n`).join(""), { mode: 0o600, flag: "wx" });
      renameSync(unfinished, this.#path);
    } finally {
      rmSync(unfinished, { force: true });
    }
  }
}

/** The last MOST_BYTES of a file, from the beginning of a line. */
function tail(path: string): { text: string; size: number } {
  const file = openSync(path, "r");
  try {
    const { size } = fstatSync(file);
    const from = Math.max(0, size - MOST_BYTES);
    const bytes = Buffer.alloc(size - from);
    const read = readSync(file, bytes, 0, bytes.length, from);
    const text = bytes.toString("utf8", 0, read);
    return { text: from === 0 ? text : text.slice(text.indexOf("\n") + 1), size };
  } finally {
    closeSync(file);
  }
}

/** Recalled lines are written to the terminal as they are. */
function isPlain(line: string): boolean {
  return printable(line) === line;
}
