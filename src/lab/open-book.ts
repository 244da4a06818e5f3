/** Opens a lab's shared memory: a folder on this machine, or a Postgres database that many machines reach. */
import { existsSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { ArgumentError, NibbleError } from "../format/errors.ts";
import { makeFolder } from "../format/make-folder.ts";
import { type Executor, PatientExecutor } from "./executor.ts";
import { FolderExecutor } from "./folder-executor.ts";
import { Journal } from "./journal.ts";
import { takeLabLock } from "./lock.ts";
import { DATABASE, JOURNAL } from "./owner.ts";
import { openPostgres } from "./postgres.ts";
import { Spool } from "./spool.ts";
import { Store } from "./store.ts";
import { StoreBook } from "./store-book.ts";

export interface OpenOptions {
  /** The folder of this machine's part of the lab: of a Postgres lab, only results that cannot be sent. Default: nibble-lab. */
  readonly folder?: string;
  /** Interval of a worker's heartbeat. Default: 10 s. */
  readonly beatMs?: number;
  /** After this long without a heartbeat a worker's experiment goes to another. Default: 60 s. */
  readonly silentMs?: number;
  /** Pause before a failed experiment is tried again; doubled each time. Default: 5 s. */
  readonly retrySeconds?: number;
  /** How long a call waits for an unavailable database. Default: 10 minutes. */
  readonly patienceMs?: number;
  /** Most connections of this process to Postgres. Default: 4. */
  readonly connections?: number;
  /** Stops waiting: 5 s after it a database that is away is an error. */
  readonly signal?: AbortSignal;
}

/** ArgumentError for the URL of something else. */
export function isPostgres(where: string): boolean {
  if (/^\w+:\/\//.test(where) && !/^postgres(ql)?:/.test(where))
    throw new ArgumentError("db", where, "postgres://..., or a folder");
  return /^postgres(ql)?:\/\//.test(where);
}

/** NibbleError, with the folder and the system's reason, where it cannot be made. */
export function makeLabFolder(folder: string): void {
  try {
    makeFolder(folder);
  } catch (cause) {
    throw new NibbleError("io", `the lab's folder ${folder} cannot be made: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** `where`: a folder, whose owner this process becomes or joins; or the URL of a Postgres database. */
export async function openBook(where: string, options: OpenOptions = {}): Promise<StoreBook> {
  const { beatMs = 10_000, silentMs = 60_000, patienceMs = 600_000 } = options;
  const ofStore = { retrySeconds: options.retrySeconds ?? 5 };
  const shared = isPostgres(where);
  const folder = shared ? (options.folder ?? "nibble-lab") : where;
  let inner: Executor;
  if (shared) {
    inner = await openPostgres(where, { connections: options.connections });
    // A wrong address is an error at once, not after ten minutes.
    await inner.run([{ text: "select 1" }]).catch(async (error) => {
      await inner.close();
      throw error;
    });
  } else {
    makeLabFolder(folder);
    inner = new FolderExecutor(folder, async (own, journal) =>
      reconcile(await Store.open(own, ofStore, true), journal),
    );
  }
  const executor = new PatientExecutor(inner, { patienceMs, signal: options.signal });
  try {
    const store = await Store.open(executor, ofStore, shared);
    const spool = new Spool(join(folder, "spool"));
    await spool.empty((entries) => store.add(entries));
    await store.status();
    return new StoreBook(store, executor, spool, { beatMs, silentMs });
  } catch (error) {
    await executor.close();
    throw error;
  }
}

/**
 * After a power cut the database may lack entries of the journal; after a kill, the journal may lack the database's last ones.
 */
async function reconcile(store: Store, journal: Journal): Promise<void> {
  const stored = await store.ids();
  const written = new Set(journal.entries.map(({ id }) => id));
  await store.add(journal.entries.filter(({ id }) => !stored.has(id)));
  if (![...stored].every((id) => written.has(id)))
    await journal.append((await store.entriesSince(null)).entries.filter(({ id }) => !written.has(id)));
}

/**
 * Rebuilds a folder's database from its journal; the old one is kept as `db.old`. LockedError while a process
 * has it open, ArgumentError for a folder without a journal. Returns the number of entries, and where the old one is, if there
 * was one.
 */
export async function rebuildFolder(
  folder: string,
  options: OpenOptions = {},
): Promise<{ entries: number; old: string | null }> {
  if (!existsSync(join(folder, JOURNAL)))
    throw new ArgumentError(
      `the lab in ${folder}`,
      "without a journal",
      "one that `nibble lab run` has filled",
    );
  const lock = await takeLabLock(folder, "journal");
  let isMoved = true;
  const [database, old] = [DATABASE, `${DATABASE}.old`].map((name) => join(folder, name));
  try {
    // A journal that cannot be read is an error before anything is moved.
    await (await Journal.open(join(folder, JOURNAL))).close();
    await rm(old, { recursive: true, force: true });
    await rename(database, old).catch((error) => {
      if (error.code !== "ENOENT") throw error;
      isMoved = false;
    });
  } finally {
    await lock.release();
  }
  const book = await openBook(folder, options);
  try {
    return { entries: (await book.store.ids()).size, old: isMoved ? old : null };
  } finally {
    await book.close();
  }
}
