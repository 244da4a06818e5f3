/** `nibble lab export` and `import`: labs merge by identity, so a file may come twice and in any order. */
import { type Entry, fromLines, toLines } from "../lab.ts";
import { readText } from "./input.ts";
import { writeRaw } from "./interrupt.ts";
import { type LabOptions, print, withBook, withKnown } from "./lab-open.ts";

export async function exportLab(
  options: LabOptions & { withoutLosses?: boolean },
  signal: AbortSignal,
): Promise<void> {
  await withKnown(options, async ({ entries }) => {
    const bare = (entry: Entry): Entry =>
      entry.kind === "result" ? { ...entry, losses: "", tops: "" } : entry;
    for (const entry of entries)
      await writeRaw(toLines([options.withoutLosses ? bare(entry) : entry]), signal);
  });
}

export async function importLab(file: string, options: LabOptions, signal: AbortSignal): Promise<void> {
  const text = await readText(file, signal);
  // A file that was cut has half a last line, which is none.
  const entries = fromLines(text, file);
  await withBook(options, async (book) => {
    const added = await book.add(entries);
    await print(
      options,
      signal,
      () => [{ entries: entries.length, added }],
      () => [`${added} of ${entries.length} entries were new`],
    );
  });
}
