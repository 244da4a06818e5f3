/**
 * The dispatch of packKv: encodes the blocks that a step packs, from the vectors that were appended as f16. kv.ts
 * defines the layouts.
 */
import { PAGE_SLOTS } from "../contract.ts";
import { heldDim } from "../kv.ts";
import type { CacheBuffers } from "./attend-options.ts";
import type { Dispatch, PlannedBuffer } from "./dispatch.ts";
import { bufferTokenBytes, kvBlock, layoutConstants } from "./kv.ts";
import { packParams } from "./params.ts";

/** from: the vectors that are not packed yet; to: the packed pages of the same layer. */
export function packDispatch(from: CacheBuffers, to: CacheBuffers, batch: PlannedBuffer): Dispatch {
  const { cache } = to;
  const { kvHeads, headDim, pool } = cache;
  const keyDim = heldDim(cache, "keys");
  const bytes = PAGE_SLOTS * (bufferTokenBytes(cache) + bufferTokenBytes(from.cache));
  return {
    label: "packKv",
    kernel: {
      kernel: "packKv",
      values: {
        KV_HEADS: kvHeads,
        HEAD_DIM: headDim,
        KEY_DIM: keyDim,
        BLOCK_WORDS: kvBlock("f16", headDim).words,
        KEY_BLOCK_WORDS: kvBlock("f16", keyDim).words,
        ...layoutConstants(cache),
      },
    },
    params: packParams("packKv", {
      table: to.table,
      recentTable: from.table,
      window: pool.window ?? 0,
    }),
    buffers: {
      recentKeys: from.cacheKeys,
      recentValues: from.cacheValues,
      keys: to.cacheKeys,
      values: to.cacheValues,
      batch,
    },
    workgroups: ({ packs }) => (packs === 0 ? null : [packs, 2 * kvHeads, 1]),
    bytes: ({ packs }) => packs * bytes,
  };
}
