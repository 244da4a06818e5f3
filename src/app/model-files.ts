/**
 * MODEL arguments of a server with several models -> the models, with their names for clients: a folder without a
 * model's own config.json stands for all models in it. Opens no file.
 */
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { ArgumentError, inspect, isHubName } from "../index.ts";
import type { ModelSource } from "./api/on-demand.ts";

/** Folders of folders: LM Studio's are owner/model/file. */
const DEEPEST = 3;
const PART = /-(\d{5})-of-\d{5}(?=\.gguf$)/i;

/** The model's name for clients: without folder and ending, without "hf:". */
export function modelId(name: string): string {
  if (name.startsWith("hf:")) return name.slice("hf:".length);
  return basename(name).replace(/\.gguf$/i, "") || name;
}

/** Whether the argument is a folder of models, not a model. */
export async function isModelFolder(path: string): Promise<boolean> {
  if (isHubName(path) || !(await lookAt(path))?.isDirectory()) return false;
  return !(await lookAt(join(path, "config.json")));
}

/**
 * In the order of the arguments, and in a folder by path. download: returns the path of a model on the Hub; it is downloaded at
 * once, so that no load waits for it. ArgumentError: a folder without a model, or one name for two models.
 */
export async function modelSources(
  models: readonly string[],
  aliases: readonly string[],
  download: (name: string) => Promise<string>,
): Promise<ModelSource[]> {
  const found: ModelSource[] = [];
  const taken = new Set<string>();
  for (const model of models) {
    const isFolder = await isModelFolder(model);
    const paths = isFolder ? await modelsIn(model) : [model];
    if (paths.length === 0)
      throw new ArgumentError(
        "model",
        model,
        "a model, or a folder with GGUF files or safetensors folders in it",
      );
    for (const path of paths) {
      const within = isFolder ? relative(model, path).replaceAll("\\", "/") : path;
      const whole = path.replace(PART, "");
      const longer = within.replace(PART, "").replace(/\.gguf$/i, "");
      const id = [modelId(whole), longer].find((name) => !taken.has(name));
      if (id === undefined) throw new ArgumentError("model", path, "each model once");
      for (const name of [id, longer, within]) taken.add(name);
      const source = isHubName(path) ? await download(path) : path;
      // A wrong name is reported now, not to the first client.
      if (!(await lookAt(source))) await inspect(source);
      found.push({ names: [id, longer, within, path], source, ...(await lookAtModel(source)) });
    }
  }
  return withAliases(found, aliases);
}

/** "NAME=MODEL", the model by any of its names. */
function withAliases(sources: readonly ModelSource[], aliases: readonly string[]): ModelSource[] {
  const pairs = aliases.map((alias) => {
    const [, name, of] = /^([^=]+)=(.+)$/.exec(alias) ?? [];
    const source = sources.find(({ names }) => names.includes(of));
    if (source) return { name, source };
    const ids = sources.map(({ names }) => names[0]).join(", ");
    throw new ArgumentError("alias", alias, `NAME=MODEL where there are several; models: ${ids}`);
  });
  return sources.map((source) => {
    const [id, ...others] = source.names;
    const more = pairs.filter((pair) => pair.source === source).map(({ name }) => name);
    return { ...source, names: [id, ...others, ...more] };
  });
}

/** GGUF files, split ones by their first part, and folders with config.json and safetensors. */
async function modelsIn(folder: string, depth = DEEPEST): Promise<string[]> {
  const entries = await readdir(folder);
  const isOwn = entries.includes("config.json") && entries.some((name) => name.endsWith(".safetensors"));
  if (isOwn) return [folder];
  const found: string[] = [];
  for (const name of entries.sort()) {
    const path = join(folder, name);
    if (name.startsWith(".")) continue;
    const isFile = (await lookAt(path))?.isFile() ?? false;
    if (isFile && isModelFile(name)) found.push(path);
    else if (!isFile && depth > 1) found.push(...(await modelsIn(path, depth - 1).catch(() => [])));
  }
  return found;
}

/** Projectors for pictures, importance matrices and the like are not models. */
const OTHER = /(^|[-._])(mmproj|imatrix|lora|adapter|vae)([-._]|$)/i;

function isModelFile(name: string): boolean {
  const isLaterPart = Number(PART.exec(name)?.[1] ?? 1) > 1;
  return /\.gguf$/i.test(name) && !isLaterPart && !OTHER.test(name);
}

async function lookAtModel(path: string): Promise<{ created: number; fileBytes: number | null }> {
  const found = await lookAt(path);
  if (!found) return { created: Math.floor(Date.now() / 1000), fileBytes: null };
  const folder = found.isDirectory() ? path : dirname(path);
  const whole = basename(path).replace(PART, "");
  const counts = (name: string) =>
    found.isDirectory() ? name.endsWith(".safetensors") : name.replace(PART, "") === whole;
  const names = (await readdir(folder)).filter(counts);
  const sizes = await Promise.all(names.map(async (name) => (await lookAt(join(folder, name)))?.size ?? 0));
  return {
    created: Math.floor(found.mtimeMs / 1000),
    fileBytes: sizes.reduce((sum, size) => sum + size, 0),
  };
}

const lookAt = (path: string) => stat(path).catch(() => null);
