/** How large a grammar may become, counted while it is written, so that nothing is compiled that is too large. */
import { badValue } from "../api/errors.ts";
import { plus, type Weight, weightOf } from "./weight.ts";

/** 2,000 properties have about 40,000 states. */
const MOST_STATES = 60_000;
const MOST_WIDE = 600;
const MOST_CHARACTERS = 1_000_000;

export class Size {
  weight: Weight = { states: 0, wide: 0 };
  #characters = 0;

  /** body: of a rule. ApiError 400 when all rules so far are too large. */
  add(body: string, place: string): void {
    this.#characters += body.length;
    this.weight = plus(this.weight, weightOf(body), 1);
    const bound = (found: number, most: number, what: string) => {
      if (found <= most) return;
      throw badValue(
        place,
        `too large: its grammar has more than ${most} ${what}`,
        "fewer properties, choices, repetitions and shorter names",
      );
    };
    bound(this.#characters, MOST_CHARACTERS, "characters");
    bound(this.weight.states, MOST_STATES, "states");
    bound(this.weight.wide, MOST_WIDE, "states of wide classes");
  }
}
