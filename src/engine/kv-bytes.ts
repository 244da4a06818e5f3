/**
 * What the caches of a plan weigh in any format, also one that is not theirs, for comparing. Owns no layout: a codec says
 * what a head vector takes.
 */
import { kvCodec } from "../cache/codecs.ts";
import type { Cache } from "../device/contract.ts";
import type { Plan } from "./plan.ts";

/** Bytes of all caches in `format`, of all sessions together. */
export function kvBytes({ graph, sessions }: Plan, format: string): number {
  const ofOne = graph.caches.reduce((sum, cache) => sum + cache.capacity * tokenKvBytes(cache, format), 0);
  return sessions * ofOne;
}

/** Layers that hold equally many tokens: `tokens` of them held take min(tokens, capacity) times tokenBytes. */
export interface KvRate {
  /** Token slots of each layer. */
  readonly capacity: number;
  /** A token's keys and values in all these layers. */
  readonly tokenBytes: number;
  readonly tokenBytesF16: number;
}

/** From which a page tells what a session's caches hold, without asking for each token. */
export function kvRates(plan: Plan): KvRate[] {
  const rates = new Map<number, KvRate>();
  for (const cache of plan.graph.caches) {
    const { capacity } = cache;
    const { tokenBytes = 0, tokenBytesF16 = 0 } = rates.get(capacity) ?? {};
    rates.set(capacity, {
      capacity,
      tokenBytes: tokenBytes + tokenKvBytes(cache, plan.kv),
      tokenBytesF16: tokenBytesF16 + tokenKvBytes(cache, "f16"),
    });
  }
  return [...rates.values()];
}

/** One token's keys and values in one layer. */
export function tokenKvBytes(cache: Cache, format: string): number {
  return 2 * cache.kvHeads * kvCodec(format).vectorBytes(cache.headDim);
}
