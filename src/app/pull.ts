/**
 * `nibble pull`, and the line that every command shows while a model comes from the Hub. The path goes to stdout, for
 * scripts; what people read goes to stderr when that is a terminal.
 */
import { isHubName, type Pulled, type PullProgress, pull } from "../index.ts";
import { bytes } from "../plot/numbers.ts";
import { write } from "./interrupt.ts";
import { type Progress, progress } from "./progress.ts";
import { printable } from "./terminal.ts";

export interface PullCommand {
  offline?: boolean;
  connections?: number;
  json?: boolean;
}

export async function printPull(model: string, command: PullCommand, signal: AbortSignal): Promise<void> {
  const { offline, connections, json } = command;
  const line = downloadLine();
  const name = isHubName(model) ? model : `hf:${model}`;
  const found = await pull(name, {
    ...{ offline, connections, signal, refresh: true },
    onProgress: line.show,
  }).finally(line.clear);
  if (process.stderr.isTTY) process.stderr.write(`${printable(summary(name, found))}\n`);
  await write(json ? `${JSON.stringify({ model: name, ...found })}\n` : `${found.path}\n`, signal);
}

function summary(model: string, { files, bytes: total, commit, cached }: Pulled): string {
  const what = files.length === 1 ? files[0].path : `${files.length} files`;
  return `${model}: ${what}, ${bytes(total)}, commit ${commit.slice(0, 8)}${cached ? ", was here already" : ""}`;
}

/** The time over which speed is averaged: longer than short stalls, shorter than a long download. */
const WINDOW_MS = 10_000;

/** A line for `onDownload`. */
export function downloadLine(): { show(found: PullProgress): void; clear(): void } {
  const speed = rateOver(WINDOW_MS);
  let text = "";
  let state = "";
  let line: Progress | null = null;
  return {
    show(found) {
      const { bytes: done, totalBytes, holder } = found;
      const label = holder === undefined ? found.state : `waiting for ${holder}`;
      if (label !== state) {
        line?.clear();
        state = label;
        line = progress(label, () => text);
        speed.reset();
      }
      text = describe(done, totalBytes, found.state === "waiting" ? null : speed.after(done));
      line?.show(done, totalBytes);
    },
    clear: () => line?.clear(),
  };
}

/** "1.2 GiB of 4.6 GiB at 48.3 MiB/s, 1:12 left". */
export function describe(done: number, total: number, perSecond: number | null): string {
  const amount = `${bytes(done)} of ${bytes(total)}`;
  if (perSecond === null || perSecond < 1) return amount;
  return `${amount} at ${bytes(Math.round(perSecond))}/s, ${clock((total - done) / perSecond)} left`;
}

/** "0:09", "12:40", "1:02:03". */
function clock(seconds: number): string {
  const whole = Math.ceil(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (count: number) => String(count).padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** Bytes a second over the last `windowMs`; null until there is enough data. */
function rateOver(windowMs: number) {
  let seen: { at: number; done: number }[] = [];
  return {
    reset() {
      seen = [];
    },
    after(done: number): number | null {
      const at = performance.now();
      // A few times a second are enough to look back to.
      if (seen.length < 2 || at - seen[seen.length - 1].at > windowMs / 50) seen.push({ at, done });
      while (seen.length > 2 && at - seen[0].at > windowMs) seen.shift();
      const ms = at - seen[0].at;
      return ms > 500 ? ((done - seen[0].done) / ms) * 1000 : null;
    },
  };
}
