/**
 * Successive halving over rungs: of the specs on a rung the best third goes on, and those within noise of it. Pure.
 */
import type { Score } from "./scores.ts";

export interface Climber {
  readonly spec: string;
  readonly score: Pick<Score, "log" | "error">;
  /** It is on this rung, and its experiments on the next are not requested. */
  readonly mayClimb: boolean;
}

/** Too few to divide into thirds. */
const LEAST = 3;

/** all: every spec on the rung, whether it has gone on or not. */
export function promoted(all: readonly Climber[]): Climber[] {
  if (all.length < LEAST) return [];
  const sorted = [...all].sort((a, b) => a.score.log - b.score.log);
  const edge = sorted[Math.ceil(sorted.length / 3) - 1].score;
  return sorted.filter(({ score, mayClimb }) => {
    const noise = Math.hypot(score.error, edge.error);
    return mayClimb && (score.log <= edge.log || score.log - edge.log < noise / 2);
  });
}
