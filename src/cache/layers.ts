/**
 * How many token slots a layer's cache needs. A full layer holds the whole context; a sliding layer is a ring that
 * holds its window and the chunk being written. Slots come in blocks of 32, the unit in which devices pack tokens.
 */
import { BLOCK_SLOTS } from "../device/cache-blocks.ts";
import type { Graph } from "../device/contract.ts";

export const BLOCK_TOKENS = BLOCK_SLOTS;

/**
 * context: positions the session may reach; chunk: most tokens of one step; window: null for a full layer.
 * The ring must not overwrite the oldest position that the first query of a chunk sees, window + chunk - 2 back; one
 * block more keeps the block that is being overwritten apart from the oldest block still read.
 */
export function cacheCapacity(context: number, chunk: number, window: number | null): number {
  const needed = window === null ? context : Math.min(context, window + chunk - 1 + BLOCK_TOKENS);
  return Math.ceil(needed / BLOCK_TOKENS) * BLOCK_TOKENS;
}

/**
 * The largest position <= wanted from which a session that has written `end` positions may go on, without reading
 * what a ring has overwritten: `wanted` itself, or 0 when a sliding layer has lost what it would need.
 */
export function rewindPosition(caches: Graph["caches"], end: number, wanted: number): number {
  if (wanted >= end) return end;
  for (const { window, capacity } of caches) {
    const oldestKept = Math.max(0, end - capacity);
    if (window !== null && oldestKept > Math.max(0, wanted - window + 1)) return 0;
  }
  return wanted;
}
