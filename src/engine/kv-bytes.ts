/**
 * What the caches of a plan weigh in any format, also one that is not theirs, for comparing. Owns no layout: a codec says
 * what a head vector takes.
 */
import { kvCodec } from "../cache/codecs.ts";
import { textPages } from "../cache/layers.ts";
import { type Cache, PAGE_SLOTS } from "../device/contract.ts";
import type { Plan } from "./plan.ts";

/** Bytes of all caches in `format`, of all texts together. */
export function kvBytes({ graph }: Plan, format: string): number {
  return graph.caches.reduce(
    (sum, cache) => sum + cache.pool.pages * PAGE_SLOTS * tokenKvBytes(cache, format),
    0,
  );
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
  return graph.pools.map((pool) => {
    const caches = graph.caches.filter((cache) => cache.pool === pool);
    const tokenBytes = (format: string) =>
      caches.reduce((sum, cache) => sum + tokenKvBytes(cache, format), 0);
    return {
      capacity: textPages(pool.window, context) * PAGE_SLOTS,
      tokenBytes: tokenBytes(kv),
      tokenBytesF16: tokenBytes("f16"),
    };
  });
}

/** One token's keys and values in one layer. */
export function tokenKvBytes(cache: Cache, format: string): number {
  return 2 * cache.kvHeads * kvCodec(format).vectorBytes(cache.headDim);
}
