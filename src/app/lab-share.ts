/** `nibble lab export` and `import`: labs merge by identity, so a file may come twice and in any order. */
import { FormatError } from "../index.ts";
import { type Entry, fromLines, toLines } from "../lab.ts";
import { readText } from "./input.ts";
import { writeRaw } from "./interrupt.ts";
import { type LabOptions, print, withBook, withKnown } from "./lab-open.ts";

export async function exportLab(
  options: LabOptions & { withoutLosses?: boolean },
  signal: AbortSignal,
): Promise<void> {
  await withKnown(options, signal, async ({ entries }) => {
    const bare = (entry: Entry): Entry =>
      entry.kind === "result" ? { ...entry, losses: "", tops: "" } : entry;
    for (const entry of entries)
      await writeRaw(toLines([options.withoutLosses ? bare(entry) : entry]), signal);
  });
}

/** FormatError for a file without an entry. A last line that was cut is left out, and that is said. */
function entriesOf(text: string, file: string): Entry[] {
  const last = text.slice(text.lastIndexOf("\n") + 1);
  const isWhole = last.trim() === "" || isJson(last);
  if (!isWhole)
    process.stderr.write(
      `nibble: ${file}: the last line is cut; it is left out, what comes before it is taken\n`,
    );
  const entries = fromLines(isWhole ? `${text}\n` : text, file);
  if (entries.length === 0) throw new FormatError(file, "no entry", "what `nibble lab export` prints");
  return entries;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

export async function importLab(file: string, options: LabOptions, signal: AbortSignal): Promise<void> {
  const text = await readText(file, signal);
  const entries = entriesOf(text, file);
  await withBook(options, signal, async (book) => {
    const added = await book.add(entries);
    await print(
      options,
      signal,
      () => [{ entries: entries.length, added }],
      () => [`${added} of ${entries.length} entries were new`],
    );
  });
}
