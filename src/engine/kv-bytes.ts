/**
 * What the caches of a plan weigh in any format, also one that is not theirs, for comparing. Owns no layout: a codec says
 * what a head vector takes.
 */
import { kvCodec } from "../cache/codecs.ts";
import { blocksOf, recentPages, recentWindow, textPages } from "../cache/layers.ts";
import { type Cache, PAGE_SLOTS } from "../device/contract.ts";
import { pageBytes } from "../device/page-bytes.ts";
import type { Plan } from "./plan.ts";

/** Bytes of all caches in `format`, of all texts together. */
export function kvBytes({ graph, cacheTokens, parallel }: Plan, format: string): number {
  const { packed } = kvCodec(format);
  const needs = { cacheTokens, texts: parallel, maxTokens: graph.maxTokens };
  const recent = packed ? recentPages(packed, needs) * PAGE_SLOTS : 0;
  const ofCache = (cache: Cache) =>
    cache.pool.pages * PAGE_SLOTS * tokenKvBytes(cache, format) + recent * tokenKvBytes(cache, "f16");
  return graph.caches.reduce((sum, cache) => sum + ofCache(cache), 0);
}

/** Layers that hold equally many tokens: `tokens` of a text take min(tokens, capacity) times tokenBytes. */
export interface KvRate {
  /** Token slots of each layer that one text may fill. */
  readonly capacity: number;
  /** A token's keys and values in all these layers. */
  readonly tokenBytes: number;
  readonly tokenBytesF16: number;
}

/** From which a page tells what a text's caches hold, without asking for each token. */
export function kvRates({ graph, kv, context }: Plan): KvRate[] {
  const bytesOf = (caches: readonly Cache[], format: string) =>
    caches.reduce((sum, cache) => sum + tokenKvBytes(cache, format), 0);
  const rates = graph.pools
    .filter((pool) => pool !== graph.recent)
    .map((pool) => {
      const caches = graph.caches.filter((cache) => cache.pool === pool);
      const capacity = textPages(pool.window, context) * PAGE_SLOTS;
      return { capacity, tokenBytes: bytesOf(caches, kv), tokenBytesF16: bytesOf(caches, "f16") };
    });
  const { packed } = kvCodec(kv);
  if (!packed) return rates;
  // The newest tokens, once more as they came.
  const pages = textPages(recentWindow(packed.recent), context) + packed.first;
  const capacity = Math.min(blocksOf(context), pages) * PAGE_SLOTS;
  return [...rates, { capacity, tokenBytes: bytesOf(graph.caches, "f16"), tokenBytesF16: 0 }];
}

/** One token's keys and values in one layer: of a page, its share. */
export function tokenKvBytes({ kvHeads, headDim }: Cache, format: string): number {
  const codec = kvCodec(format);
  const bytes = pageBytes(codec, headDim, "keys") + pageBytes(codec, headDim, "values");
  return (kvHeads * bytes) / PAGE_SLOTS;
}
