/**
 * Turns `hf:owner/name` into a path that opens: files on disk are used, missing ones are downloaded. A file counts only
 * once it is complete and checked, and the revision points to a commit only once its files are there. Downloaded models
 * are used without asking the Hub; `refresh` asks.
 */
import { ArgumentError, NibbleError, throwIfAborted } from "../errors.ts";
import { fileFolder } from "../file-source.ts";
import { readJson } from "../folder.ts";
import { asObject } from "../json.ts";
import { RepoCache } from "./cache.ts";
import { HubClient, type HubClientOptions, UnreachableError } from "./client.ts";
import { Downloads, type PullProgress, sumBytes } from "./downloads.ts";
import { fetchListing, type HubFile, type Listing } from "./listing.ts";
import { type HubName, hubName } from "./name.ts";
import { INDEX, type Picked, pickFiles, pickShards } from "./pick.ts";
import { type HubSettings, hubSettings } from "./settings.ts";

/** Defaults come from the environment, as for Python's huggingface_hub: HF_TOKEN, HF_HOME, HF_ENDPOINT ... */
export interface PullOptions
  extends Partial<HubSettings>,
    Pick<HubClientOptions, "signal" | "stallMs" | "attempts" | "backoffMs"> {
  /** Ask the Hub whether the revision has moved. Default: use what was downloaded. */
  readonly refresh?: boolean;
  /** Parallel requests for one file. Default 4. */
  readonly connections?: number;
  /**
   * Size of one request. Default 16 MiB: long compared to a round trip, short enough that all connections end together.
   */
  readonly rangeBytes?: number;
  readonly onProgress?: (progress: PullProgress) => void;
}

/** The result of `pull`: the path of the files, and their commit. */
export interface Pulled {
  /** The path that opens the model: a GGUF file (the first part of a split one), or a folder. */
  readonly path: string;
  readonly commit: string;
  /** Paths in the repository, with their sizes. */
  readonly files: readonly Sized[];
  readonly bytes: number;
  /** Nothing had to be downloaded. */
  readonly cached: boolean;
}

interface Sized {
  readonly path: string;
  readonly bytes: number;
}

/**
 * Makes sure that the model is on this disk. Throws ArgumentError for an invalid name or a missing quantization;
 * NibbleError "io" if the Hub is unreachable, access is refused, there is no space, or it is offline and the model is
 * not there; FormatError for wrong bytes; AbortedError. After an error or a kill, received data is kept and the next
 * call resumes.
 */
export async function pull(text: string, options: PullOptions = {}): Promise<Pulled> {
  const { connections = 4, rangeBytes = 16 * 1024 * 1024, signal, onProgress } = options;
  if (!(Number.isSafeInteger(connections) && connections >= 1 && connections <= 32))
    throw new ArgumentError("connections", connections, "integers 1 to 32");
  if (!(Number.isSafeInteger(rangeBytes) && rangeBytes >= 1024))
    throw new ArgumentError("rangeBytes", rangeBytes, "integers from 1024 on");
  const { found, missing } = await lookUp(text, options);
  if (found) return found;
  const { name, cache, client, listing, picked } = missing;
  const { commit, files } = listing;
  const downloads = new Downloads(name, cache, client, commit, {
    ...{ connections, rangeBytes, signal, onProgress },
  });
  // The index first: it lists the other files, whose sizes belong to the total.
  const hadIndex = picked.index === null || (await downloads.fetch([picked.index]));
  const all = [...picked.files, ...(await shardsOf(name, cache, commit, picked, files))];
  const hadAll = await downloads.fetch(all);
  await cache.keepListing(listing);
  await cache.setCommit(name.revision, commit);
  return toPulled(cache, commit, all, picked.opens, hadIndex && hadAll);
}

/** The model on the Hub, if it is not here or not known to be complete. */
export interface Missing {
  readonly name: HubName;
  readonly settings: HubSettings;
  readonly cache: RepoCache;
  readonly client: HubClient;
  readonly listing: Listing;
  readonly picked: Picked<HubFile>;
}

/** The model on this disk, or the Hub's listing of it. Downloads nothing. */
export async function lookUp(
  text: string,
  options: PullOptions,
): Promise<{ found: Pulled; missing?: never } | { found: null; missing: Missing }> {
  const name = hubName(text);
  const { signal, stallMs, attempts, backoffMs } = options;
  const settings = await hubSettings(options);
  throwIfAborted(signal, `downloading ${text}`);
  const cache = new RepoCache(settings.cache, name, settings.symlinks);
  if (settings.offline) return { found: await findOffline(name, cache) };

  const before = options.refresh ? null : await cache.commitOf(name.revision);
  const kept = before === null ? null : await cache.listing(before);
  const found = kept && (await findWhole(name, cache, kept));
  if (found) return { found };
  const client = new HubClient(name, { ...settings, signal, stallMs, attempts, backoffMs });
  const listing = kept ?? (await askHub(client, name, cache));
  const picked = pickFiles(name, listing.files);
  return { found: null, missing: { name, settings, cache, client, listing, picked } };
}

async function askHub(client: HubClient, name: HubName, cache: RepoCache): Promise<Listing> {
  try {
    return await fetchListing(client, name);
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error;
    const commit = await cache.commitOf(name.revision);
    const waysOut: string[] = [];
    const proxy = ["HTTPS_PROXY", "https_proxy"].find((each) => process.env[each]);
    if (proxy && !process.env.NODE_USE_ENV_PROXY)
      waysOut.push(`${proxy} is set: Node uses it from 22.21 on, with NODE_USE_ENV_PROXY=1`);
    if (commit !== null && (await cache.filesOf(commit)).length > 0)
      waysOut.push("With --offline or HF_HUB_OFFLINE=1, models that were downloaded before are used");
    throw new NibbleError("io", [error.message, ...waysOut].join(". "), { cause: error });
  }
}

/** All files of the model, if they are here and known to be complete; else null. */
async function findWhole(name: HubName, cache: RepoCache, listing: Listing): Promise<Pulled | null> {
  const { commit, files } = listing;
  const picked = pickFiles(name, files);
  for (const file of picked.files) if (!(await cache.has(commit, file))) return null;
  const shards = await shardsOf(name, cache, commit, picked, files);
  for (const file of shards) if (!(await cache.has(commit, file))) return null;
  return toPulled(cache, commit, [...picked.files, ...shards], picked.opens, true);
}

/** Without the Hub: from its earlier listing, or from what Python downloaded. */
async function findOffline(name: HubName, cache: RepoCache): Promise<Pulled> {
  const commit = await cache.commitOf(name.revision);
  const files = commit === null ? [] : await cache.filesOf(commit);
  if (commit === null || files.length === 0) {
    const wayOut = "Download it without --offline and HF_HUB_OFFLINE";
    throw new NibbleError("io", `${name.text} is not in ${cache.folder}, and offline mode is on. ${wayOut}`);
  }
  const kept = await cache.listing(commit);
  const found = kept && (await findWhole(name, cache, kept));
  if (found) return found;
  const picked = pickFiles(name, files);
  const shards = await shardsOf(name, cache, commit, picked, files);
  return toPulled(cache, commit, [...picked.files, ...shards], picked.opens, true);
}

/** The files listed in the index of a safetensors folder, once the index is there. */
async function shardsOf<File extends Sized>(
  name: HubName,
  cache: RepoCache,
  commit: string,
  { index }: Picked<File>,
  files: readonly File[],
): Promise<File[]> {
  if (index === null) return [];
  const place = `${name.text}: ${INDEX}`;
  const json = asObject(await readJson(fileFolder(cache.snapshot(commit)), INDEX), place);
  return pickShards(name, files, asObject(json.weight_map, `${place}: weight_map`));
}

function toPulled(
  cache: RepoCache,
  commit: string,
  files: readonly Sized[],
  opens: string,
  cached: boolean,
): Pulled {
  return {
    path: opens === "" ? cache.snapshot(commit) : cache.at(commit, opens),
    commit,
    files: files.map(({ path, bytes }) => ({ path, bytes })),
    bytes: sumBytes(files),
    cached,
  };
}
