/**
 * Dequantize-then-attend, the baseline for attention on the codes: one dispatch expands the compressed cache to f16,
 * then the f16 kernels attend to it. Implemented as well as possible: only what the step attends to is expanded, once
 * for all query heads, into one buffer that all layers share. Only `webgpu-timer.ts` uses it.
 */
import { type Cache, PAGE_SLOTS } from "../../device/contract.ts";
import { attendDispatches } from "../../device/webgpu/attend.ts";
import { type AttendOptions, isCacheRotated, visible } from "../../device/webgpu/attend-options.ts";
import type { Dispatch, PlannedBuffer } from "../../device/webgpu/dispatch.ts";
import { kvConstants, kvFormat } from "../../device/webgpu/kv.ts";
import { packParams } from "../../device/webgpu/params.ts";

/** Formats that dequantizeKv.wgsl supports. */
export const EXPANDABLE: readonly string[] = ["int4", "rq4"];

export interface Expanded {
  /** f16, over the same pool. */
  readonly cache: Cache;
  readonly keys: PlannedBuffer;
  readonly values: PlannedBuffer;
}

/** The dispatches of attendDispatches for the expanded cache, after its expansion. */
export function attendDequantized(options: AttendOptions, expanded: Expanded): Dispatch[] {
  const attend = attendDispatches({
    ...options,
    cache: expanded.cache,
    cacheKeys: expanded.keys,
    cacheValues: expanded.values,
    // Expanded rq4 stays rotated: rotating every key back would cost far more than rotating the query.
    cacheRotated: isCacheRotated(options),
  });
  return [dequantizeDispatch(options, expanded), ...attend];
}

type Source = Pick<AttendOptions, "cache" | "cacheKeys" | "cacheValues" | "batch" | "table">;

function dequantizeDispatch(source: Source, { keys, values }: Expanded): Dispatch {
  const { cache, cacheKeys, cacheValues, batch, table } = source;
  const { codec, kvHeads, headDim, pool } = cache;
  const { HEAD_DIM, RQ4, BLOCK_WORDS, SCALES_AT } = kvConstants(kvFormat(codec.name), headDim);
  return {
    label: "dequantizeKv",
    kernel: { kernel: "dequantizeKv", values: { HEAD_DIM, RQ4, BLOCK_WORDS, SCALES_AT } },
    params: packParams("dequantizeKv", { kvHeads, table, window: pool.window ?? 0 }),
    buffers: { keys: cacheKeys, values: cacheValues, keysOut: keys, valuesOut: values, batch },
    // One run.
    workgroups({ tokens, singles, longs }) {
      const [{ position }] = [...longs, ...singles];
      const seen = visible(source, { position, tokens, packed: 0 });
      return [Math.ceil(seen / PAGE_SLOTS), kvHeads, 2];
    },
  };
}
