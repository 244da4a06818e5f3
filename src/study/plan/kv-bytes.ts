/** The size of a plan's caches in any format, for comparing. A codec gives the size of a page. */
import { FORMAT_NAMES, layerFormats } from "../../cache/format-layers.ts";
import { blocksOf, packingOf, recentPages, recentWindow, textPages } from "../../cache/layers.ts";
import { type Cache, type KvCodec, type KvPart, PAGE_SLOTS } from "../../device/contract.ts";
import { heldDim } from "../../device/kv.ts";
import { tokenBytes } from "../../device/page-bytes.ts";
import type { Plan } from "../../engine/plan.ts";

/** Bytes of all caches in `format`, of all texts together. */
export function kvBytes({ graph, cacheTokens, parallel }: Plan, format: string): number {
  const held = cachesIn(graph.caches, format);
  const packing = packingOf(held.map(({ codec }) => codec));
  const needs = { cacheTokens, texts: parallel, maxTokens: graph.maxTokens };
  const recent = packing ? recentPages(packing, needs) * PAGE_SLOTS : 0;
  return held.reduce(
    (sum, { cache, codec }) =>
      sum +
      cache.pool.pages * PAGE_SLOTS * layerTokenBytes(cache, codec) +
      recent * recentBytes(cache, codec),
    0,
  );
}

/** Layers that hold the same number of tokens: `tokens` of a text take min(tokens, capacity) times tokenBytes. */
export interface KvRate {
  /** Token slots of each layer that one text may fill. */
  readonly capacity: number;
  /** A token's keys and values in all these layers. */
  readonly tokenBytes: number;
  readonly tokenBytesF16: number;
}

/** From this a page computes the size of a text's caches, without asking for each token. */
export function kvRates({ graph, kv, context }: Plan): KvRate[] {
  const held = cachesIn(graph.caches, kv);
  const sum = (of: typeof held, bytes: (cache: Cache, codec: KvCodec) => number) =>
    of.reduce((all, { cache, codec }) => all + bytes(cache, codec), 0);
  const rates = graph.pools
    .filter((pool) => pool !== graph.recentPool)
    .map((pool) => {
      const own = held.filter(({ cache }) => cache.pool === pool);
      const capacity = textPages(pool.window, context) * PAGE_SLOTS;
      const tokenBytesF16 = sum(own, (cache) => tokenKvBytes(cache, "f16"));
      return { capacity, tokenBytes: sum(own, layerTokenBytes), tokenBytesF16 };
    });
  const packing = packingOf(held.map(({ codec }) => codec));
  if (!packing) return rates;
  // First and newest tokens, once more unpacked.
  const pages = textPages(recentWindow(packing.recentTokens), context) + packing.firstPages;
  const capacity = Math.min(blocksOf(context), pages) * PAGE_SLOTS;
  return [...rates, { capacity, tokenBytes: sum(held, recentBytes), tokenBytesF16: 0 }];
}

/** The size of a text's caches in each named format. */
export function ratesByFormat(plan: Plan): { readonly name: string; readonly rates: readonly KvRate[] }[] {
  return FORMAT_NAMES.map((name) => ({ name, rates: kvRates({ ...plan, kv: name }) }));
}

/** One token's keys and values in one layer; for a page, its share. */
export function tokenKvBytes(cache: Cache, format: string): number {
  const [{ codec }] = cachesIn([cache], format);
  return layerTokenBytes(cache, codec);
}

interface Held {
  readonly cache: Cache;
  readonly codec: KvCodec;
}

function cachesIn(caches: readonly Cache[], format: string): Held[] {
  const formats = layerFormats(format);
  const count = 1 + Math.max(...caches.map(({ layer }) => layer));
  return caches.map((cache) => {
    const isSliding = cache.pool.window !== null;
    return { cache, codec: formats.of({ index: cache.layer, count, isSliding }) };
  });
}

function layerTokenBytes(cache: Cache, codec: KvCodec): number {
  return cache.kvHeads * tokenBytes({ ...cache, codec });
}

function recentBytes(cache: Cache, codec: KvCodec): number {
  const bytes = (part: KvPart) => codec.vectorBytes(heldDim(cache, part));
  return codec.packed ? cache.kvHeads * (bytes("keys") + bytes("values")) : 0;
}
