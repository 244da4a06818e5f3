/**
 * Which rows a step gets: one of each text that generates, and of prompts as many as there is room and time for. Pure but
 * for the pages that the rows take. Owns fairness: of generations and of prompts those come first that were served least
 * recently, and prompts share what is left.
 * One idea: of two prompts with the same beginning the later one waits for the blocks that the earlier one reads.
 */
import { PAGE_SLOTS } from "../device/contract.ts";
import type { Job, Part } from "./job.ts";

export interface StepLimits {
  readonly maxTokens: number;
  readonly maxOutputs: number;
  readonly context: number;
  /** Rows of prompts when texts generate in the same step. */
  promptRows(): number;
  /** Pages for a job's tokens up to `to`; how far they go. */
  grow(job: Job, to: number): number;
}

/** Fewer rows of a prompt in a step are not worth one. */
const LEAST_SHARE = PAGE_SLOTS;

/** paused: texts that would go on but for a page. */
export function pickStep(
  running: Iterable<Job>,
  limits: StepLimits,
): { parts: Part[]; paused: readonly Job[] } {
  const jobs = [...running].sort((a, b) => a.servedAt - b.servedAt || a.began - b.began);
  const paused: Job[] = [];
  const parts: Part[] = [];
  let rows = limits.maxTokens;
  let outputs = limits.maxOutputs;

  for (const job of jobs) {
    if (rows === 0 || outputs === 0) break;
    if (job.isReading || !job.tokens?.isWanted || job.sent >= limits.context) continue;
    if (limits.grow(job, job.sent + 1) <= job.sent) {
      paused.push(job);
      continue;
    }
    parts.push(job.part(job.sent + 1));
    rows--;
    outputs--;
  }

  const reading = jobs.filter((job) => job.isReading);
  for (const job of reading) job.catchUp();
  const readers = reading.filter((job) => job.sent < job.readable && !isRead(job, reading));
  const alone = readers.find((job) => job.isApart);
  if (alone && parts.length > 0) return { parts, paused };
  let left = parts.length > 0 ? Math.min(rows, limits.promptRows()) : rows;
  const share = Math.max(LEAST_SHARE, left / readers.length - ((left / readers.length) % LEAST_SHARE));
  const ends = new Map<Job, number>();
  for (const most of [share, Number.POSITIVE_INFINITY])
    for (const job of alone ? [alone] : readers) {
      if (left === 0) break;
      const at = ends.get(job) ?? job.sent;
      const first = job.prompt - job.outputs;
      const wanted = Math.min(job.readable, at + Math.min(left, most), Math.max(at, first) + outputs);
      const end = Math.min(wanted, limits.grow(job, wanted));
      if (end <= at) continue;
      ends.set(job, end);
      left -= end - at;
      outputs -= Math.max(0, end - Math.max(at, first));
    }
  for (const [job, end] of ends) parts.push(job.part(end));
  return { parts, paused };
}

/** An earlier job has the same next block before it: it will be known soon. */
function isRead(job: Job, reading: readonly Job[]): boolean {
  const { block, last } = job.pages;
  const end = (block + 1) * PAGE_SLOTS;
  if (end > job.most) return false;
  return reading.some(
    (other) =>
      other.began < job.began &&
      other.pages.last === last &&
      other.prompt >= end &&
      other.key(block) === job.key(block),
  );
}
