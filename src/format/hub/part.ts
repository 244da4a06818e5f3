/**
 * A file that is partly downloaded, and a journal of the bytes that are there. Bytes reach the disk before the journal
 * lists them, so the journal is correct after any crash of the process or the machine. Bytes that were written but not
 * listed are downloaded again.
 */
import { type FileHandle, open, readFile, rename, rm, stat } from "node:fs/promises";
import { parseJson } from "../json.ts";
import { diskError, writeWhole } from "./disk.ts";
import { type Range, Ranges } from "./ranges.ts";

/** The most that a kill can lose, besides what the connections hold. */
const JOURNAL_MS = 2000;

export interface PartPaths {
  readonly part: string;
  readonly journal: string;
}

export class PartFile {
  readonly done: Ranges;
  readonly #paths: PartPaths;
  readonly #bytes: number;
  readonly #file: FileHandle;
  #savedAt = performance.now();
  #saving: Promise<void> | null = null;

  private constructor(paths: PartPaths, bytes: number, file: FileHandle, done: Ranges) {
    this.#paths = paths;
    this.#bytes = bytes;
    this.#file = file;
    this.done = done;
  }

  /** Continues with the existing part, or begins a new one. */
  static async open(paths: PartPaths, bytes: number): Promise<PartFile> {
    try {
      const done = await readJournal(paths, bytes);
      const file = await open(paths.part, done === null ? "w+" : "r+");
      try {
        if (done === null) await file.truncate(bytes);
      } catch (error) {
        await file.close();
        throw error;
      }
      return new PartFile(paths, bytes, file, done ?? new Ranges());
    } catch (cause) {
      throw diskError(paths.part, cause);
    }
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < bytes.length; )
        done += (await this.#file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
      this.done.add(offset, offset + bytes.length);
      if (performance.now() - this.#savedAt > JOURNAL_MS) await this.save();
    } catch (cause) {
      throw diskError(this.#paths.part, cause);
    }
  }

  /** Fills `into` from `offset`; the bytes must be there. */
  async read(offset: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length; ) {
      const { bytesRead } = await this.#file.read(into, done, into.length - done, offset + done);
      if (bytesRead === 0)
        throw diskError(this.#paths.part, new Error("another process has made it shorter"));
      done += bytesRead;
    }
  }

  /** Updates the journal. */
  save(): Promise<void> {
    this.#savedAt = performance.now();
    this.#saving ??= this.#save().finally(() => {
      this.#saving = null;
    });
    return this.#saving;
  }

  async #save(): Promise<void> {
    const done = this.done.all;
    await this.#file.datasync();
    await writeWhole(this.#paths.journal, `${JSON.stringify({ bytes: this.#bytes, done })}\n`);
  }

  /** Closes the part and keeps everything that was written. */
  async close(): Promise<void> {
    try {
      await this.#saving;
      await this.save();
    } catch {
      // The disk is full or gone: the journal stays as it was, which is still correct.
    } finally {
      await this.#file.close();
    }
  }

  /** The file is complete and correct: it gets its name. */
  async install(path: string): Promise<void> {
    try {
      await this.#saving;
      await this.#file.sync();
      await this.#file.close();
      await rename(this.#paths.part, path);
      await rm(this.#paths.journal, { force: true });
    } catch (cause) {
      await this.#file.close().catch(() => {});
      throw diskError(path, cause);
    }
  }

  /** The bytes are wrong: deletes everything. */
  async discard(): Promise<void> {
    await this.#saving?.catch(() => {});
    await this.#file.close();
    await rm(this.#paths.journal, { force: true });
    await rm(this.#paths.part, { force: true });
  }
}

/** The content of a part file; null: there is none that can be continued. */
export async function readJournal({ part, journal }: PartPaths, bytes: number): Promise<Ranges | null> {
  try {
    if ((await stat(part)).size !== bytes) return null;
    const found = parseJson(await readFile(journal, "utf8"), journal) as { bytes?: unknown; done?: unknown };
    if (found.bytes !== bytes || !Array.isArray(found.done) || !found.done.every(isRange(bytes))) return null;
    return new Ranges(found.done);
  } catch {
    return null;
  }
}

function isRange(bytes: number): (value: unknown) => value is Range {
  return (value): value is Range =>
    Array.isArray(value) &&
    value.length === 2 &&
    value.every(Number.isSafeInteger) &&
    0 <= value[0] &&
    value[0] < value[1] &&
    value[1] <= bytes;
}
