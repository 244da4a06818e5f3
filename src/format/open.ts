/**
 * Opens a checkpoint of any kind by its path (Node only). The kind is detected from the content, not from the name; for
 * other content the error says what to do.
 */
import { readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Checkpoint } from "./checkpoint.ts";
import { ggufCheckpoint, safetensorsCheckpoint } from "./checkpoints.ts";
import { FormatError, NibbleError, UnsupportedError } from "./errors.ts";
import { fileFolder, fileSource, lookAt } from "./file-source.ts";
import type { Source } from "./source.ts";

const KNOWN = "a GGUF file, or a folder with config.json and safetensors";

/**
 * Opens a GGUF file (any part of a split one) or a safetensors folder; only headers are read. Throws NibbleError "io"
 * if it is missing or unreadable, FormatError if it is damaged, UnsupportedError if its kind cannot be read.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const found = await lookAt(path);
  if (found === null) throw new NibbleError("io", `${path}: no such file or folder`);
  if (found.isDirectory()) {
    await refuseOtherFolders(path);
    return safetensorsCheckpoint(fileFolder(path));
  }
  const source = await fileSource(path);
  try {
    await refuseOtherFiles(source);
  } catch (error) {
    await source.close();
    throw error;
  }
  return ggufCheckpoint(source, fileFolder(dirname(path)));
}

/** A folder of GGUF files is a likely mistake: the error names them. */
async function refuseOtherFolders(path: string): Promise<void> {
  if ((await lookAt(join(path, "config.json"))) !== null) return;
  const files = await readdir(path).catch(() => []);
  const ggufs = files.filter((file) => file.endsWith(".gguf")).sort();
  if (ggufs.length === 0) throw new FormatError(path, "a folder without config.json", KNOWN);
  const shown = ggufs.slice(0, 5).join(", ");
  throw new FormatError(path, "a folder of GGUF files", `the path of one of them: ${shown}`);
}

/** Checks the first bytes of a file that should be GGUF. */
async function refuseOtherFiles(source: Source): Promise<void> {
  const { name: path, size } = source;
  const bytes = new Uint8Array(Math.min(size, 24));
  await source.read(0, bytes);
  const start = String.fromCharCode(...bytes);
  if (start.startsWith("GGUF")) return;

  if (size === 0) throw new FormatError(path, "an empty file", KNOWN);
  if (start.startsWith("version https://git-lfs")) {
    throw new FormatError(path, "a git-lfs pointer instead of the file", "the file itself: run git lfs pull");
  }
  // A zip archive, or a bare pickle: byte 0x80 and its protocol version.
  const pickle = start.startsWith("PK\x03\x04") || (bytes[0] === 0x80 && bytes[1] >= 2 && bytes[1] <= 5);
  if (pickle) {
    throw new UnsupportedError(`${path}: a PyTorch pickle`, "Convert the model to safetensors or GGUF.");
  }
  if (/^(lmgg|fmgg|tjgg|algg)/.test(start)) {
    throw new UnsupportedError(
      `${path}: a GGML file from before GGUF`,
      "Convert it with a current llama.cpp.",
    );
  }
  if (/\.(safetensors|json)$/.test(path)) {
    throw new FormatError(path, "one file of a safetensors folder", `the folder's path: ${dirname(path)}`);
  }
  const printable = start.slice(0, 8).replace(/[^ -~]/g, ".");
  throw new FormatError(path, `${basename(path)} starts with ${JSON.stringify(printable)}`, KNOWN);
}
