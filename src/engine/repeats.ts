/**
 * Detects a text that repeats itself: its last ids are a short sequence, over and over. Models without an end token, or
 * in a state that they do not leave, generate such text until the context is full.
 */

/** Ids that have to repeat. */
const LENGTH = 1024;
/** The longest sequence that is looked for. */
const PERIOD = 64;

/** Call with each id in turn; true once the last 1,024 are a sequence of at most 64 ids, repeated. */
export class Repeats {
  readonly #last = new Int32Array(PERIOD).fill(-1);
  /** By period, how many consecutive ids equal those one period before. */
  readonly #runs = new Int32Array(PERIOD + 1);
  #count = 0;

  push(id: number): boolean {
    let found = false;
    for (let period = 1; period <= PERIOD; period++) {
      const before = this.#last[(this.#count - period + PERIOD) % PERIOD];
      this.#runs[period] = this.#count >= period && before === id ? this.#runs[period] + 1 : 0;
      found ||= this.#runs[period] + period >= LENGTH;
    }
    this.#last[this.#count++ % PERIOD] = id;
    return found;
  }
}
