/**
 * Assigns few GPU buffers to many activations: buffers of a program that are never alive together share one. Pure. A
 * buffer lives from the first dispatch that uses it to the last. Several programs share the same slots, since only one
 * runs at a time.
 */
import type { Dispatch, PlannedBuffer } from "./dispatch.ts";

export interface Slots {
  /** Bytes of each slot. */
  readonly bytes: readonly number[];
  /** Slot of each buffer, by the buffer's id. */
  readonly slotOf: ReadonlyMap<number, number>;
}

/** The dispatches of a program, by index, from the first that uses a buffer to the last. */
export interface Life {
  readonly buffer: PlannedBuffer;
  readonly first: number;
  readonly last: number;
}

/** programs: the lives of their activations, in the order of their first dispatches. */
export function assignSlots(
  programs: readonly (readonly Life[])[],
  bytesOf: (buffer: PlannedBuffer) => number,
): Slots {
  const slotOf = new Map<number, number>();
  const bytes: number[] = [];
  for (const lives of programs) {
    // Take the best free slot, so that a small buffer does not take a large slot and a large one does not grow a
    // small slot.
    const freeFrom = bytes.map(() => 0);
    for (const { buffer, first, last } of lives) {
      const wanted = bytesOf(buffer);
      let best = -1;
      for (let slot = 0; slot < bytes.length; slot++) {
        if (freeFrom[slot] > first) continue;
        if (best < 0 || waste(bytes[slot], wanted) < waste(bytes[best], wanted)) best = slot;
      }
      if (best < 0) {
        best = bytes.length;
        bytes.push(0);
        freeFrom.push(0);
      }
      bytes[best] = Math.max(bytes[best], wanted);
      freeFrom[best] = last + 1;
      slotOf.set(buffer.id, best);
    }
  }
  return { bytes, slotOf };
}

/** Bytes lost by taking a slot: what stays unused, or, worse, what it has to grow by. */
function waste(slot: number, wanted: number): number {
  return slot >= wanted ? slot - wanted : 2 * (wanted - slot);
}

/** `isShared`: whether a buffer is an activation; others (weights, caches, logits) have a place of their own. */
export function livesOf(
  program: readonly Dispatch[],
  isShared: (buffer: PlannedBuffer) => boolean,
): readonly Life[] {
  const lives = new Map<number, { buffer: PlannedBuffer; first: number; last: number }>();
  program.forEach((dispatch, i) => {
    for (const buffer of Object.values(dispatch.buffers)) {
      const known = lives.get(buffer.id);
      if (known) known.last = i;
      else if (isShared(buffer)) lives.set(buffer.id, { buffer, first: i, last: i });
    }
  });
  return [...lives.values()];
}
