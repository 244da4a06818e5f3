/** Makes a folder and its parents (Node only). */
import { mkdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

/**
 * One after the other, from the top. Node's own `recursive` never returns if a file system reports ENOENT for every new
 * folder (/proc), and reports ENOENT for a read-only one (https://github.com/nodejs/node/issues/47098). mode: for new
 * folders.
 */
export function makeFolder(path: string, mode?: number, make: typeof mkdirSync = mkdirSync): void {
  const whole = resolve(path);
  if (isFolder(whole)) return;
  const above = dirname(whole);
  if (above !== whole) makeFolder(above, mode, make);
  try {
    make(whole, { mode });
  } catch (cause) {
    // Another process may have made it.
    if (!isFolder(whole)) throw cause;
  }
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
