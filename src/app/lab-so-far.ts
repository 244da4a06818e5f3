/** The best of every size so far, on the terminal while a lab runs: the same lines as at the end. */
import type { LabBook, Study } from "../lab.ts";
import { bestOf, scoreLines } from "./lab-verbs.ts";
import { type LiveLines, liveLines } from "./live-lines.ts";

/** Scores take longer than drawing them. */
const SCORE_MS = 1000;

export class SoFar {
  readonly #book: LabBook;
  readonly #study: Study;
  readonly #live: LiveLines;
  readonly #began = performance.now();
  #best: readonly string[] = [];
  #scoredAt = Number.NEGATIVE_INFINITY;

  constructor(book: LabBook, study: Study, live: LiveLines = liveLines()) {
    this.#book = book;
    this.#study = study;
    this.#live = live;
  }

  async show(experiments: number): Promise<void> {
    if (!this.#live.isShown) return;
    const now = performance.now();
    if (now - this.#scoredAt >= SCORE_MS) {
      this.#scoredAt = now;
      const known = await this.#book.snapshot();
      const { models, device } = this.#study;
      this.#best = models.flatMap((id) => [
        `${known.models.get(id)?.name ?? id}: the best of every size so far`,
        ...scoreLines(known, bestOf(known, id, { device })),
      ]);
    }
    const seconds = Math.round((now - this.#began) / 1000);
    const head = `${experiments} experiments in ${seconds} s (Ctrl-C: keep them, write the report)`;
    this.#live.show([head, ...this.#best]);
  }

  clear(): void {
    this.#live.clear();
  }
}
