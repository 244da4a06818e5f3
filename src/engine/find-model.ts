/**
 * A MODEL argument -> a path on this disk (Node only): a file or folder as given, a model that ships with the package,
 * or one on the Hub, which is downloaded first unless it is here. Owns these names; what lies at the path is opened
 * elsewhere.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Checkpoint } from "../format/checkpoint.ts";
import { ArgumentError } from "../format/errors.ts";
import type { PullProgress } from "../format/hub/downloads.ts";
import { isHubName } from "../format/hub/name.ts";
import { pull } from "../format/hub/pull.ts";
import { openHubModel } from "../format/hub/remote.ts";
import { openCheckpoint } from "../format/open.ts";

export interface FindOptions {
  /** Never ask the Hub: what was downloaded before, or an error. Default: HF_HUB_OFFLINE. */
  offline?: boolean;
  /** Called while a model comes from the Hub. */
  onDownload?: (progress: PullProgress) => void;
  signal?: AbortSignal;
}

/** Models that ship with the package, by the name that stands for them. */
const BUNDLED: Readonly<Record<string, string>> = {
  needle: "../../models/needle-14m/needle-14m-Q8_0.gguf",
};

/** Throws ArgumentError for what is no name, and what `pull` throws. */
export async function findModel(name: string, options: FindOptions = {}): Promise<string> {
  if (typeof name !== "string" || name === "")
    throw new ArgumentError("model", name, "a path, a bundled name, or hf:owner/name");
  if (isHubName(name)) {
    const { offline, onDownload, signal } = options;
    return (await pull(name, { offline, onProgress: onDownload, signal })).path;
  }
  return Object.hasOwn(BUNDLED, name) && !existsSync(name)
    ? fileURLToPath(new URL(BUNDLED[name], import.meta.url))
    : name;
}

/**
 * Opens a MODEL for a look at its header: one on the Hub is read there, by ranges, and not downloaded. `path`: as found
 * on this disk, null for the Hub's; `bytes`: of the Hub's files, null for others.
 */
export async function openToLook(
  name: string,
  options: Pick<FindOptions, "offline" | "signal"> = {},
): Promise<{ checkpoint: Checkpoint; path: string | null; bytes: number | null }> {
  if (typeof name === "string" && isHubName(name)) return openHubModel(name, options);
  const path = await findModel(name, options);
  return { checkpoint: await openCheckpoint(path), path, bytes: null };
}
