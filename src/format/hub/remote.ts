/**
 * Opens a model of the Hub for inspection or planning: from this disk if it is here, otherwise remotely by ranges,
 * which reads a few MB of a 40 GB model. Models that are to be run are downloaded instead.
 */
import { bufferSource } from "../buffer-source.ts";
import type { Checkpoint } from "../checkpoint.ts";
import { ggufCheckpoint, safetensorsCheckpoint } from "../checkpoints.ts";
import { FormatError } from "../errors.ts";
import type { Folder } from "../folder.ts";
import { httpSource } from "../http-source.ts";
import { openCheckpoint } from "../open.ts";
import { sumBytes } from "./downloads.ts";
import { lookUp, type Missing, type PullOptions } from "./pull.ts";
import { HubFileReader, type Sink } from "./reader.ts";

export interface HubModel {
  readonly checkpoint: Checkpoint;
  /** The path on this disk; null: it was opened on the Hub. */
  readonly path: string | null;
  /** The size of the files of weights. */
  readonly bytes: number;
}

/** Throws what `pull` throws, except for wrong bytes, which only a complete download can detect. */
export async function openHubModel(text: string, options: PullOptions = {}): Promise<HubModel> {
  const { found, missing } = await lookUp(text, options);
  if (found) {
    const checkpoint = await openCheckpoint(found.path);
    return { checkpoint, path: found.path, bytes: weightBytes(found.files) };
  }
  const { picked, listing } = missing;
  const shards = picked.index === null ? [] : listing.files.filter(({ path }) => SHARD.test(path));
  return {
    checkpoint: await openRemote(missing, options),
    path: null,
    bytes: weightBytes([...picked.files, ...shards]),
  };
}

/** Files up to this size are read at once: not every server of small files supports ranges. */
const WHOLE_BYTES = 64 * 1024 * 1024;
/** Shards are known by their names in the listing; the index is not read for a sum of sizes. */
const SHARD = /^model-\d{5}-of-\d{5}\.safetensors$/;

function weightBytes(files: readonly { readonly path: string; readonly bytes: number }[]): number {
  return sumBytes(files.filter(({ path }) => /\.(gguf|safetensors)$/i.test(path)));
}

async function openRemote(missing: Missing, options: PullOptions): Promise<Checkpoint> {
  const { picked } = missing;
  if (picked.opens === "") return safetensorsCheckpoint(hubFolder(missing, "", options));
  const [, under, file] = /^(.*\/)?([^/]+)$/.exec(picked.opens) ?? [];
  const folder = hubFolder(missing, under ?? "", options);
  const source = await folder.open(file);
  if (source === null)
    throw new FormatError(missing.name.text, `${picked.opens} is not in its list of files`);
  return ggufCheckpoint(source, folder);
}

/** The repository's files under a path: "" or one that ends with "/". Files that are not listed are not requested. */
function hubFolder(missing: Missing, under: string, options: PullOptions): Folder {
  const { name, settings, client, listing } = missing;
  const { token, endpoint } = settings;
  const { signal, stallMs, attempts, backoffMs } = options;
  // fetch removes the header when it is redirected to another origin.
  const headers = token === null ? undefined : { authorization: `Bearer ${token}` };
  return {
    name: name.text,
    async open(plain) {
      const found = listing.files.find(({ path }) => path === under + plain);
      if (!found) return null;
      const { path, bytes } = found;
      const parts = [name.owner, name.name, "resolve", listing.commit, ...path.split("/")];
      const url = `${endpoint}/${parts.map(encodeURIComponent).join("/")}`;
      if (bytes > WHOLE_BYTES || /\.(gguf|safetensors)$/i.test(path))
        return httpSource(url, { headers, signal, stallMs, attempts, backoffMs });
      const whole = new Uint8Array(bytes);
      const reader = new HubFileReader(client, listing.commit, found);
      const take: Sink = async (offset, more) => whole.set(more, offset);
      await reader.read(0, bytes, take, signal ?? new AbortController().signal);
      return bufferSource(`${name.text}/${path}`, whole);
    },
  };
}
