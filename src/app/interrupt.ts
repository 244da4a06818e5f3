/**
 * Everything that ends a command from outside, as one AbortSignal whose reason is the exit code: Ctrl-C, SIGTERM, and
 * a reader of stdout that has left (`nibble run ... | head`), which is not an error. A second signal ends at once.
 */
import { AbortedError } from "../index.ts";
import { forStream } from "./terminal.ts";

export function watchInterrupts(): AbortController {
  const controller = new AbortController();
  const stop = (code: number) => {
    if (controller.signal.aborted) process.exit(code);
    controller.abort(code);
  };
  process.on("SIGINT", () => stop(130));
  process.on("SIGTERM", () => stop(143));
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") process.stderr.write(`nibble: cannot write the output: ${error.message}\n`);
    const code = error.code === "EPIPE" ? 0 : 1;
    controller.abort(code);
    // The command itself may have finished: its last write fails only now.
    process.exitCode = code;
  });
  // No output is left to write to.
  process.stderr.on("error", () => {});
  return controller;
}

/**
 * Writes to stdout, on a terminal without what it would obey, and waits while its reader is slower than we are. Rejects
 * with AbortedError after an abort.
 */
export function write(text: string, signal: AbortSignal): Promise<void> {
  return writeRaw(forStream(process.stdout, text), signal);
}

/** Likewise, with the colours and escape sequences in it. */
export async function writeRaw(text: string, signal: AbortSignal): Promise<void> {
  if (process.stdout.write(text)) return;
  await new Promise<void>((resolve, reject) => {
    const drained = () => {
      signal.removeEventListener("abort", aborted);
      resolve();
    };
    const aborted = () => {
      process.stdout.off("drain", drained);
      reject(new AbortedError("writing"));
    };
    if (signal.aborted) return aborted();
    process.stdout.once("drain", drained);
    signal.addEventListener("abort", aborted, { once: true });
  });
}
