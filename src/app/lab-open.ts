/** What the lab's verbs share: its folder, its methods, and one way to print. */
import { AbortedError, ArgumentError } from "../index.ts";
import {
  AwayError,
  hasLab,
  isPostgres,
  type LabBook,
  loadMethod,
  Methods,
  openLab,
  readLab,
  type Snapshot,
} from "../lab.ts";
import { write } from "./interrupt.ts";

/** The place of a lab. */
export interface Place {
  folder: string;
  /** postgres://..., or a folder: a lab that many processes share. */
  db?: string;
}

export interface LabOptions extends Place {
  method: string[];
  json?: boolean;
}

/** Runs `part` over the lab's memory, held or joined, and closes it in any case. */
export function withBook<T>(
  { folder, db, shared }: Place & { shared?: boolean },
  signal: AbortSignal,
  part: (book: LabBook) => Promise<T>,
): Promise<T> {
  return unlessAway(signal, async () => {
    const book = await openLab(folder, { db, shared, signal });
    try {
      return await part(book);
    } finally {
      await book.close();
    }
  });
}

/** The same for a verb that takes part in a lab and makes none. ArgumentError where there is none, such as for a mistyped folder. */
export function withLab<T>(
  place: Place,
  signal: AbortSignal,
  part: (book: LabBook) => Promise<T>,
): Promise<T> {
  const { folder, db } = place;
  if (!(db !== undefined && isPostgres(db)) && !hasLab(db ?? folder)) throw noLab(place);
  return withBook(place, signal, part);
}

const noLab = ({ folder, db }: Place) =>
  new ArgumentError(`the lab in ${db ?? folder}`, "empty", "one that `nibble lab run` has filled");

/** If the user stops while the database is unreachable, the command stops; that it was unreachable is worth a line. */
async function unlessAway<T>(signal: AbortSignal, part: () => Promise<T>): Promise<T> {
  try {
    return await part();
  } catch (error) {
    if (!signal.aborted || !(error instanceof AwayError)) throw error;
    process.stderr.write(
      "nibble: stopped while the lab's database did not answer; what was running goes to others a minute after it is back\n",
    );
    throw new AbortedError("the lab");
  }
}

/** What the lab knows, while others may work in it. ArgumentError for a lab that knows nothing. */
export async function withKnown<T>(
  { folder, db }: Place,
  signal: AbortSignal,
  part: (known: Snapshot) => Promise<T>,
): Promise<T> {
  const known = await unlessAway(signal, () => readLab(folder, { db, signal }));
  if (known.entries.length === 0) throw noLab({ folder, db });
  return part(known);
}

export async function methodsOf({ method }: LabOptions): Promise<Methods> {
  return new Methods(await Promise.all(method.map(loadMethod)));
}

/** Text, or the same as JSON, one value a line. */
export async function print(
  options: LabOptions,
  signal: AbortSignal,
  json: () => readonly object[],
  text: () => readonly string[],
): Promise<void> {
  const lines = options.json ? json().map((row) => JSON.stringify(row)) : text();
  if (lines.length > 0) await write(`${lines.join("\n")}\n`, signal);
}

/** Rows of cells under heads, as wide as they need; the first column is text, aligned to the left. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [heads, ...rows];
  const widths = heads.map((_, i) => Math.max(...all.map((row) => row[i].length)));
  return all.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join("  ")
      .trimEnd(),
  );
}

export const digits = (x: number) =>
  x === 0 ? "0" : x >= 1000 || x < 0.0001 ? x.toExponential(2) : x.toPrecision(3);

export const plural = (count: number, noun: string) => `${count} ${noun}${count === 1 ? "" : "s"}`;
