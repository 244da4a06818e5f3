/**
 * A checkpoint folder as a set of named files, on disk, over HTTP or chosen in a page; reads its small text files
 * (config.json, tokenizer.json, chat_template.jinja). Names with a path are refused: a shard called "../x" comes from
 * the file, not from the user.
 */
import { FormatError } from "./errors.ts";
import { parseJson } from "./json.ts";
import type { Source } from "./source.ts";

/** Files by name: a folder on disk, at a URL, or chosen by the user. */
export interface Folder {
  /** The folder's name in errors: a path or URL. */
  readonly name: string;
  /** Opens a file of the folder; null if there is none of this name. The caller closes the source. */
  open(file: string): Promise<Source | null>;
}

/** The longest text file that is read: the largest published tokenizer.json is near 35 MB. */
const TEXT_BYTES = 256 * 1024 * 1024;

/** A text file of the folder; null if there is none of this name. Throws FormatError if it is not UTF-8 or too long. */
export async function readText(folder: Folder, file: string): Promise<string | null> {
  const source = await openFile(folder, file);
  if (source === null) return null;
  try {
    if (source.size > TEXT_BYTES) {
      throw new FormatError(source.name, `${source.size} bytes of text`, `${TEXT_BYTES} bytes`);
    }
    const bytes = new Uint8Array(source.size);
    await source.read(0, bytes);
    return decodeUtf8(bytes, source.name);
  } finally {
    await source.close();
  }
}

/** A JSON file of the folder, parsed; undefined if there is none of this name. Throws FormatError if it is not JSON. */
export async function readJson(folder: Folder, file: string): Promise<unknown> {
  const text = await readText(folder, file);
  return text === null ? undefined : parseJson(text, `${folder.name}/${file}`);
}

/** Opens a file whose name may come from a checkpoint; throws FormatError unless it is a plain file name. */
export async function openFile(folder: Folder, file: string): Promise<Source | null> {
  const plain = file !== "" && file !== "." && file !== ".." && !/[/\\:\0]/.test(file);
  if (!plain) throw new FormatError(folder.name, `file name ${JSON.stringify(file)}`, "names without a path");
  return folder.open(file);
}

/** Decodes UTF-8 strictly; drops a leading byte order mark. */
export function decodeUtf8(bytes: Uint8Array, place: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(place, "bytes that are not UTF-8", undefined, { cause });
  }
}
