/**
 * Results that could not be recorded: one file each, complete or absent, until the database is back. Recording twice does
 * no harm, so any process may empty it.
 */
import { open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { makeFolder } from "../format/make-folder.ts";
import { fromLines, toLines } from "./journal.ts";
import type { Entry } from "./types.ts";

export class Spool {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  async keep(entry: Entry): Promise<void> {
    makeFolder(this.folder, 0o700);
    const path = join(this.folder, `${entry.id}.json`);
    const file = await open(`${path}.part`, "w", 0o600);
    try {
      await file.writeFile(toLines([entry]));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.part`, path);
  }

  /** Records all that is kept. Returns the number of entries. */
  async empty(handIn: (entries: Entry[]) => Promise<unknown>): Promise<number> {
    const names = (await readdir(this.folder).catch(() => [])).filter((name) => name.endsWith(".json"));
    for (const name of names) {
      const path = join(this.folder, name);
      await handIn(fromLines(await readFile(path, "utf8"), path));
      await rm(path, { force: true });
    }
    return names.length;
  }
}
