/**
 * A budget for templates. A template is code from a downloaded file, so each step is counted, and work is charged
 * before it is done: by the characters it reads or the elements it makes.
 */
import { FormatError } from "../errors.ts";

export interface Bounds {
  /** Steps: evaluated nodes, iterations of loops, elements made, and each 32 characters read. */
  readonly steps: number;
  /** Characters in one value, and so in the result. */
  readonly characters: number;
  /** Elements in one list. */
  readonly elements: number;
}

/** Steps between two places where the work may pause: a few milliseconds. */
const PAUSE = 20_000;

export class Meter {
  #left: number;
  #untilPause = PAUSE;

  /** place: the key or file of the template, for errors. */
  constructor(
    readonly bounds: Bounds,
    readonly place: string,
  ) {
    this.#left = bounds.steps;
  }

  get spent(): number {
    return this.bounds.steps - this.#left;
  }

  /** Throws FormatError if the steps are used up. */
  spend(steps: number): void {
    this.#left -= steps;
    this.#untilPause -= steps;
    if (!(this.#left >= 0)) throw this.#tooMuch("more steps than a template needs", this.bounds.steps);
  }

  /** Called before this many characters are read or copied. */
  read(characters: number): void {
    this.spend(1 + Math.ceil(characters / 32));
  }

  /** Called before a text of this length is made. */
  text(characters: number): void {
    if (!(characters <= this.bounds.characters))
      throw this.#tooMuch(`a text of ${characters} characters`, this.bounds.characters);
  }

  /** Called before a list of this length is made. */
  list(elements: number): void {
    if (!(elements <= this.bounds.elements))
      throw this.#tooMuch(`a list of ${elements}`, this.bounds.elements);
    this.spend(elements);
  }

  /** Called before an element is added to a list, which then has this many. */
  element(elements: number): void {
    if (elements > this.bounds.elements) this.list(elements);
    this.spend(1);
  }

  /** Whether it is time for a pause. */
  wantsPause(): boolean {
    if (this.#untilPause > 0) return false;
    this.#untilPause = PAUSE;
    return true;
  }

  #tooMuch(found: string, allowed: number): FormatError {
    return new FormatError(this.place, found, `at most ${allowed}`);
  }
}

/** A text that grows piece by piece within the limits. */
export class Writer {
  text = "";

  constructor(readonly meter: Meter) {}

  add(piece: string): void {
    this.meter.read(piece.length);
    this.meter.text(this.text.length + piece.length);
    this.text += piece;
  }
}
