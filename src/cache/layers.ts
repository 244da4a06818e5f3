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

/** Number of packed blocks of a text with N tokens: those followed by at least `recent` tokens. */
export function packedBlocks(recent: number, tokens: number): number {
  return Math.max(0, Math.floor((tokens - recent) / PAGE_SLOTS));
}

/** Which tokens of a text are stored unpacked: its first and newest ones. */
export interface RecentTokens {
  readonly pool: number;
  /** A packed block is followed by at least this many blocks. */
  readonly tokens: number;
  /** Number of blocks at the beginning that are never packed. */
  readonly first: number;
}

/** null: no cache packs. */
export function recentOf({ recent, caches }: Graph): RecentTokens | null {
  const kept = packingOf(caches.map(({ codec }) => codec));
  return recent && kept && { pool: recent.id, tokens: kept.recent, first: kept.first };
}

/** Tokens that codecs keep unpacked, the maximum; null: none of them packs. */
export function packingOf(codecs: readonly KvCodec[]): Pick<Packing, "recent" | "first"> | null {
  const packings = codecs.flatMap(({ packed }) => packed ?? []);
  if (packings.length === 0) return null;
  const most = (of: (packing: Packing) => number) => Math.max(...packings.map(of));
  return { recent: most(({ recent }) => recent), first: most(({ first }) => first) };
}

/** The window of a sliding layer that keeps the same number of pages of a text. */
export function recentWindow(recent: number): number {
  return recent + PAGE_SLOTS;
}

/** For this many tokens of finished texts, the first blocks of one text stay known. */
const TOKENS_OF_FIRST = 8192;

/**
 * Pages of unpacked vectors: a text has those of its newest tokens, like a sliding one those of its window, and those
 * of its first blocks.
 */
export function recentPages({ recent, first }: Pick<Packing, "recent" | "first">, needs: PoolNeeds): number {
  const { cacheTokens, texts } = needs;
  const firsts = first * (texts + Math.ceil(cacheTokens / TOKENS_OF_FIRST));
  return Math.min(blocksOf(cacheTokens), poolPages(recentWindow(recent), needs) + firsts);
}

/** Pages of one idle text: a window may begin and end within one. */
export function textPages(window: number | null, tokens: number): number {
  return window === null ? blocksOf(tokens) : Math.min(blocksOf(tokens), blocksOf(window) + 1);
}
