/**
 * A step's submits: one where it is short, else one for each part (submit-parts.ts). Owns the time that parts take, the step uniform
 * between them, and the proof that long ones ran: their last dispatch counts them, since a driver may stop work that takes too
 * long and report nothing.
 */
import { type Batch, unitLists } from "./batch.ts";
import type { Gpu } from "./gpu.ts";
import { encodePass, type Ready } from "./ready.ts";
import { SUBMIT_MS, type SubmitPart, shapeOf, submitPartsOf, WorkRates } from "./submit-parts.ts";
import { WordsBack } from "./words-back.ts";

/** Parts are counted that take this share of the longest by estimate, 10 ms: the count takes some 5 us. */
const COUNTED_SHARE = 1 / 30;

/** Of buffers in which the count comes back. */
export const COUNT_LABEL = "submits back";

const NO_LISTS = new Uint32Array();

export interface SubmitOptions {
  readonly gpu: Gpu;
  /** Longest part by estimate; default: SUBMIT_MS. */
  readonly submitMs?: number;
  /** The dispatch of `stamp`, and the word that it counts in. */
  readonly stamp: Ready;
  readonly stampBuffer: GPUBuffer;
  /** Puts a step uniform and words of its lists in place, `at`: in words of `batch`. */
  write(uniform: Uint32Array<ArrayBuffer>, lists: Uint32Array<ArrayBuffer>, at: number): void;
}

/** Adds to a submit; what it gives is called after that. null: no words come back. */
type Finish = (encoder: GPUCommandEncoder) => (() => Promise<Uint32Array>) | null;

const NOTHING_BACK: Finish = () => null;

interface Submitted {
  readonly done: Promise<void>;
  readonly words: Promise<Uint32Array> | null;
}

export class Submits {
  readonly #pace = new WorkRates();
  readonly #words: WordsBack;
  /** Counted submits. */
  #count = 0;
  /** When the submit before was seen to be done. */
  #doneAt = 0;

  constructor(readonly options: SubmitOptions) {
    this.#words = new WordsBack(options.gpu, options.stampBuffer, 0, COUNT_LABEL);
  }

  /**
   * Submits a step whose uniform and lists are in place; `last` adds to the last submit a copy of words that come back, if any.
   * Resolves when all is submitted; `done`, which does not reject, when all has run.
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
    encodePass(encoder, jobs, shapeOf(batch.shape, part));
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
      : // Words that come tell that all before them has run: one promise less of Dawn, some 15 us.
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
