/** Adapts a caller's own sampler. It needs all logits, so no device can choose for it. */
import { ArgumentError } from "../format/errors.ts";
import type { Sampler } from "./sample.ts";

/** Chooses each token of a generation. */
export interface CustomSampler {
  /**
   * Returns the id of the next token. logits [vocab]: -Infinity for tokens that a constraint rules out; may be changed
   * in place. recent: the ids of the text so far, including the prompt, newest last.
   */
  next(logits: Float32Array, recent: readonly number[]): number;
}

/** Throws ArgumentError for an object that cannot choose; an invalid choice throws during generation. */
export function customSampler(custom: CustomSampler): Sampler {
  if (typeof custom?.next !== "function")
    throw new ArgumentError("sampler", typeof custom, "an object with next(logits, recent)");
  return {
    seed: 0,
    next(logits, recent) {
      const id = custom.next(logits, recent);
      if (!(Number.isInteger(id) && id >= 0 && id < logits.length))
        throw new ArgumentError("the id that sampler.next chose", id, `integers 0 to ${logits.length - 1}`);
      if (logits[id] === Number.NEGATIVE_INFINITY)
        throw new ArgumentError("the id that sampler.next chose", id, "one whose logit is not -Infinity");
      return id;
    },
    sampling: () => null,
    enough: () => null,
  };
}
