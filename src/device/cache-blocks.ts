/**
 * Where a cache's first positions lie. Every device cuts a cache's bytes by KV head and then into blocks of 32 slots (the
 * reference into single slots). Refuses to know what a block holds.
 */
import type { Cache } from "./contract.ts";

export const BLOCK_SLOTS = 32;

/** bytes: of all heads. The blocks that hold the first `tokens` positions; of a ring that they fill, all. */
export function leadingBlocks(
  { kvHeads, capacity }: Cache,
  bytes: number,
  tokens: number,
): { at: number; bytes: number }[] {
  const ofHead = bytes / kvHeads;
  const blocks = Math.ceil(Math.min(tokens, capacity) / BLOCK_SLOTS);
  const count = (blocks * BLOCK_SLOTS * ofHead) / capacity;
  return Array.from({ length: kvHeads }, (_, head) => ({ at: head * ofHead, bytes: count }));
}
