/**
 * Which rows a step gets: one for each text that generates, as many of prompts as space and time allow, and guesses if
 * they pay off. Pure except for the pages that the rows take. Fairness: generations and prompts that were served least
 * recently come first, prompts share what is left, and guesses get the rest. Of two prompts with the same prefix, the
 * later one waits for the blocks that the earlier one reads.
 */
import { MORE_CHOSEN, PAGE_SLOTS } from "../device/contract.ts";
import { worthChecking } from "./guess-worth.ts";
import type { Job, JobPart } from "./job.ts";

export interface StepLimits {
  readonly maxTokens: number;
  readonly maxOutputs: number;
  readonly context: number;
  /** Rows of prompts when texts generate in the same step. */
  promptRows(): number;
  /** The time of a step in which N rows generate, in any unit. */
  cost(rows: number): number;
  /** There is a slot for its states, if the graph has any. */
  hasSlot(job: Job): boolean;
  /** Gets pages for a job's tokens up to `to`; returns how far they reach. */
  grow(job: Job, to: number): number;
}

/** Fewer rows of a prompt are not worth a step. */
const LEAST_SHARE = PAGE_SLOTS;
/** Tokens that guesses must gain for a text to wait until its last ids are known, which leaves the device idle. */
const WORTH_WAITING = 0.25;

/**
 * stuck: no part is possible, and every text waits for a page, or for a text that does; this one has to end so that
 * others can continue.
 */
export function pickStep(
  running: Iterable<Job>,
  limits: StepLimits,
): { parts: JobPart[]; stuck: Job | null } {
  const jobs = [...running].sort((a, b) => a.servedAt - b.servedAt || a.order - b.order);
  /** Texts that found no page. */
  const paused: Job[] = [];
  let rows = limits.maxTokens;
  let outputs = limits.maxOutputs;

  const generating: Job[] = [];
  for (const job of jobs) {
    if (rows === 0 || outputs === 0) break;
    if (!job.isReady || job.sent >= limits.context) continue;
    if (!limits.hasSlot(job)) continue;
    if (limits.grow(job, job.sent + 1) <= job.sent) {
      paused.push(job);
      continue;
    }
    generating.push(job);
    rows--;
    outputs--;
  }

  const reading = jobs.filter((job) => job.isReading);
  for (const job of reading) job.catchUp();
  const all = reading.filter((job) => !isRead(job, reading) && limits.hasSlot(job));
  const apart = generating.length === 0 && all.find((job) => job.isApart);
  const readers = apart ? [apart] : all.filter((job) => !job.isApart);
  let left = generating.length > 0 ? Math.min(rows, limits.promptRows()) : rows;
  const share = Math.max(1, Math.floor(left / readers.length / LEAST_SHARE)) * LEAST_SHARE;
  const ends = new Map<Job, number>();
  // First each gets its share, then the rest goes to those that come first.
  for (const most of [share, Number.POSITIVE_INFINITY])
    for (const job of readers) {
      if (left === 0) break;
      const at = ends.get(job) ?? job.sent;
      const first = job.promptTokens - job.outputs;
      const wanted = Math.min(job.readable, at + Math.min(left, most), Math.max(at, first) + outputs);
      const end = Math.min(wanted, limits.grow(job, wanted));
      if (wanted > at && end <= job.sent) paused.push(job);
      if (end <= at) continue;
      ends.set(job, end);
      left -= end - at;
      rows -= end - at;
      outputs -= Math.max(0, end - Math.max(at, first));
    }
  const parts = [
    ...guessed(generating, Math.min(rows, outputs, MORE_CHOSEN), limits),
    ...[...ends].map(([job, end]) => job.part(end)),
  ];
  const isStuck =
    parts.length === 0 && paused.length > 0 && jobs.every((job) => job.isReading || paused.includes(job));
  return { parts, stuck: isStuck ? last(paused) : null };
}

/**
 * Parts of texts that generate. room: rows for guesses in total. A text that waits for its ids before guessing has no
 * part.
 */
function guessed(jobs: readonly Job[], room: number, { cost, context, grow }: StepLimits): JobPart[] {
  const parts: JobPart[] = [];
  let rows = jobs.length;
  // The value of a step's time: each of its texts would get a token.
  const perTime = rows / cost(rows);
  const costOf = (more: number) => (cost(rows + more) - cost(rows)) * perTime;
  for (const job of jobs) {
    const { sent } = job;
    const most = Math.min(job.guesses!.most, room, context - sent - 1);
    const guess = most > 0 ? guessOf(job, most, costOf, (ms) => ms * perTime, cost(1)) : NO_GUESS;
    if (guess === null) {
      rows--;
      continue;
    }
    const more = Math.min(guess.length, grow(job, sent + 1 + guess.length) - sent - 1);
    parts.push(job.part(sent + 1 + more, more === guess.length ? guess : guess.slice(0, more)));
    rows += more;
    room -= more;
  }
  return parts;
}

/** The guesses to check with a job's next row; null: it waits until its ids are known. */
function guessOf(
  job: Job,
  most: number,
  costOf: (rows: number) => number,
  worthOf: (ms: number) => number,
  stepMs: number,
): readonly number[] | null {
  const { tokens, ids } = job;
  const guesses = job.guesses!;
  const { draft } = guesses;
  const { awaited } = tokens!;
  // The awaited ids are guessed, too, to find what follows them.
  const found = guesses.find(awaited + most);
  const { count, gain } = worthChecking(found.chances, awaited, costOf);
  const drafted = draft?.after(ids.length);
  const asked =
    draft && !drafted
      ? worthChecking(draft.chances(most), 0, (more) => costOf(more) + worthOf(draft.cost(more, stepMs)))
      : null;
  if (awaited > 0) return Math.max(gain, asked?.gain ?? 0) > WORTH_WAITING ? null : NO_GUESS;
  if (count > 0 && gain >= (asked?.gain ?? 0)) return found.ids.slice(0, count);
  if (asked && asked.count > 0) {
    guesses.startDraft(asked.count);
    return draft!.isBusy ? null : NO_GUESS;
  }
  return drafted?.slice(0, most) ?? NO_GUESS;
}

const NO_GUESS: readonly number[] = [];

/** The one that began last, generations first: they keep their text. */
function last(jobs: readonly Job[]): Job {
  const generating = jobs.filter((job) => !job.isReading);
  return (generating.length > 0 ? generating : jobs).reduce((a, b) => (b.order > a.order ? b : a));
}

/** An earlier job is about to read the job's next block, with the same blocks before it. */
function isRead(job: Job, reading: readonly Job[]): boolean {
  // States can be reused only where the other one keeps them.
  if (job.states) return reading.some((other) => other.order < job.order && job.follows(other));
  const { block, last } = job.pages;
  const end = (block + 1) * PAGE_SLOTS;
  if (end > job.mostReused) return false;
  return reading.some(
    (other) =>
      other.order < job.order &&
      other.pages.last === last &&
      other.promptTokens >= end &&
      other.key(block) === job.key(block),
  );
}
