/**
 * A repository in the cache folder, in the layout of Python's huggingface_hub: blobs/HASH, snapshots/COMMIT/PATH as
 * links to them, refs/REVISION. A file with its own name is complete, because it gets the name only then. Our own files
 * have names that Python ignores: parts, journals, locks and listings (Node only).
 */
import { copyFile, lstat, readdir, readFile, readlink, rename, rm, symlink } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { FormatError, NibbleError } from "../errors.ts";
import { lookAt } from "../file-source.ts";
import { parseJson } from "../json.ts";
import { makeFolder } from "../make-folder.ts";
import { besideName, diskError, writeWhole } from "./disk.ts";
import { type HubFile, type Listing, toListing } from "./listing.ts";
import type { HubName } from "./name.ts";
import type { PartPaths } from "./part.ts";

/** Error codes of file systems and accounts without symbolic links. */
const NO_LINKS = ["EPERM", "EACCES", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "UNKNOWN"];

export class RepoCache {
  readonly folder: string;
  readonly #locks: string;
  readonly #symlinks: boolean;

  constructor(cache: string, { owner, name }: HubName, symlinks: boolean) {
    const own = `models--${owner}--${name}`;
    this.folder = join(cache, own);
    this.#locks = join(cache, ".locks", own);
    this.#symlinks = symlinks;
  }

  /** The commit of a revision when it was last downloaded; a commit is its own. */
  async commitOf(revision: string): Promise<string | null> {
    if (/^[0-9a-f]{40}$/.test(revision)) return revision;
    const text = await readFile(join(this.folder, "refs", revision), "utf8").catch(() => "");
    return /^[0-9a-f]{40}$/.test(text.trim()) ? text.trim() : null;
  }

  async setCommit(revision: string, commit: string): Promise<void> {
    if (revision !== commit && (await this.commitOf(revision)) !== commit)
      await writeWhole(join(this.folder, "refs", revision), commit);
  }

  /** The Hub's listing of a commit, which cannot change; null: never requested, or not readable. */
  async listing(commit: string): Promise<Listing | null> {
    const path = this.#listing(commit);
    const text = await readFile(path, "utf8").catch(() => null);
    try {
      const listing = text === null ? null : toListing(parseJson(text, path), path);
      return listing?.commit === commit ? listing : null;
    } catch (error) {
      if (error instanceof FormatError) return null;
      throw error;
    }
  }

  async keepListing(listing: Listing): Promise<void> {
    const path = this.#listing(listing.commit);
    if ((await lookAt(path)) === null) await writeWhole(path, JSON.stringify(listing));
  }

  #listing(commit: string): string {
    return join(this.folder, "nibble", `${commit}.json`);
  }

  /** The folder of a commit. */
  snapshot(commit: string): string {
    return join(this.folder, "snapshots", commit);
  }

  /** The path under which a file of a commit is opened. */
  at(commit: string, path: string): string {
    return join(this.snapshot(commit), ...path.split("/"));
  }

  blob({ hash }: HubFile): string {
    return join(this.folder, "blobs", hash);
  }

  parts(file: HubFile): PartPaths {
    // Not Python's ".incomplete": Python takes the size of such a file for the bytes that it holds.
    return { part: `${this.blob(file)}.nibble-part`, journal: `${this.blob(file)}.nibble-journal` };
  }

  lock({ hash }: HubFile): string {
    return join(this.#locks, `${hash}.nibble.lock`);
  }

  /** Whether the complete file is there; links it if only its blob is. */
  async has(commit: string, file: HubFile): Promise<boolean> {
    const path = this.at(commit, file.path);
    if ((await sizeOf(path)) === file.bytes) {
      const target = await readlink(path).catch(() => null);
      if (target === null || basename(target) === file.hash) return true;
    }
    if ((await sizeOf(this.blob(file))) !== file.bytes) return false;
    await this.link(commit, file, false);
    return true;
  }

  /** Gives the blob its name in the snapshot. `own`: it may be moved there if links are not possible. */
  async link(commit: string, file: HubFile, own: boolean): Promise<void> {
    const path = this.at(commit, file.path);
    const blob = this.blob(file);
    const made = besideName(path);
    try {
      makeFolder(dirname(path));
      if (this.#symlinks && (await linked(relative(dirname(path), blob), made))) await rename(made, path);
      else if (own) await rename(blob, path);
      else {
        await copyFile(blob, made);
        await rename(made, path);
      }
    } catch (cause) {
      await rm(made, { force: true }).catch(() => {});
      throw diskError(path, cause);
    }
  }

  /** The files of a commit that are on disk, without hashes. */
  async filesOf(commit: string): Promise<{ path: string; bytes: number }[]> {
    const folder = this.snapshot(commit);
    const names = await readdir(folder, { recursive: true }).catch(() => []);
    const found = await Promise.all(
      names.map(async (name) => ({
        path: name.replaceAll("\\", "/"),
        bytes: await sizeOf(join(folder, name)),
      })),
    );
    return found.flatMap(({ path, bytes }) => (bytes === null ? [] : [{ path, bytes }]));
  }

  /** Creates the folder for blobs. */
  async prepare(): Promise<void> {
    const blobs = join(this.folder, "blobs");
    try {
      makeFolder(blobs);
      if (!(await lstat(blobs)).isDirectory()) throw new NibbleError("io", `${blobs}: not a folder`);
    } catch (cause) {
      throw diskError(blobs, cause);
    }
  }
}

/** Size of a regular file, links followed; null: there is none. */
async function sizeOf(path: string): Promise<number | null> {
  const found = await lookAt(path);
  return found?.isFile() ? found.size : null;
}

/** False if the file system has no symbolic links. */
async function linked(target: string, path: string): Promise<boolean> {
  try {
    await symlink(target, path);
    return true;
  } catch (error) {
    if (NO_LINKS.includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}
