/** Labels side by side with what they name, moved apart until none covers another. Pure. */

/** Places of labels, `pitch` apart at least; the order stays. From `top` down, and up again where `bottom` is passed. */
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
