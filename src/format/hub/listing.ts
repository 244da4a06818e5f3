/**
 * The files of a repository at one commit with sizes and hashes, from the Hub's API. Everything is checked: paths and
 * hashes become names on our disk, so a server must not choose them freely.
 */
import { FormatError } from "../errors.ts";
import { asObject, describe } from "../json.ts";
import type { HubClient } from "./client.ts";
import { type HubName, isPath } from "./name.ts";

export interface HubFile {
  /** Path in the repository, parts joined by "/". */
  readonly path: string;
  readonly bytes: number;
  /** The expected hash of the content, in hex: SHA-256 for large files, git's SHA-1 of a blob for small ones. */
  readonly hash: string;
}

export interface Listing {
  /** 40 hex digits. */
  readonly commit: string;
  readonly files: readonly HubFile[];
}

/** A thousand entries each. */
const MOST_PAGES = 200;
const COMMIT = /^[0-9a-f]{40}$/;
const HASH = /^([0-9a-f]{40}|[0-9a-f]{64})$/;

/** Requests the commit of the revision, then the files of that commit. */
export async function fetchListing(client: HubClient, name: HubName): Promise<Listing> {
  const api = `api/models/${name.owner}/${name.name}`;
  const info = asObject(await client.json(`${api}/revision/${encodeURIComponent(name.revision)}`), name.text);
  const commit = info.sha;
  if (typeof commit !== "string" || !COMMIT.test(commit))
    throw new FormatError(`${name.text}: the Hub's answer`, `commit ${describe(commit)}`, "40 hex digits");

  const entries: unknown[] = [];
  let next: string | null = `${api}/tree/${commit}?recursive=true`;
  for (let page = 0; next !== null; page++) {
    if (page === MOST_PAGES)
      throw new FormatError(`${name.text}: the Hub's list of files`, `more than ${MOST_PAGES} pages`);
    const { value, following } = await client.page(next);
    if (!Array.isArray(value))
      throw new FormatError(`${name.text}: the Hub's list of files`, describe(value), "an array");
    entries.push(...value);
    next = following;
  }
  return toListing({ commit, files: entries.flatMap((entry) => toFile(entry, name.text)) }, name.text);
}

/** Checks a listing from the Hub or from the disk. */
export function toListing(value: unknown, place: string): Listing {
  const { commit, files } = asObject(value, place);
  if (typeof commit !== "string" || !COMMIT.test(commit))
    throw new FormatError(place, `commit ${describe(commit)}`, "40 hex digits");
  if (!Array.isArray(files)) throw new FormatError(place, `files ${describe(files)}`, "an array");
  const checked = files.map((file) => checkFile(asObject(file, place), place));
  if (new Set(checked.map(({ path }) => path)).size !== checked.length)
    throw new FormatError(place, "a path occurs twice in the list of files");
  return { commit, files: checked };
}

function checkFile({ path, bytes, hash }: Readonly<Record<string, unknown>>, place: string): HubFile {
  if (typeof path !== "string" || !isPath(path))
    throw new FormatError(place, `a file named ${describe(path)}`, "paths inside the repository");
  if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes < 0)
    throw new FormatError(place, `${path} of ${describe(bytes)} bytes`, "its size");
  if (typeof hash !== "string" || !HASH.test(hash))
    throw new FormatError(place, `${path} with the hash ${describe(hash)}`, "SHA-256 or SHA-1 in hex");
  return { path, bytes, hash };
}

/** An entry of the API's tree; none for a folder, or for names that not every file system accepts. */
function toFile(entry: unknown, place: string): { path: unknown; bytes: unknown; hash: unknown }[] {
  const { type, path, size, oid, lfs } = asObject(entry, `${place}: the Hub's list of files`);
  if (type !== "file") return [];
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no model has a file of such a name
  if (typeof path === "string" && isPath(path) && /[\\:*?"<>|\x00-\x1f\x7f]/.test(path)) return [];
  if (lfs === undefined || lfs === null) return [{ path, bytes: size, hash: oid }];
  const large = asObject(lfs, `${place}: ${describe(path)}`);
  return [{ path, bytes: large.size, hash: large.oid }];
}
