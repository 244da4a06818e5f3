/**
 * How many rows of prompts a step may have while texts generate, so that no text waits long for a token. It is
 * estimated from the times of steps: the time of the generating rows, whatever their number, plus a constant for each
 * row of a prompt.
 */

import { StepCost } from "./step-cost.ts";

/** Rows of a step. */
interface StepRows {
  readonly promptRows: number;
  /** Rows of texts that generate. */
  readonly rows: number;
}

interface Begun extends StepRows {
  readonly at: number;
}

/** Prompts get at least this many, even on a machine that is slower than any such limit. */
const LEAST_ROWS = 32;
/** The weight of a new measurement. */
const WEIGHT = 0.25;

export class Pace {
  /** For steps without rows of prompts. */
  readonly cost = new StepCost();
  readonly #stretchMs: number;
  readonly #now: () => number;
  /** Steps that have begun and whose end is not known. */
  #begun: Begun[] = [];
  #lastEnd = 0;
  #stepMs: number | null = null;
  #rowMs: number | null = null;

  /** stretchMs: the time that a step with rows of prompts may take. */
  constructor(stretchMs: number, now = () => performance.now()) {
    this.#stretchMs = stretchMs;
    this.#now = now;
  }

  promptRows(): number {
    if (this.#rowMs === null) return LEAST_ROWS;
    const rows = Math.floor((this.#stretchMs - (this.#stepMs ?? 0)) / this.#rowMs);
    return Math.max(LEAST_ROWS, rows - (rows % LEAST_ROWS));
  }

  /** Called when a step is submitted; the returned function is to be called when it has ended, if that is observed. */
  begin(rows: StepRows): () => void {
    const step = { at: this.#now(), ...rows };
    this.#begun.push(step);
    return () => this.#end(step);
  }

  /** Nothing is left to do: steps whose end was not observed are forgotten. */
  idle(): void {
    this.#begun = [];
  }

  /** It ended, and so have those before it. */
  #end(step: Begun): void {
    const count = this.#begun.indexOf(step) + 1;
    if (count === 0) return;
    const ended = this.#begun.splice(0, count);
    const now = this.#now();
    const ms = now - Math.max(this.#lastEnd, ended[0].at);
    this.#lastEnd = now;
    const rows = ended.reduce((sum, { promptRows }) => sum + promptRows, 0);
    if (rows === 0) {
      this.#stepMs = mixed(this.#stepMs, ms / count);
      if (ended.every(({ rows }) => rows === step.rows)) this.cost.note(step.rows, ms / count);
    } else this.#rowMs = mixed(this.#rowMs, Math.max(0, ms - count * (this.#stepMs ?? 0)) / rows);
  }
}

function mixed(before: number | null, found: number): number {
  return before === null ? found : before + WEIGHT * (found - before);
}
