/**
 * How many pages the caches of a kind of layer need. A full layer keeps every token of every text; a sliding layer
 * gives back pages that no later query attends to. Pure.
 */
import { type Graph, type KvCodec, PAGE_SLOTS, type Packing } from "../device/contract.ts";

export interface PoolNeeds {
  /** Token slots for all texts together, in whole pages. */
  readonly cacheTokens: number;
  /** Texts at once. */
  readonly texts: number;
  /** Maximum tokens of one step. */
  readonly maxTokens: number;
}

/** Number of blocks for `tokens` tokens. */
export function blocksOf(tokens: number): number {
  return Math.ceil(tokens / PAGE_SLOTS);
}

/**
 * window: null for a full layer. A sliding text keeps what the first row of a step attends to and the step's rows: its
 * window may begin within a page, and its rows end within one. One additional text, so that prefixes of finished texts
 * stay for others.
 */
export function poolPages(window: number | null, { cacheTokens, texts, maxTokens }: PoolNeeds): number {
  const all = blocksOf(cacheTokens);
  if (window === null) return all;
  return Math.min(all, (texts + 1) * (blocksOf(window) + 1) + blocksOf(maxTokens) + texts);
}

/** Number of packed blocks of a text with N tokens: those followed by at least `recentTokens` tokens. */
export function packedBlocks(recentTokens: number, tokens: number): number {
  return Math.max(0, Math.floor((tokens - recentTokens) / PAGE_SLOTS));
}

/** Which pages of a text are stored unpacked: its first and newest ones. */
export interface RecentPages {
  readonly pool: number;
  /** A packed block is followed by at least this many tokens. */
  readonly tokens: number;
  /** Number of pages at the beginning that are never packed. */
  readonly firstPages: number;
}

/** null: no cache packs. */
export function recentOf({ recentPool, caches }: Graph): RecentPages | null {
  const kept = packingOf(caches.map(({ codec }) => codec));
  return (
    recentPool && kept && { pool: recentPool.id, tokens: kept.recentTokens, firstPages: kept.firstPages }
  );
}

/** What a packed cache keeps unpacked of each text. */
type UnpackedTokens = Pick<Packing, "recentTokens" | "firstPages">;

/** Tokens that codecs keep unpacked, the maximum; null: none of them packs. */
export function packingOf(codecs: readonly KvCodec[]): UnpackedTokens | null {
  const packings = codecs.flatMap(({ packed }) => packed ?? []);
  if (packings.length === 0) return null;
  const most = (of: (packing: Packing) => number) => Math.max(...packings.map(of));
  return {
    recentTokens: most(({ recentTokens }) => recentTokens),
    firstPages: most(({ firstPages }) => firstPages),
  };
}

/** The window of a sliding layer that keeps the same number of pages of a text. */
export function recentWindow(recentTokens: number): number {
  return recentTokens + PAGE_SLOTS;
}

/** For this many tokens of finished texts, the first pages of one text stay known. */
const TOKENS_OF_FIRST = 8192;

/**
 * Pages of unpacked vectors: a text has those of its newest tokens, like a sliding one those of its window, and those
 * of its first pages.
 */
export function recentPages({ recentTokens, firstPages }: UnpackedTokens, needs: PoolNeeds): number {
  const { cacheTokens, texts } = needs;
  const firsts = firstPages * (texts + Math.ceil(cacheTokens / TOKENS_OF_FIRST));
  return Math.min(blocksOf(cacheTokens), poolPages(recentWindow(recentTokens), needs) + firsts);
}

/** Pages of one idle text: a window may begin and end within one. */
export function textPages(window: number | null, tokens: number): number {
  return window === null ? blocksOf(tokens) : Math.min(blocksOf(tokens), blocksOf(window) + 1);
}
