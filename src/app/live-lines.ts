/**
 * Lines at the end of a terminal, redrawn in place: results so far, while a command runs. Nothing is written unless stderr is a
 * terminal. A caller that writes something else clears them first.
 */
import { printable } from "./terminal.ts";

export interface LiveLines {
  /** false: `show` writes nothing. */
  readonly isShown: boolean;
  show(lines: readonly string[]): void;
  /** Removes the lines. */
  clear(): void;
}

type Terminal = Pick<NodeJS.WriteStream, "isTTY" | "columns" | "rows"> & {
  write(text: string): boolean;
};

export function liveLines(terminal: Terminal = process.stderr): LiveLines {
  if (!terminal.isTTY) return { isShown: false, show() {}, clear() {} };
  let shown = 0;
  const clear = () => {
    if (shown > 0) terminal.write(`\x1b[${shown}A\r\x1b[J`);
    shown = 0;
  };
  return {
    isShown: true,
    show(lines) {
      // A line that wraps, or one above the screen, could not be removed.
      const width = (terminal.columns || 80) - 1;
      const some = lines.slice(0, Math.max(1, (terminal.rows || 24) - 2));
      clear();
      terminal.write(some.map((line) => `${printable(line).slice(0, width)}\n`).join(""));
      shown = some.length;
    },
    clear,
  };
}
