/**
 * Intervals that hold at every look: results are looked at after each experiment, and a fixed 95 % interval would
 * exclude the truth sooner or later. The share of errors is spent over the looks as 6 / (pi t)^2, which sums up to 1.
 */
import { type Estimate, type Interval, interval } from "./bootstrap.ts";

/** The interval at look number 1, 2, ... */
function sequenceInterval(
  estimate: Pick<Estimate, "log" | "error" | "freedom">,
  look: number,
  alpha = 0.05,
): Interval {
  return interval(estimate, (alpha * 6) / (Math.PI * look) ** 2);
}

/** Ten percent: smaller differences do not matter. */
const MATTERS = Math.log(1.1);

/** Decided for good: the interval of this look excludes zero, or any difference that matters. */
export function settled(
  estimate: Pick<Estimate, "log" | "error" | "freedom">,
  look: number,
  alpha = 0.05,
): "better" | "worse" | "alike" | null {
  const { low, high } = sequenceInterval(estimate, look, alpha);
  if (high < 0) return "better";
  if (low > 0) return "worse";
  return low > -MATTERS && high < MATTERS ? "alike" : null;
}
