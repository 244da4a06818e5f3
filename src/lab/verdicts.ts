/** The state of experiments after some new entries: how often they failed, and whether they are dead or tried again. */
import type { Entry } from "./types.ts";

export class Verdicts {
  readonly #attempts = new Map<string, number>();
  readonly #dead = new Set<string>();
  readonly #retried = new Set<string>();

  constructor(entries: readonly Entry[]) {
    for (const entry of entries)
      if (entry.kind === "failure") {
        this.#attempts.set(entry.experiment, Math.max(this.attempts(entry.experiment), entry.attempt));
        if (entry.final) this.#dead.add(entry.experiment);
      } else if (entry.kind === "retry") {
        this.#dead.delete(entry.experiment);
        this.#retried.add(entry.experiment);
      }
  }

  attempts(experiment: string): number {
    return this.#attempts.get(experiment) ?? 0;
  }

  isDead(experiment: string): boolean {
    return this.#dead.has(experiment);
  }

  isRetried(experiment: string): boolean {
    return this.#retried.has(experiment) && !this.#dead.has(experiment);
  }
}
