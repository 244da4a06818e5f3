/**
 * Lists and removes the models in the cache folder (Node only). The files that make up one model are found by the same
 * rules as for a download. Models that Python's huggingface_hub downloaded are listed, too; nothing outside the folders
 * of models is touched.
 */
import { readdir, readlink, rm } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { ArgumentError, NibbleError } from "../errors.ts";
import { lookAt } from "../file-source.ts";
import { ggufPartName } from "../gguf.ts";
import { RepoCache } from "./cache.ts";
import { diskError } from "./disk.ts";
import { type HubName, hubName } from "./name.ts";
import { pickFiles } from "./pick.ts";
import { type HubSettings, hubSettings } from "./settings.ts";

/** A model on this disk. */
export interface InstalledModel {
  /** The argument for `load`. */
  readonly name: string;
  /** Opens it. */
  readonly path: string;
  readonly bytes: number;
}

/** By name. Repositories without a model that we can load are left out. */
export async function installedModels(given: Partial<HubSettings> = {}): Promise<InstalledModel[]> {
  const settings = await hubSettings(given);
  const folders = await readdir(settings.cache).catch(() => []);
  const found: InstalledModel[] = [];
  for (const folder of folders.sort()) {
    const name = nameOf(folder);
    if (name) found.push(...(await modelsOf(name, new RepoCache(settings.cache, name, settings.symlinks))));
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** "models--owner--name"; null: another folder. */
function nameOf(folder: string): HubName | null {
  const [, owner, name] = /^models--(.+?)--(.+)$/.exec(folder) ?? [];
  try {
    return owner === undefined ? null : hubName(`hf:${owner}/${name}`);
  } catch (error) {
    if (error instanceof ArgumentError) return null;
    throw error;
  }
}

async function modelsOf(name: HubName, cache: RepoCache): Promise<InstalledModel[]> {
  const found: InstalledModel[] = [];
  for (const { revision, commit } of await revisionsOf(cache)) {
    const files = await cache.filesOf(commit);
    const at = revision === "main" ? "" : `@${revision}`;
    const firsts = files.filter(
      ({ path }) => /\.gguf$/i.test(path) && (ggufPartName(path, 0)?.part ?? 0) === 0,
    );
    for (const { path } of firsts) {
      const parts = pick(name, path, files);
      if (parts) found.push(installed(`${name.text}${at}:${path}`, cache.at(commit, path), parts));
    }
    if (firsts.length > 0 || !files.some(({ path }) => path.endsWith(".safetensors"))) continue;
    if (files.some(({ path }) => path === "config.json"))
      found.push(installed(`${name.text}${at}`, cache.snapshot(commit), files));
  }
  return found;
}

const installed = (name: string, path: string, files: readonly { bytes: number }[]): InstalledModel => ({
  ...{ name, path, bytes: files.reduce((sum, { bytes }) => sum + bytes, 0) },
});

/** All parts of the GGUF at `path`; null: it is not a model, or a part is missing. */
function pick(name: HubName, path: string, files: readonly { path: string; bytes: number }[]) {
  try {
    return pickFiles({ ...name, quant: path }, files).files;
  } catch (error) {
    if (error instanceof NibbleError) return null;
    throw error;
  }
}

/** Names under refs/, each with its commit; a commit with two names counts once. */
async function revisionsOf(cache: RepoCache): Promise<{ revision: string; commit: string }[]> {
  const names = await readdir(join(cache.folder, "refs"), { recursive: true }).catch(() => []);
  const seen = new Set<string>();
  const found: { revision: string; commit: string }[] = [];
  for (const name of names.map((each) => each.replaceAll("\\", "/")).sort((a) => (a === "main" ? -1 : 0))) {
    const commit = await cache.commitOf(name).catch(() => null);
    if (commit === null || seen.has(commit)) continue;
    seen.add(commit);
    found.push({ revision: name, commit });
  }
  return found;
}

/** What `removeModel` deleted. */
export interface Removed {
  readonly paths: readonly string[];
  /** Bytes that were freed. */
  readonly bytes: number;
}

/**
 * Removes a model from the disk: with a quantization or a file only its files, otherwise the whole repository. Throws
 * ArgumentError for a name that is not the Hub's or of which nothing is here, and NibbleError "io" if the system
 * refuses.
 */
export async function removeModel(text: string, given: Partial<HubSettings> = {}): Promise<Removed> {
  const name = hubName(text);
  const settings = await hubSettings(given);
  const cache = new RepoCache(settings.cache, name, settings.symlinks);
  const commit = await cache.commitOf(name.revision);
  const files = commit === null ? [] : await cache.filesOf(commit);
  const all = await blobsOf(cache);
  if (commit === null || (files.length === 0 && all.length === 0))
    throw new ArgumentError("model", text, "a model that is on this disk: nibble models lists them");
  try {
    if (name.quant === null) {
      await rm(cache.folder, { recursive: true });
      return { paths: [cache.folder], bytes: all.reduce((sum, { bytes }) => sum + bytes, 0) };
    }
    const { files: picked } = pickFiles(name, files);
    const paths = picked.map(({ path }) => cache.at(commit, path));
    const targets = await Promise.all(paths.map(targetOf));
    for (const path of paths) await rm(path);
    const used = new Set(await usedBlobs(cache));
    for (const target of targets) if (target !== null && !used.has(target)) await rm(target, { force: true });
    return { paths, bytes: picked.reduce((sum, { bytes }) => sum + bytes, 0) };
  } catch (cause) {
    throw diskError(cache.folder, cause);
  }
}

/** The target of a link in a snapshot; null: it is a file, or points outside its repository. */
async function targetOf(path: string): Promise<string | null> {
  const link = await readlink(path).catch(() => null);
  if (link === null) return null;
  const target = resolve(dirname(path), link);
  return basename(dirname(target)) === "blobs" ? target : null;
}

async function usedBlobs(cache: RepoCache): Promise<string[]> {
  const folder = join(cache.folder, "snapshots");
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const targets = await Promise.all(names.map((name) => targetOf(join(folder, name))));
  return targets.filter((target) => target !== null);
}

/** All regular files under snapshots and blobs. */
async function blobsOf(cache: RepoCache): Promise<{ path: string; bytes: number }[]> {
  const entries = await readdir(cache.folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Promise.all(
    files.map(async (path) => ({
      path: relative(cache.folder, path),
      bytes: (await lookAt(path))?.size ?? 0,
    })),
  );
}
