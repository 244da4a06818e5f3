/**
 * How many pages the caches of a kind of layer need. A full layer holds every token of every text; a sliding layer gives
 * pages back that no later query sees. Pure.
 */
import { type Graph, type KvCodec, PAGE_SLOTS, type Packing } from "../device/contract.ts";

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
 * Blocks of a text that are packed when it has N tokens in front of its next: those that at least `recent` tokens
 * follow.
 */
export function packedBlocks(recent: number, tokens: number): number {
  return Math.max(0, Math.floor((tokens - recent) / PAGE_SLOTS));
}

/** Where a text's first and newest tokens lie as they came. */
export interface RecentTokens {
  readonly pool: number;
  /** At least this many blocks follow one that is packed. */
  readonly tokens: number;
  /** How many blocks at the beginning are never packed. */
  readonly first: number;
}

/** null: no cache packs. */
export function recentOf({ recent, caches }: Graph): RecentTokens | null {
  const kept = packingOf(caches.map(({ codec }) => codec));
  return recent && kept && { pool: recent.id, tokens: kept.recent, first: kept.first };
}

/** Tokens that codecs keep as they came, the most of any; null: none of them packs. */
export function packingOf(codecs: readonly KvCodec[]): Pick<Packing, "recent" | "first"> | null {
  const packings = codecs.flatMap(({ packed }) => packed ?? []);
  if (packings.length === 0) return null;
  const most = (of: (packing: Packing) => number) => Math.max(...packings.map(of));
  return { recent: most(({ recent }) => recent), first: most(({ first }) => first) };
}

/** The window of a sliding layer that holds as many pages of a text. */
export function recentWindow(recent: number): number {
  return recent + PAGE_SLOTS;
}

/** Tokens of texts that ended for each of which the first blocks stay known. */
const TOKENS_OF_FIRST = 8192;

/**
 * Pages of vectors as they come: a text holds those of its newest tokens, as a sliding one those of its window, and those of
 * its first blocks.
 */
export function recentPages({ recent, first }: Pick<Packing, "recent" | "first">, needs: PoolNeeds): number {
  const { cacheTokens, texts } = needs;
  const firsts = first * (texts + Math.ceil(cacheTokens / TOKENS_OF_FIRST));
  return Math.min(blocksOf(cacheTokens), poolPages(recentWindow(recent), needs) + firsts);
}

/** Pages of one text at rest: a window may begin and end within one. */
export function textPages(window: number | null, tokens: number): number {
  return window === null ? blocksOf(tokens) : Math.min(blocksOf(tokens), blocksOf(window) + 1);
}
