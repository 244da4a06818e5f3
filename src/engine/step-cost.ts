/**
 * The time of a step by the number of rows that generate in it, from measured steps. Numbers that were not measured are
 * interpolated; beyond the measured ones each row costs a fixed share of a step, so that more rows are tried and then
 * measured.
 */

/** The assumed cost of another row relative to a step with one row. CPUs: 0.27 to 0.4, GPUs 0.02 to 0.15. */
const ROW = 0.25;
/** The weight of a new measurement. */
const WEIGHT = 0.25;
/** A pause of the process is not a cost of rows. */
const MOST_AT_ONCE = 2;
/** Steps after which a measurement is forgotten, since texts grow. */
const KEPT = 2000;

export class StepCost {
  /** By rows, ascending. */
  readonly #known: { rows: number; ms: number; at: number }[] = [];
  #count = 0;

  note(rows: number, ms: number): void {
    this.#count++;
    const found = this.#known.find((one) => one.rows === rows);
    const before = this.#known.length > 0 ? this.of(rows) : ms;
    const mixed = before + (found ? WEIGHT : 2 * WEIGHT) * (Math.min(ms, MOST_AT_ONCE * before) - before);
    if (found) Object.assign(found, { ms: mixed, at: this.#count });
    else {
      this.#known.push({ rows, ms: mixed, at: this.#count });
      this.#known.sort((a, b) => a.rows - b.rows);
    }
    const stale = this.#known.findIndex(({ at }) => this.#count - at > KEPT);
    if (stale >= 0) this.#known.splice(stale, 1);
  }

  /** Milliseconds, or, before any step was timed, in steps of one row. */
  of(rows: number): number {
    const after = this.#known.findIndex((one) => one.rows >= rows);
    const above = this.#known[after];
    const below = this.#known[after < 0 ? this.#known.length - 1 : after - 1];
    if (above?.rows === rows) return above.ms;
    if (above && below)
      return below.ms + ((above.ms - below.ms) * (rows - below.rows)) / (above.rows - below.rows);
    const one = above ?? below ?? { rows: 1, ms: 1 };
    return (one.ms * (1 + ROW * (rows - 1))) / (1 + ROW * (one.rows - 1));
  }
}
