/**
 * Divides rows of one text that attend in tiles into units of whole tiles of query heads, so that a step's attention
 * can be divided between submits.
 */

/** The smallest unit: a whole tile of query heads. */
const UNIT_ROWS = 64;

/** A run of rows that attends in tiles; packed: positions of its text in packed pages. */
export interface LongRun {
  readonly first: number;
  readonly position: number;
  readonly tokens: number;
  readonly packed: number;
}

/** `before`: number of rows of earlier runs, or units. */
export interface Unit extends LongRun {
  readonly before: number;
}

/** Maximum units of a step with these numbers of tokens and runs. */
export function mostUnits(tokens: number, runs: number): number {
  return Math.ceil(tokens / UNIT_ROWS) + runs;
}

/** Runs that attend in tiles, divided into whole tiles. */
export function unitsOf(longs: readonly LongRun[]): Unit[] {
  const units: Unit[] = [];
  let before = 0;
  for (const { first, position, tokens, packed } of longs)
    for (let at = 0; at < tokens; at += UNIT_ROWS) {
      const count = Math.min(UNIT_ROWS, tokens - at);
      units.push({ first: first + at, position: position + at, tokens: count, packed, before });
      before += count;
    }
  return units;
}
