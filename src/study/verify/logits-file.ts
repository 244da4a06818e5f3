/**
 * Rows of logits in a temporary file (Node only): a study has gigabytes of them if the vocabulary is large. The file is
 * deleted afterwards, even if the process is killed, on systems that allow unlinking an open file.
 */
import { type FileHandle, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NibbleError } from "../../format/errors.ts";
import type { LogitsStore } from "./verify.ts";

export class LogitsFile implements LogitsStore {
  #opened: Promise<{ file: FileHandle; folder: string }> | null = null;
  #rows = 0;
  #bytes = 0;

  async add(logits: Float32Array): Promise<void> {
    this.#bytes = logits.byteLength;
    const bytes = new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength);
    await this.#attempt(async () => {
      this.#opened ??= create();
      const { file } = await this.#opened;
      // A full disk may accept a part of it.
      for (let at = 0; at < bytes.length; ) {
        const position = this.#rows * this.#bytes + at;
        at += (await file.write(bytes, at, bytes.length - at, position)).bytesWritten;
      }
      this.#rows++;
    });
  }

  async get(row: number): Promise<Float32Array> {
    const logits = new Float32Array(this.#bytes / 4);
    const bytes = new Uint8Array(logits.buffer);
    await this.#attempt(async () => {
      const opened = await this.#opened;
      for (let at = 0; at < bytes.length; ) {
        const position = row * this.#bytes + at;
        const found = await opened?.file.read(bytes, at, bytes.length - at, position);
        if (!found?.bytesRead) throw new Error(`row ${row} of ${this.#rows} is not there`);
        at += found.bytesRead;
      }
    });
    return logits;
  }

  async close(): Promise<void> {
    const opened = await this.#opened?.catch(() => null);
    this.#opened = null;
    if (!opened) return;
    await opened.file.close();
    await rm(opened.folder, { recursive: true, force: true });
  }

  async #attempt(part: () => Promise<void>): Promise<void> {
    try {
      await part();
    } catch (cause) {
      const mib = Math.ceil(((this.#rows + 1) * this.#bytes) / 2 ** 20);
      throw new NibbleError(
        "io",
        `the logits over f16 in ${tmpdir()} (${mib} MiB so far): ${(cause as Error).message}. Set TMPDIR to a folder with more room, or ask for fewer positions.`,
        { cause },
      );
    }
  }
}

async function create(): Promise<{ file: FileHandle; folder: string }> {
  const folder = await mkdtemp(join(tmpdir(), "nibble-verify-"));
  try {
    const path = join(folder, "logits");
    const file = await open(path, "wx+", 0o600);
    // Windows keeps the name of an open file; there `close` deletes it.
    await rm(path).catch(() => {});
    return { file, folder };
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}
