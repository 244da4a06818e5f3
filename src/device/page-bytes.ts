/**
 * Sizes of pages in the codec's bytes, packed or unpacked. Devices with another arrangement have sizes of their own.
 */
import { type Cache, type KvPart, PAGE_SLOTS } from "./contract.ts";
import { heldDim } from "./kv.ts";

type Held = Pick<Cache, "codec" | "headDim" | "turned">;

/** Bytes of a page's keys, or values, of one head. isRecent: for a page of Graph.recentPool. */
export function pageBytes(cache: Held, part: KvPart, isRecent = false): number {
  const { packed, vectorBytes } = cache.codec;
  const dims = heldDim(cache, part);
  return packed && !isRecent ? packed.pageBytes(dims, part) : PAGE_SLOTS * vectorBytes(dims);
}

/** Bytes of one token's key and value of one head; for packed pages, its share. */
export function tokenBytes(cache: Held): number {
  return (pageBytes(cache, "keys") + pageBytes(cache, "values")) / PAGE_SLOTS;
}
