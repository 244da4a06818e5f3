/**
 * One line of progress on stderr, only when that is a terminal. The line is removed
 * before anything else is written. The cursor is not hidden, so it need not be restored.
 */
import { printable } from "./terminal.ts";

const WIDTH = 24;
const REDRAW_MS = 80;

export interface Progress {
  show(done: number, total: number): void;
  /** Removes the line. */
  clear(): void;
}

/** `describe` gives the text after the bar. */
export function progress(label: string, describe: (done: number, total: number) => string): Progress {
  const { stderr } = process;
  if (!stderr.isTTY) return { show() {}, clear() {} };
  let drawnAt = Number.NEGATIVE_INFINITY;
  return {
    show(done, total) {
      const now = performance.now();
      if (now - drawnAt < REDRAW_MS && done < total) return;
      drawnAt = now;
      const filled = total > 0 ? Math.round((WIDTH * done) / total) : WIDTH;
      const bar = "█".repeat(filled) + "░".repeat(WIDTH - filled);
      const line = printable(`${label} ${bar} ${describe(done, total)}`);
      stderr.write(`\r${line.slice(0, (stderr.columns || 80) - 1)}\x1b[K`);
    },
    clear() {
      if (drawnAt > Number.NEGATIVE_INFINITY) stderr.write("\r\x1b[K");
      drawnAt = Number.NEGATIVE_INFINITY;
    },
  };
}
