/**
 * The dispatch of appendKv: the constants for a cache, and which vectors are normed, turned and rotated before they are
 * stored. kv.ts defines the layout, the kernel the codes.
 */
import type { CacheBuffers } from "./attend-options.ts";
import type { Dispatch, PlannedBuffer } from "./dispatch.ts";
import type { View } from "./forms.ts";
import { bufferTokenBytes, vectorConstants } from "./kv.ts";
import { packParams } from "./params.ts";

/** Rows of head vectors before norm and RoPE, each optional. */
export interface Heads {
  readonly view: View;
  readonly norm: { readonly weight: PlannedBuffer | null; readonly epsilon: number } | null;
  /** For a cache with one vector for key and value: the dispatch also computes takeTurned. Default: false. */
  readonly takes?: boolean;
}

/** The views of keys, values and queries are whole rows, or splits of one product. */
export interface AppendOptions extends CacheBuffers {
  readonly keys: Heads;
  /** epsilon: for a norm of each head without a weight; null: no norm. */
  readonly values: { readonly view: View; readonly epsilon: number | null };
  /**
   * angles: [maxTokens, 2, pairs] f32, cosines then sines, times the rope's magnitude. Keys and queries use the same.
   */
  readonly rope: { readonly angles: PlannedBuffer; readonly pairs: number } | null;
  /**
   * Queries that are normed and turned in this dispatch; out: [tokens, heads, headDim] f32. If `takes` is set: [tokens,
   * heads, keyDim of the cache], for each head its rotary dims, then all dims times the weight of the keys' norm.
   */
  readonly queries: (Heads & { readonly heads: number; readonly out: PlannedBuffer }) | null;
  readonly batch: PlannedBuffer;
  /** 16 bytes, bound as a uniform if there is no norm weight. */
  readonly spare: PlannedBuffer;
  /** A new activation, bound if no queries are written. */
  scratch(label: string, bytes: number): PlannedBuffer;
}

/** Buffers of norm weights are bound as uniforms. */
export function appendDispatch(options: AppendOptions): Dispatch {
  const { cache, keys, values, rope, queries, spare } = options;
  const { splits } = keys.view;
  const { kvHeads, headDim } = cache;
  const heads = queries?.heads ?? 0;
  const from = queries?.view ?? keys.view;
  const words = (norm: Heads["norm"] | undefined) => (norm?.weight ? headDim / 4 : 1);
  return {
    label: "appendKv",
    kernel: {
      kernel: "appendKv",
      values: {
        HEADS: heads,
        KV_HEADS: kvHeads,
        ...vectorConstants(cache),
        TAKES_KEYS: keys.takes ?? false,
        TAKES_QUERIES: queries?.takes ?? false,
        PAIRS: rope?.pairs ?? 0,
        NORM_KEYS: keys.norm !== null,
        NORM_VALUES: values.epsilon !== null,
        NORM_QUERIES: Boolean(queries?.norm),
        KEY_NORM_WORDS: words(keys.norm),
        QUERY_NORM_WORDS: words(queries?.norm),
        SPLITS: splits?.count ?? 1,
      },
    },
    params: packParams("appendKv", {
      keysAt: keys.view.offset,
      keysStride: keys.view.stride,
      valuesAt: values.view.offset,
      valuesStride: values.view.stride,
      queriesAt: from.offset,
      queriesStride: from.stride,
      table: options.table,
      valueEpsilon: values.epsilon ?? 0,
      keyEpsilon: keys.norm?.epsilon ?? 0,
      queryEpsilon: queries?.norm?.epsilon ?? 0,
      splitStride: splits?.stride ?? 0,
    }),
    buffers: {
      keysIn: keys.view.buffer,
      valuesIn: values.view.buffer,
      queriesIn: from.buffer,
      angles: rope?.angles ?? keys.view.buffer,
      keyNorm: keys.norm?.weight ?? spare,
      queryNorm: queries?.norm?.weight ?? spare,
      keys: options.cacheKeys,
      values: options.cacheValues,
      queries: queries?.out ?? options.scratch("no queries", 16),
      batch: options.batch,
    },
    workgroups: ({ pieces }) => [pieces, 2 * kvHeads + heads, 1],
    bytes: ({ tokens }) => tokens * bufferTokenBytes(cache),
  };
}
