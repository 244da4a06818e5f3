/**
 * The Hub's address, our token and the cache folder: the environment variables of Python's huggingface_hub
 * (github.com/huggingface/huggingface_hub, constants.py), so that both find each other's models (Node only).
 */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { ArgumentError, NibbleError } from "../errors.ts";

export interface HubSettings {
  /** "https://huggingface.co", without a slash at the end. */
  readonly endpoint: string;
  readonly token: string | null;
  /** The folder that contains models--owner--name. */
  readonly cache: string;
  readonly offline: boolean;
  /** Snapshots may link to blobs. */
  readonly symlinks: boolean;
}

/**
 * Given settings take precedence over the environment. Throws ArgumentError for an invalid URL, or a token that cannot
 * be sent in a header.
 */
export async function hubSettings(
  given: Partial<HubSettings> = {},
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<HubSettings> {
  const set = (...names: string[]) => names.map((name) => environment[name]?.trim()).find(Boolean);
  const home = folder(
    set("HF_HOME") ?? join(set("XDG_CACHE_HOME") ?? join(homedir(), ".cache"), "huggingface"),
  );
  return {
    endpoint: checkEndpoint(given.endpoint ?? set("HF_ENDPOINT") ?? "https://huggingface.co"),
    token: checkToken(
      given.token !== undefined
        ? given.token
        : (set("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") ??
            (await tokenFile(folder(set("HF_TOKEN_PATH") ?? join(home, "token"))))),
    ),
    cache: folder(given.cache ?? set("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") ?? join(home, "hub")),
    offline: given.offline ?? (isOn(set("HF_HUB_OFFLINE")) || isOn(set("TRANSFORMERS_OFFLINE"))),
    symlinks: given.symlinks ?? !isOn(set("HF_HUB_DISABLE_SYMLINKS")),
  };
}

function isOn(value: string | undefined): boolean {
  return value !== undefined && ["1", "ON", "YES", "TRUE"].includes(value.toUpperCase());
}

function folder(path: string): string {
  return resolve(path.replace(/^~(?=$|[/\\])/, homedir()));
}

/** The token that `hf auth login` saved; null: none. */
async function tokenFile(path: string): Promise<string | null> {
  try {
    return (await readFile(path, "utf8")).trim() || null;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new NibbleError("io", `${path}: the Hub's token cannot be read: ${message}`, { cause });
  }
}

/** Messages never contain the token itself. */
function checkToken(token: string | null): string | null {
  if (token !== null && !/^[\x21-\x7e]+$/.test(token))
    throw new ArgumentError("HF_TOKEN", "text with spaces or other characters", "the token alone: hf_...");
  return token;
}

function checkEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash)
    throw new ArgumentError("HF_ENDPOINT", JSON.stringify(text), "the http or https URL of a Hub");
  return url.href.replace(/\/+$/, "");
}
