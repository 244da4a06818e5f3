/**
 * The lab's record (Node only): entries as JSON lines in a file that only grows. What `append` resolves for is on the disk
 * (fsync); a partial last line, which a killed process leaves, is cut off when the file is opened again. One process appends;
 * locking is up to the caller.
 */
import { type FileHandle, open, readFile } from "node:fs/promises";
import { FormatError, NibbleError } from "../format/errors.ts";
import { checkEntry } from "./check-entry.ts";
import { canonical, entryId, jsonOf } from "./spec.ts";
import type { Entry } from "./types.ts";

/** Entries as the journal and exports have them. */
export function toLines(entries: readonly Entry[]): string {
  return entries.map((entry) => `${canonical(jsonOf(entry))}\n`).join("");
}

/**
 * The entries of a journal's text. FormatError, with the number of the line, for one that is no entry, or whose id is not that of
 * its content. What comes after the last line's end is left out: `bytes` are those of whole lines.
 */
export function fromLines(text: string, place: string): Entry[] {
  const lines = text.slice(0, text.lastIndexOf("\n") + 1).split("\n");
  return lines.flatMap((line, i) => (line === "" ? [] : [parse(line, `${place}, line ${i + 1}`)]));
}

function parse(line: string, place: string): Entry {
  let found: unknown;
  try {
    found = JSON.parse(line);
  } catch (cause) {
    throw new FormatError(place, "no JSON", "an entry a line", { cause });
  }
  const entry = checkEntry(found, place);
  // The ids of models and texts are digests of contents that are not, or not completely, in the entry.
  if (entry.kind === "model" || entry.kind === "text") return entry;
  let id: string;
  try {
    id = entryId(entry);
  } catch (cause) {
    throw new FormatError(place, (cause as Error).message, `fields of a ${entry.kind}`, { cause });
  }
  if (id !== entry.id) throw new FormatError(place, `id ${entry.id}`, `${id}, which its content has`);
  return entry;
}

export class Journal {
  readonly #file: FileHandle;
  #last: Promise<void> = Promise.resolve();
  #failed: Error | null = null;

  private constructor(
    readonly path: string,
    file: FileHandle,
    /** What was there when it was opened. */
    readonly entries: readonly Entry[],
  ) {
    this.#file = file;
  }

  static async open(path: string): Promise<Journal> {
    const file = await open(path, "a+");
    try {
      const bytes = await readFile(path);
      const whole = bytes.lastIndexOf(10) + 1;
      const entries = fromLines(bytes.subarray(0, whole).toString("utf8"), path);
      if (whole < bytes.length) {
        await file.truncate(whole);
        await file.sync();
      }
      return new Journal(path, file, entries);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** In the order of calls; resolves when they are on the disk. After an error every later call fails: lines may be torn. */
  append(entries: readonly Entry[]): Promise<void> {
    const text = toLines(entries);
    this.#last = this.#last.then(async () => {
      if (this.#failed) throw this.#failed;
      try {
        await this.#file.appendFile(text);
        await this.#file.sync();
      } catch (cause) {
        this.#failed = new NibbleError("io", `${this.path}: ${(cause as Error).message}`, { cause });
        throw this.#failed;
      }
    });
    const done = this.#last;
    // The next call sees `#failed`; the caller of this one gets the error.
    this.#last = done.catch(() => {});
    return done;
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#file.close();
  }
}
