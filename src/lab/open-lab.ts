/**
 * A lab's memory of either kind: the journal of one process, or a database that many share. A folder in which others work is
 * joined; one that has a database is opened as such.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { LabBook } from "./book.ts";
import { fromLines } from "./journal.ts";
import { JournalBook } from "./journal-book.ts";
import { lookAtLock, takeLabLock } from "./lock.ts";
import { isPostgres, makeLabFolder, type OpenOptions, openBook } from "./open-book.ts";
import { DATABASE, JOURNAL } from "./owner.ts";
import { Snapshot } from "./snapshot.ts";

export interface LabPlace extends OpenOptions {
  /** postgres://..., or a folder with a database. Default: what `folder` has. */
  readonly db?: string;
  /** Whether other processes can join. Default: only if the folder has a database already. */
  readonly shared?: boolean;
}

/** Whether a folder has a journal or a database of a lab. */
export function hasLab(folder: string): boolean {
  return [JOURNAL, DATABASE].some((name) => existsSync(join(folder, name)));
}

/** LockedError where another process works alone. */
export async function openLab(folder: string, place: LabPlace = {}): Promise<LabBook> {
  const { db, shared = false, ...options } = place;
  if (db !== undefined) return openBook(db, { folder, ...options });
  const holder = await lookAtLock(folder);
  if (shared || holder?.mode === "database" || existsSync(join(folder, DATABASE)))
    return openBook(folder, options);
  makeLabFolder(folder);
  const lock = await takeLabLock(folder, "journal");
  try {
    return new LockedBook(await JournalBook.open(join(folder, JOURNAL)), () => lock.release());
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** What a lab knows, without locking it: others may work in it meanwhile. Empty if there is no lab. */
export async function readLab(folder: string, place: LabPlace = {}): Promise<Snapshot> {
  const { db, ...options } = place;
  if (db !== undefined && isPostgres(db)) {
    const book = await openBook(db, { folder, ...options });
    try {
      return await book.snapshot();
    } finally {
      await book.close();
    }
  }
  // The journal has all that was acknowledged; a partial last line was not.
  const path = join(db ?? folder, JOURNAL);
  const text = await readFile(path, "utf8").catch((error) => {
    if (error.code === "ENOENT") return "";
    throw error;
  });
  return new Snapshot(fromLines(text, path));
}

/** A journal's book that gives back its folder when it is closed. */
class LockedBook implements LabBook {
  readonly #book: JournalBook;
  readonly #release: () => Promise<void>;

  constructor(book: JournalBook, release: () => Promise<void>) {
    this.#book = book;
    this.#release = release;
  }

  add: LabBook["add"] = (entries) => this.#book.add(entries);
  claim: LabBook["claim"] = (worker, can) => this.#book.claim(worker, can);
  record: LabBook["record"] = (claim, entry) => this.#book.record(claim, entry);
  release: LabBook["release"] = (claim) => this.#book.release(claim);
  snapshot: LabBook["snapshot"] = () => this.#book.snapshot();
  room: LabBook["room"] = (study) => this.#book.room(study);

  async close(): Promise<void> {
    try {
      await this.#book.close();
    } finally {
      await this.#release();
    }
  }
}
