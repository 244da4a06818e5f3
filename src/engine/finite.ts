/**
 * What logits have to be before a token is chosen or a probability is told: numbers. A NaN or an infinity among them
 * comes of damaged weights or of activations that left float32's range, and makes every probability of the row NaN.
 */
import { NibbleError } from "../format/errors.ts";

/** A row of logits that no token can be chosen from. */
export class LogitsError extends NibbleError {
  /** position: of the token whose successor the logits tell. id: the first whose logit is wrong; null: all are -Infinity. */
  constructor(
    readonly position: number,
    readonly id: number | null,
    readonly logit: number,
  ) {
    const what = id === null ? "all -Infinity" : `not all finite numbers: token ${id} has ${logit}`;
    super(
      "device",
      `the model's logits at position ${position} are ${what}. Weights of the file are damaged, or its activations exceed what the device computes with; try the file again from its source, or another --device.`,
    );
  }
}

/** logits: [vocab] f32, or the largest of them and -Infinity for the others; -Infinity beside a number is allowed. */
export function wrongLogits(logits: Float32Array, position: number): LogitsError | null {
  let most = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id];
    if (!(logit < Number.POSITIVE_INFINITY)) return new LogitsError(position, id, logit);
    if (logit > most) most = logit;
  }
  return most > Number.NEGATIVE_INFINITY ? null : new LogitsError(position, null, most);
}
