/** A caller's own way of choosing tokens as the sampler that steps ask. It needs all logits, so no device can choose for it. */
import { ArgumentError } from "../format/errors.ts";
import type { Sampler } from "./sample.ts";

/** Chooses each token of a generation. */
export interface CustomSampler {
  /**
   * The id of the next token. logits [vocab]: -Infinity for those that a constraint rules out; may be changed in place.
   * recent: the ids of the text so far, the prompt's too, newest last.
   */
  next(logits: Float32Array, recent: readonly number[]): number;
}

/** ArgumentError for what cannot choose; for a choice that is no token it is thrown while it generates. */
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
