/**
 * Downloads the files of one commit into the cache, in parallel. Checks the free space first, locks each file, and
 * counts bytes over all of them.
 */
import { AbortedError, NibbleError } from "../errors.ts";
import type { RepoCache } from "./cache.ts";
import type { HubClient } from "./client.ts";
import { freeBytes } from "./disk.ts";
import { download } from "./download.ts";
import type { HubFile } from "./listing.ts";
import { takeLock } from "./lock.ts";
import type { HubName } from "./name.ts";
import { readJournal } from "./part.ts";
import { HubFileReader } from "./reader.ts";

/** Progress of a download. */
export interface PullProgress {
  /**
   * "waiting": another process downloads the file. "verifying": it is downloaded, and the rest of it is being hashed.
   */
  readonly state: "downloading" | "waiting" | "verifying";
  /** Its path in the repository. */
  readonly file: string;
  /** Bytes of all files, including those that were there; when verifying, the hashed bytes of this file. */
  readonly bytes: number;
  readonly totalBytes: number;
  /** The process that downloads the awaited file. */
  readonly holder?: string;
}

export interface DownloadsOptions {
  readonly connections: number;
  readonly rangeBytes: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: PullProgress) => void;
}

/** A margin for other writers. */
const SPARE_BYTES = 16 * 1024 * 1024;

export class Downloads {
  readonly #name: HubName;
  readonly #cache: RepoCache;
  readonly #client: HubClient;
  readonly #commit: string;
  readonly #options: DownloadsOptions;
  /** Bytes that are there, by path. */
  readonly #there = new Map<string, number>();
  #totalBytes = 0;

  constructor(name: HubName, cache: RepoCache, client: HubClient, commit: string, options: DownloadsOptions) {
    this.#name = name;
    this.#cache = cache;
    this.#client = client;
    this.#commit = commit;
    this.#options = options;
  }

  /** True if all files were there. */
  async fetch(files: readonly HubFile[]): Promise<boolean> {
    const missing: HubFile[] = [];
    let needed = 0;
    this.#totalBytes = sumBytes(files);
    for (const file of files) {
      const has = await this.#cache.has(this.#commit, file);
      const there = has ? file.bytes : await this.#journalBytes(file);
      this.#there.set(file.path, there);
      needed += file.bytes - there;
      if (!has) missing.push(file);
    }
    if (missing.length === 0) return true;
    await this.#cache.prepare();
    await this.#requireRoom(needed);
    // Files of one range or less are downloaded together, as each takes a round trip; larger ones one by one over all
    // connections.
    const isSmall = ({ bytes }: HubFile) => bytes <= this.#options.rangeBytes;
    const queue = missing.filter(isSmall);
    const several = async () => {
      for (let file = queue.shift(); file; file = queue.shift())
        await this.#fetchFile(file).catch((error) => {
          queue.length = 0;
          throw error;
        });
    };
    await allOrFirstError(Array.from({ length: this.#options.connections }, several));
    for (const file of missing) if (!isSmall(file)) await this.#fetchFile(file);
    return false;
  }

  async #requireRoom(needed: number): Promise<void> {
    const { folder } = this.#cache;
    const free = await freeBytes(folder);
    if (free === null || needed + SPARE_BYTES <= free) return;
    throw new NibbleError(
      "io",
      `${this.#name.text} needs ${inMebibytes(needed)} more on the disk of ${folder}, which has ${inMebibytes(free)} free. HF_HOME or HF_HUB_CACHE chooses another folder`,
    );
  }

  async #fetchFile(file: HubFile): Promise<void> {
    const { signal, connections, rangeBytes, onProgress } = this.#options;
    const thing = `${this.#name.text}: ${file.path}`;
    const lock = await takeLock(this.#cache.lock(file), {
      signal,
      onWait: async (holder) => this.#report(file, "waiting", await this.#journalBytes(file), holder),
    });
    try {
      // The process that held the lock may have downloaded it.
      if (!(await this.#cache.has(this.#commit, file))) {
        await download({
          reader: new HubFileReader(this.#client, this.#commit, file),
          paths: this.#cache.parts(file),
          target: this.#cache.blob(file),
          onProgress: (bytes, hashed) => {
            if (bytes < file.bytes) this.#report(file, "downloading", bytes);
            else onProgress?.({ state: "verifying", file: file.path, bytes: hashed, totalBytes: bytes });
          },
          ...{ file, thing, lock, connections, rangeBytes, signal },
        });
        await this.#cache.link(this.#commit, file, true);
      }
      this.#report(file, "downloading", file.bytes);
    } catch (error) {
      // Failures caused by the abort are not reported.
      throw signal?.aborted && !(error instanceof AbortedError)
        ? new AbortedError(`downloading ${thing}`)
        : error;
    } finally {
      await lock.release();
    }
  }

  async #journalBytes(file: HubFile): Promise<number> {
    return (await readJournal(this.#cache.parts(file), file.bytes))?.bytes ?? 0;
  }

  #report(file: HubFile, state: PullProgress["state"], bytes: number, holder?: string): void {
    this.#there.set(file.path, bytes);
    const done = [...this.#there.values()].reduce((all, more) => all + more, 0);
    const { onProgress } = this.#options;
    onProgress?.({ state, file: file.path, bytes: done, totalBytes: this.#totalBytes, holder });
  }
}

/** Waits for all, so that nothing continues after the call has ended. */
async function allOrFirstError(works: readonly Promise<void>[]): Promise<void> {
  const ended = await Promise.allSettled(works);
  const failed = ended.find((end) => end.status === "rejected");
  if (failed) throw failed.reason;
}

export function sumBytes(files: readonly { readonly bytes: number }[]): number {
  return files.reduce((all, { bytes }) => all + bytes, 0);
}

function inMebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20).toLocaleString("en-US")} MiB`;
}
