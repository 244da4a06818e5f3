/**
 * The submits of a step: one if it is short, otherwise one for each part (submit-parts.ts). Measures the time of parts,
 * writes the step uniform between them, and checks that long parts ran to their end: their last dispatch increments a
 * counter, because a driver may stop work that takes too long and report nothing.
 */
import { type Batch, unitLists } from "./batch.ts";
import type { Gpu } from "./gpu.ts";
import { encodePass, type Ready } from "./ready.ts";
import { SUBMIT_MS, type SubmitPart, shapeOf, submitPartsOf, WorkRates } from "./submit-parts.ts";
import { WordsBack } from "./words-back.ts";

/** A part is counted if its estimate exceeds this share of the longest part's, 10 ms. Counting takes some 5 us. */
const COUNTED_SHARE = 1 / 30;

/** Label of the buffers through which the count is read back. */
export const COUNT_LABEL = "submits back";

const NO_LISTS = new Uint32Array();

export interface SubmitOptions {
  readonly gpu: Gpu;
  /** Longest part by estimate; default: SUBMIT_MS. */
  readonly submitMs?: number;
  /** The dispatch of `stamp`, and the buffer of its counter. */
  readonly stamp: Ready;
  readonly stampBuffer: GPUBuffer;
  /** Writes a step uniform and words of its lists. at: where in `batch` they begin, in words. */
  write(uniform: Uint32Array<ArrayBuffer>, lists: Uint32Array<ArrayBuffer>, at: number): void;
}

/** Adds to a submit. The function that it returns is called after the submit; null: no words are read back. */
type Finish = (encoder: GPUCommandEncoder) => (() => Promise<Uint32Array>) | null;

const NOTHING_BACK: Finish = () => null;

interface Submitted {
  readonly done: Promise<void>;
  readonly words: Promise<Uint32Array> | null;
}

export class Submits {
  readonly #pace = new WorkRates();
  readonly #words: WordsBack;
  /** Submits counted so far. */
  #count = 0;
  /** The time at which the previous submit was seen to be done. */
  #doneAt = 0;

  constructor(readonly options: SubmitOptions) {
    this.#words = new WordsBack(options.gpu, options.stampBuffer, 0, COUNT_LABEL);
  }

  /**
   * Submits a step whose uniform and lists are written. `last` may add a copy of words that are read back to the last
   * submit. Resolves when everything is submitted. `done` resolves when everything has run, and never rejects.
   */
  async run(list: readonly Ready[], batch: Batch, last: Finish): Promise<Submitted> {
    const { gpu, submitMs = SUBMIT_MS } = this.options;
    const parts = submitPartsOf(list, batch, this.#pace, submitMs);
    let part = parts.next();
    for (;;) {
      const following = parts.next();
      const { value } = part as IteratorYieldResult<SubmitPart<Ready>>;
      const submitted = this.#submit(value, batch, following.done ? last : NOTHING_BACK);
      if (following.done) return submitted;
      if (!this.#pace.knows(value)) await submitted.done;
      gpu.check();
      part = following;
    }
  }

  #submit(part: SubmitPart<Ready>, batch: Batch, finish: Finish): Submitted {
    const { gpu, submitMs = SUBMIT_MS, stamp, write } = this.options;
    const encoder = gpu.device.createCommandEncoder();
    const isCounted = part.ms > submitMs * COUNTED_SHARE;
    const jobs = isCounted ? [...part.jobs, stamp] : part.jobs;
    if (part.units) {
      const cut = unitLists(batch, part.units);
      write(cut.uniform, cut.lists, cut.at);
    }
    encodePass(encoder, jobs, shapeOf(batch.shape, part), part.workgroups);
    const counted = isCounted ? this.#words.encode(encoder, 1) : null;
    if (isCounted) this.#count++;
    const count = this.#count;
    const back = finish(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    if (part.units) write(batch.uniform, NO_LISTS, batch.at);
    const begun = performance.now();
    const words = back?.() ?? null;
    const ended = counted
      ? counted().then(
          ([found]) => {
            if (found !== count) gpu.stopped(performance.now() - begun);
          },
          () => {},
        )
      : // Words that have arrived show that all work before them has run. This saves a promise of Dawn's, some 15 us.
        (words?.then(
          () => {},
          () => {},
        ) ?? gpu.submitted());
    const done = ended.then(() => {
      const now = performance.now();
      const from = Math.max(begun, this.#doneAt);
      const seenTogether = this.#doneAt > begun && now - this.#doneAt < 0.5;
      this.#doneAt = now;
      if (!seenTogether) this.#pace.took(part, now - from);
    });
    return { done, words };
  }
}
