/**
 * Downloads one file from the Hub: several connections fill a part file, its hash is computed along the way, and only a
 * file with the hash that the Hub lists gets its name. Completed ranges survive an early end.
 */
import { createHash } from "node:crypto";
import { FormatError, throwIfAborted } from "../errors.ts";
import type { HubFile } from "./listing.ts";
import type { Lock } from "./lock.ts";
import { PartFile, type PartPaths } from "./part.ts";
import type { HubFileReader } from "./reader.ts";

/** Size of one write, and of one step of the hash. */
const STEP_BYTES = 1024 * 1024;

export interface Download {
  readonly reader: HubFileReader;
  readonly file: HubFile;
  /** For errors. */
  readonly thing: string;
  readonly paths: PartPaths;
  /** Its final path. */
  readonly target: string;
  readonly lock: Lock;
  readonly connections: number;
  /** Size of one request. */
  readonly rangeBytes: number;
  readonly signal?: AbortSignal;
  /** Bytes that are there, and how many of them are hashed. */
  readonly onProgress: (bytes: number, hashed: number) => void;
}

/** Throws FormatError if the bytes are wrong, and deletes them. After any other error the next call resumes. */
export async function download(task: Download): Promise<void> {
  const { file, paths, target, lock } = task;
  for (let last = false; ; last = true) {
    const part = await PartFile.open(paths, file.bytes);
    const resumed = part.done.bytes > 0;
    let hash: string;
    try {
      hash = await fill(part, task);
      // A process that lost the lock must not remove the next holder's part file.
      await lock.confirm();
    } catch (error) {
      await part.close();
      throw error;
    }
    if (hash === file.hash) return part.install(target);
    await part.discard();
    // Older data may have been damaged by a crash of the machine; data of this download can only be wrong at its
    // source.
    if (last || !resumed) throw wrongBytes(task, hash);
  }
}

function wrongBytes({ thing, file }: Download, hash: string): FormatError {
  const kind = file.hash.length === 64 ? "SHA-256" : "SHA-1 as git has it";
  return new FormatError(
    thing,
    `the downloaded file has the ${kind} ${hash} and was deleted`,
    `${file.hash}, which the Hub lists`,
  );
}

/** Downloads the missing ranges; returns the hash of the whole. */
async function fill(part: PartFile, task: Download): Promise<string> {
  const { reader, file, thing, lock, connections, rangeBytes, signal, onProgress } = task;
  throwIfAborted(signal, `downloading ${thing}`);
  const controller = new AbortController();
  /** For readers that wait for more bytes on disk. */
  let wake = () => {};
  const stop = () => {
    controller.abort();
    wake();
  };
  signal?.addEventListener("abort", stop);
  let arrived = part.done.bytes;
  let hashed = 0;
  const report = () => onProgress(arrived, hashed);

  const ranges = part.done.missing(file.bytes, rangeBytes);
  const connect = async () => {
    const buffer = new Uint8Array(STEP_BYTES);
    for (let range = ranges.shift(); range; range = ranges.shift()) {
      let [at, end] = range;
      let held = 0;
      const flush = async () => {
        if (held === 0) return;
        await lock.check();
        await part.write(at, buffer.subarray(0, held));
        at += held;
        held = 0;
        wake();
      };
      try {
        await reader.read(
          at,
          end,
          async (_, bytes) => {
            for (let taken = 0; taken < bytes.length; ) {
              const more = bytes.subarray(taken, taken + STEP_BYTES - held);
              buffer.set(more, held);
              held += more.length;
              taken += more.length;
              if (held === STEP_BYTES) await flush();
            }
            arrived += bytes.length;
            report();
          },
          controller.signal,
        );
        await flush();
      } catch (error) {
        // Received data is saved; if that fails, the first error still explains why.
        await flush().catch(() => {});
        throw error;
      }
    }
  };

  const follow = async () => {
    const hash = startHash(file);
    const buffer = new Uint8Array(STEP_BYTES);
    while (hashed < file.bytes) {
      if (controller.signal.aborted) return "";
      const ready = Math.min(part.done.prefix, hashed + STEP_BYTES);
      if (ready === hashed) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      const step = buffer.subarray(0, ready - hashed);
      await part.read(hashed, step);
      hash.update(step);
      hashed = ready;
      report();
    }
    return hash.digest("hex");
  };

  report();
  /** The first error is reported; the others follow from it. */
  let first: { error: unknown } | null = null;
  const failed = (error: unknown) => {
    first ??= { error };
    stop();
  };
  const connected = Array.from({ length: Math.max(1, Math.min(connections, ranges.length)) }, connect);
  try {
    // All of them end before the part file is closed.
    const followed = follow().catch(failed);
    await Promise.all(connected.map((work) => work.catch(failed)));
    const hash = await followed;
    throwIfAborted(signal, `downloading ${thing}`);
    if (first !== null) throw (first as { error: unknown }).error;
    return hash ?? "";
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

function startHash({ hash, bytes }: HubFile) {
  return hash.length === 64 ? createHash("sha256") : createHash("sha1").update(`blob ${bytes}\0`);
}
