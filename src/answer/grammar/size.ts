/** How large a grammar may become, counted while it is written, so that nothing is compiled that is too large. */
import { PlaceError } from "../errors.ts";
import { NOTHING, plus, type Weight, weightOf } from "./weight.ts";

/** Limits of all rules that are compiled together: 2,000 properties take about two thirds of them. */
const MOST = {
  characters: 500_000,
  bytes: 100_000,
  states: 20_000,
  wide: 400,
};

export class Size {
  weight: Weight = NOTHING;
  #characters = 0;

  /** body: of a rule. PlaceError when the rules so far are too large. */
  add(body: string, place: string): void {
    this.#characters += body.length;
    this.weight = plus(this.weight, weightOf(body), 1);
    const { bytes, states, wide } = this.weight;
    this.#bound(place, this.#characters, MOST.characters, "characters of rules");
    this.#bound(place, bytes, MOST.bytes, "bytes of names and values");
    this.#bound(place, states, MOST.states, "states");
    this.#bound(place, wide, MOST.wide, "states for most of the vocabulary");
  }

  #bound(place: string, found: number, most: number, what: string): void {
    if (found <= most) return;
    throw new PlaceError(
      "argument",
      place,
      `${place} becomes a grammar of ${found} ${what} or more; allowed: up to ${most}. Fewer properties, choices, patterns and repetitions help`,
    );
  }
}
