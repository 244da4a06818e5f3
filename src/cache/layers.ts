/**
 * How many pages the caches of a kind of layer need. A full layer holds every token of every text; a sliding layer gives
 * pages back that no later query sees. Pure.
 */
import { type Graph, PAGE_SLOTS } from "../device/contract.ts";

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

/** Which pool has a graph's tokens as they come, and how many follow a page that leaves it; null: no cache packs. */
export function recentOf({ recent, caches }: Graph): { pool: number; tokens: number } | null {
  if (!recent) return null;
  const tokens = Math.max(...caches.map(({ codec }) => codec.packed?.recent ?? 0));
  return { pool: recent.id, tokens };
}

/** The window of a sliding layer that holds as many pages of a text. */
export function recentWindow(recent: number): number {
  return recent + PAGE_SLOTS;
}

/** Pages of vectors as they come: a text holds those of its newest tokens, as a sliding one those of its window. */
export function recentPages(recent: number, needs: PoolNeeds): number {
  return poolPages(recentWindow(recent), needs);
}

/** Pages of one text at rest: a window may begin and end within one. */
export function textPages(window: number | null, tokens: number): number {
  return window === null ? blocksOf(tokens) : Math.min(blocksOf(tokens), blocksOf(window) + 1);
}
