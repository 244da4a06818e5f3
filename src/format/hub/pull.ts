/**
 * `hf:owner/name` -> a path that opens: what is there is used, what is missing is downloaded. Owns the order: nothing
 * counts before it is whole and checked, and the revision points to a commit only when its files are there. What was
 * downloaded once is used without asking the Hub; `refresh` asks.
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

/** What is not given comes from the environment, as for Python's huggingface_hub: HF_TOKEN, HF_HOME, HF_ENDPOINT ... */
export interface PullOptions
  extends Partial<HubSettings>,
    Pick<HubClientOptions, "signal" | "stallMs" | "attempts" | "backoffMs"> {
  /** Ask the Hub whether the revision has moved on. Default: what was downloaded is used. */
  readonly refresh?: boolean;
  /** Requests for one file at a time. Default 4. */
  readonly connections?: number;
  /** Of one request. Default 16 MiB: long against a round trip, short enough that all connections end together. */
  readonly rangeBytes?: number;
  readonly onProgress?: (progress: PullProgress) => void;
}

/** What `pull` brought: where the files lie, and of which commit they are. */
export interface Pulled {
  /** Opens the model: a GGUF file (the first part of a split one), or a folder. */
  readonly path: string;
  readonly commit: string;
  /** Paths in the repository, with their sizes. */
  readonly files: readonly Sized[];
  readonly bytes: number;
  /** None of it had to be downloaded. */
  readonly cached: boolean;
}

interface Sized {
  readonly path: string;
  readonly bytes: number;
}

/**
 * Makes sure that the model is on this disk. ArgumentError: no name, or no such quantization. NibbleError "io":
 * unreachable, no access, no room, or offline and not there. FormatError: wrong bytes. AbortedError. What came before
 * an error or a kill is kept, and the next call goes on from there.
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
  // The index first: it names the other files, whose bytes belong to the total.
  const hadIndex = picked.index === null || (await downloads.fetch([picked.index]));
  const all = [...picked.files, ...(await shardsOf(name, cache, commit, picked, files))];
  const hadAll = await downloads.fetch(all);
  await cache.keepListing(listing);
  await cache.setCommit(name.revision, commit);
  return toPulled(cache, commit, all, picked.opens, hadIndex && hadAll);
}

/** What is on the Hub and not, or not known to be, all here. */
export interface Missing {
  readonly name: HubName;
  readonly settings: HubSettings;
  readonly cache: RepoCache;
  readonly client: HubClient;
  readonly listing: Listing;
  readonly picked: Picked<HubFile>;
}

/** The model on this disk, or what the Hub says of it. Downloads nothing. */
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
      waysOut.push("With --offline or HF_HUB_OFFLINE=1 what was downloaded before is used");
    throw new NibbleError("io", [error.message, ...waysOut].join(". "), { cause: error });
  }
}

/** All that the name stands for, when it is there and we know what that is; else null. */
async function findWhole(name: HubName, cache: RepoCache, listing: Listing): Promise<Pulled | null> {
  const { commit, files } = listing;
  const picked = pickFiles(name, files);
  for (const file of picked.files) if (!(await cache.has(commit, file))) return null;
  const shards = await shardsOf(name, cache, commit, picked, files);
  for (const file of shards) if (!(await cache.has(commit, file))) return null;
  return toPulled(cache, commit, [...picked.files, ...shards], picked.opens, true);
}

/** Without the Hub: by what it listed once, or by what Python has put there. */
async function findOffline(name: HubName, cache: RepoCache): Promise<Pulled> {
  const commit = await cache.commitOf(name.revision);
  const files = commit === null ? [] : await cache.filesOf(commit);
  if (commit === null || files.length === 0) {
    const wayOut = "Download it without --offline and HF_HUB_OFFLINE";
    throw new NibbleError(
      "io",
      `${name.text} is not in ${cache.folder}, and offline is asked for. ${wayOut}`,
    );
  }
  const kept = await cache.listing(commit);
  const found = kept && (await findWhole(name, cache, kept));
  if (found) return found;
  const picked = pickFiles(name, files);
  const shards = await shardsOf(name, cache, commit, picked, files);
  return toPulled(cache, commit, [...picked.files, ...shards], picked.opens, true);
}

/** What the index of a safetensors folder names, once the index is there. */
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
