/**
 * Turns a MODEL argument into a path on this disk (Node only): a file or folder as given, a model that ships with the
 * package, or one on the Hub, which is downloaded unless it is here.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Checkpoint } from "../format/checkpoint.ts";
import { ArgumentError } from "../format/errors.ts";
import { MissingError } from "../format/http-answer.ts";
import { UnknownError } from "../format/hub/answers.ts";
import type { PullProgress } from "../format/hub/downloads.ts";
import { isHubName } from "../format/hub/name.ts";
import { pull } from "../format/hub/pull.ts";
import { openHubModel } from "../format/hub/remote.ts";
import { openCheckpoint } from "../format/open.ts";
import { nearestModels } from "./catalog.ts";

/** Where a model's files come from, and a callback for their download. */
export interface FindOptions {
  /** Never ask the Hub: use what was downloaded before, or fail. Default: HF_HUB_OFFLINE. */
  offline?: boolean;
  /** Called during a download from the Hub. */
  onDownload?: (progress: PullProgress) => void;
  signal?: AbortSignal;
}

/** Models that ship with the package, by their short names. */
const BUNDLED: Readonly<Record<string, string>> = {
  needle: "../../models/needle-14m/needle-14m-Q8_0.gguf",
};

/** Throws ArgumentError for an invalid name, and what `pull` throws. */
export async function findModel(name: string, options: FindOptions = {}): Promise<string> {
  if (typeof name !== "string" || name === "")
    throw new ArgumentError("model", name, "a path, a bundled name, or hf:owner/name");
  if (isHubName(name)) {
    const { offline, onDownload, signal } = options;
    const pulled = await pull(name, { offline, onProgress: onDownload, signal }).catch((error) => {
      throw withNearest(error, name);
    });
    return pulled.path;
  }
  if (existsSync(name)) return name;
  if (Object.hasOwn(BUNDLED, name)) return fileURLToPath(new URL(BUNDLED[name], import.meta.url));
  // A name without a file extension or a path's beginning is probably not a file.
  if (/^[\w][\w.:/-]*$/.test(name) && !/\.(gguf|safetensors|json|bin)$/i.test(name)) throw unknownModel(name);
  return name;
}

const KINDS = `a GGUF file, a safetensors folder, hf:owner/name, or ${Object.keys(BUNDLED).join(", ")}`;

function unknownModel(name: string): ArgumentError {
  const near = [
    ...nearestModels(name).map((entry) => entry.name),
    ...Object.keys(BUNDLED).filter((own) => isTypo(name, own)),
  ];
  const names = near.length > 0 ? `Nearest known models: ${near.join(", ")}` : "nibble models lists some";
  return new ArgumentError("model", name, `${KINDS}; no file or folder has this name. ${names}`);
}

/**
 * Adds similar known names to the error if the Hub has no model of this name (without a token it then answers 401, as
 * for private ones), or the name is invalid.
 */
function withNearest(error: unknown, name: string): unknown {
  const isUnknown = error instanceof MissingError || error instanceof UnknownError;
  if (!isUnknown && !(error instanceof ArgumentError && error.argument === "model")) return error;
  const near = nearestModels(name).map((entry) => entry.name);
  if (near.length === 0 || near.some((own) => own.split(":")[1] === name.split(/[:@]/)[1])) return error;
  error.message += `. Nearest known models: ${near.join(", ")}`;
  return error;
}

/** Equal except for one letter that is missing, added, wrong or swapped with its neighbour. */
function isTypo(typed: string, name: string): boolean {
  const sorted = (text: string) => [...text.toLowerCase()].sort().join("");
  if (sorted(typed) === sorted(name)) return true;
  const [a, b] = [typed.toLowerCase(), name];
  const same = [...a].findIndex((letter, i) => letter !== b[i]);
  const at = same < 0 ? a.length : same;
  return [
    [1, 0],
    [0, 1],
    [1, 1],
  ].some(([skipA, skipB]) => a.slice(at + skipA) === b.slice(at + skipB));
}

/**
 * Opens a MODEL to read its header: one on the Hub is read by ranges and not downloaded. `path`: on this disk, null for
 * the Hub's; `bytes`: size of the Hub's files, null for others.
 */
export async function openToLook(
  name: string,
  options: Pick<FindOptions, "offline" | "signal"> = {},
): Promise<{ checkpoint: Checkpoint; path: string | null; bytes: number | null }> {
  if (typeof name === "string" && isHubName(name)) return openHubModel(name, options);
  const path = await findModel(name, options);
  return { checkpoint: await openCheckpoint(path), path, bytes: null };
}
