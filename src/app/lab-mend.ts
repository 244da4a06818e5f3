/** `nibble lab dead`, `retry` and `rebuild`: experiments that failed for good, another try, and rebuilding a database. */
import { userInfo } from "node:os";
import { ArgumentError } from "../index.ts";
import { identified, isPostgres, openBook, rebuildFolder, type Snapshot } from "../lab.ts";
import { type LabOptions, plural, print, withKnown, withLab } from "./lab-open.ts";

/** Experiments that are dead, each with its last error. */
export async function showDead(options: LabOptions, signal: AbortSignal): Promise<void> {
  const rows = await withKnown(options, signal, async (known) =>
    deadOf(known).map((id) => {
      const { experiment } = known.experiments.get(id)!;
      const failures = known.failures.get(id)!;
      const last = failures[failures.length - 1];
      return {
        ...{ id, spec: known.specs.get(experiment.spec)?.label ?? experiment.spec },
        model: known.models.get(experiment.model)?.name ?? experiment.model,
        ...{ outcome: last.outcome, error: last.error, tries: failures.length },
      };
    }),
  );
  const line = ({ id, spec, model, outcome, tries, error }: (typeof rows)[number]) =>
    `${id.slice(0, 8)}  ${spec} on ${model}: ${outcome} after ${tries} tries: ${error}`;
  await print(
    options,
    signal,
    () => rows,
    () => (rows.length > 0 ? rows.map(line) : ["No experiment is dead."]),
  );
}

const deadOf = (known: Snapshot) => [...known.experiments.keys()].filter((id) => known.state(id) === "dead");

/** ids: beginnings of experiments' ids; or all that are dead. */
export async function retry(
  ids: readonly string[],
  options: LabOptions & { all?: boolean },
  signal: AbortSignal,
): Promise<void> {
  if (ids.length === 0 && !options.all)
    throw new ArgumentError("experiments to retry", "none", "ids of `nibble lab dead`, or --all");
  if (ids.length > 0 && options.all)
    throw new ArgumentError("experiments to retry", ids.join(" "), "ids, or --all, and not both");
  await withLab(options, signal, async (book) => {
    const known = await book.snapshot();
    const wanted = new Set(options.all ? deadOf(known) : ids.map((start) => oneOf(known, start)));
    const at = new Date().toISOString();
    const by = userInfo().username;
    await book.add(
      [...wanted].map((experiment) => identified({ kind: "retry", experiment, by, at } as const)),
    );
    await print(
      options,
      signal,
      () => [{ retried: [...wanted] }],
      () => [`${plural(wanted.size, "experiment")} will be tried again.`],
    );
  });
}

function oneOf(known: Snapshot, start: string): string {
  const found = [...known.experiments.keys()].filter((id) => id.startsWith(start));
  if (found.length !== 1)
    throw new ArgumentError("an experiment", start, `the beginning of one id; ${found.length} begin so`);
  const state = known.state(found[0]);
  if (state !== "dead" && state !== "failed")
    throw new ArgumentError(`experiment ${start}`, state, "one that has failed or is dead");
  return found[0];
}

export async function rebuild(options: LabOptions, signal: AbortSignal): Promise<void> {
  const { folder, db } = options;
  if (db !== undefined && isPostgres(db)) {
    const book = await openBook(db, { folder, signal });
    try {
      const waiting = await book.store.rebuildQueue();
      await print(
        options,
        signal,
        () => [{ waiting }],
        () => [`${waiting} experiments are in the queue.`],
      );
    } finally {
      await book.close();
    }
    return;
  }
  const { entries, old } = await rebuildFolder(db ?? folder);
  await print(
    options,
    signal,
    () => [{ entries }],
    () => [`${entries} entries${old === null ? "" : `; the database before is in ${old}`}.`],
  );
}
