/**
 * How many pages the caches of a kind of layer need. A full layer holds every token of every text; a sliding layer gives
 * pages back that no later query sees. Pure.
 */
import { PAGE_SLOTS } from "../device/contract.ts";

export interface PoolNeeds {
  /** Token slots for all texts together, in whole pages. */
  readonly cacheTokens: number;
  /** Texts at once. */
  readonly texts: number;
  /** Most tokens of one step. */
  readonly maxTokens: number;
}

/** Blocks that hold `tokens` tokens. */
export function blocksOf(tokens: number): number {
  return Math.ceil(tokens / PAGE_SLOTS);
}

/**
 * window: null for a full layer. A sliding text holds what the first row of a step sees and the step's rows: its window
 * may begin within a page, and its rows end within one. One text more: beginnings of texts that ended stay for others.
 */
export function poolPages(window: number | null, { cacheTokens, texts, maxTokens }: PoolNeeds): number {
  const all = blocksOf(cacheTokens);
  if (window === null) return all;
  return Math.min(all, (texts + 1) * (blocksOf(window) + 1) + blocksOf(maxTokens) + texts);
}

/**
 * Blocks of a text that are packed when it has so many tokens in front of its next: those that at least `recent` tokens
 * follow.
 */
export function packedBlocks(recent: number, tokens: number): number {
  return Math.max(0, Math.floor((tokens - recent) / PAGE_SLOTS));
}

/** Pages of vectors as they come: a text holds those of its newest tokens, as a sliding one those of its window. */
export function recentPages(recent: number, needs: PoolNeeds): number {
  return poolPages(recent + PAGE_SLOTS, needs);
}

/** Pages of one text at rest: a window may begin and end within one. */
export function textPages(window: number | null, tokens: number): number {
  return window === null ? blocksOf(tokens) : Math.min(blocksOf(tokens), blocksOf(window) + 1);
}
