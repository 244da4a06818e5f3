/** `nibble lab work`: works for a lab that others fill: claims experiments and computes them until it is stopped. */
import { setTimeout as sleep } from "node:timers/promises";
import { AbortedError, ArgumentError } from "../index.ts";
import {
  childOf,
  type FailureEntry,
  type ResultEntry,
  type RunnerOptions,
  type Snapshot,
  swarm,
} from "../lab.ts";
import { write } from "./interrupt.ts";
import { digits, type LabOptions, withBook, withKnown } from "./lab-open.ts";

export interface LabWorkOptions extends LabOptions {
  models?: string[];
  workers: number;
  can: string[];
  device?: RunnerOptions["device"];
  threads?: number;
  offline?: boolean;
  /** Milliseconds. */
  for?: number;
  experiments?: number;
}

/** Interval of looking for new experiments. */
const LOOK_MS = 1000;
/** The shortest context that a runner is given, for calibrating. */
const LEAST_CONTEXT = 640;

export async function workInLab(options: LabWorkOptions, signal: AbortSignal): Promise<void> {
  const { folder, db, workers, can, device, threads, offline, method, json } = options;
  const enough = new AbortController();
  const ends = [signal, enough.signal];
  if (options.for !== undefined) ends.push(AbortSignal.timeout(options.for));
  const over = AbortSignal.any(ends);
  let count = 0;
  // A mistyped folder is not made into a lab.
  if (!options.models) await withKnown(options, signal, async (known) => namesOf(known, db ?? folder));
  await withBook({ folder, db, shared: true }, signal, async (book) => {
    const known = await book.snapshot();
    const models = options.models ?? namesOf(known, db ?? folder);
    const ofRunner = { device, threads, offline, methods: method, context: contextOf(known) };
    const recorded = await swarm({
      ...{ count: workers, book, can, signal: over, child: childOf(models, ofRunner, workers) },
      onEvent: async (event) => {
        if (event.kind !== "recorded") return;
        await printEntry(event.entry, json, signal);
        if (++count === options.experiments) enough.abort();
      },
      async idle() {
        await sleep(LOOK_MS, undefined, { signal: over }).catch(() => {});
        return !over.aborted;
      },
    });
    if (signal.aborted) throw new AbortedError("the lab's worker");
    if (!json) process.stderr.write(`nibble: ${recorded} experiments\n`);
  });
}

async function printEntry(
  entry: ResultEntry | FailureEntry,
  json: boolean | undefined,
  signal: AbortSignal,
): Promise<void> {
  const { id, kind, experiment } = entry;
  const came = entry.kind === "result" ? { klMean: entry.klMean } : { error: entry.error };
  const what = entry.kind === "result" ? `mean KL ${digits(entry.klMean)}` : `failed: ${entry.error}`;
  const line = json
    ? JSON.stringify({ id, kind, experiment, ...came })
    : `${experiment.slice(0, 8)}  ${what}`;
  await write(`${line}\n`, signal);
}

/** All models that the lab knows, as they were named. */
function namesOf(known: Snapshot, place: string): string[] {
  const names = [...new Set([...known.models.values()].map(({ name }) => name))];
  if (names.length === 0)
    throw new ArgumentError(
      `the lab in ${place}`,
      "without a model",
      "one that `nibble lab run` has begun, or --models",
    );
  return names;
}

function contextOf({ texts }: Snapshot): number {
  return Math.max(LEAST_CONTEXT, ...[...texts.values()].map(({ tokens }) => tokens + 1));
}
