/**
 * Checks that logits are finite before a token is chosen or a probability is reported. A NaN or an infinity comes from
 * damaged weights or from activations that left float32's range, and makes every probability of the row NaN.
 */
import { LogitsError } from "../format/errors.ts";

/**
 * logits: [vocab] f32, or the largest of them and -Infinity for the others; -Infinity is allowed next to finite
 * numbers.
 */
export function wrongLogits(logits: Float32Array, position: number): LogitsError | null {
  let most = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id];
    if (!(logit < Number.POSITIVE_INFINITY)) return new LogitsError(position, id, logit);
    if (logit > most) most = logit;
  }
  return most > Number.NEGATIVE_INFINITY ? null : new LogitsError(position, null, most);
}
