/** Places labels next to the points that they name, so that none covers another. Pure. */

/**
 * Positions of labels at least `pitch` apart, in their order: from `top` down, and shifted up again if the last would
 * pass `bottom`.
 */
export function spreadOut(
  wanted: readonly number[],
  pitch: number,
  top: number,
  bottom = Number.POSITIVE_INFINITY,
): number[] {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]);
  const places = [...wanted];
  let last = top - pitch;
  for (const i of order) {
    places[i] = Math.max(places[i], last + pitch);
    last = places[i];
  }
  let next = bottom + pitch;
  for (const i of order.reverse()) {
    places[i] = Math.min(places[i], next - pitch);
    next = places[i];
  }
  return places;
}
