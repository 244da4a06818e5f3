/**
 * The dispatch of attendDecode: queries of single rows, each over its text's pages divided into spans of positions.
 * Chooses the kernel for a cache and a device, and divides heads within the limits of registers and workgroup memory.
 * attend-spans.ts defines the spans, kv.ts the layout.
 */

import type { Cache } from "../contract.ts";
import { heldDim } from "../kv.ts";
import { type AttendOptions, partConstants, scaling, visible } from "./attend-options.ts";
import { mostSpans, type Spans } from "./attend-spans.ts";
import type { Dispatch } from "./dispatch.ts";
import { attendConstants, bufferTokenBytes, isChannel, kvConstants, kvGroups, kvLayout } from "./kv.ts";
import { packParams } from "./params.ts";

/** A kernel for one token's queries. */
interface DecodeKernel {
  readonly kernel:
    | "attendDecode"
    | "attendDecodeF16"
    | "attendDecodeFloat"
    | "attendDecodeMatrix"
    | "attendDecodePacked"
    | "attendDecodeWide"
    | "attendDecodeMatrix8";
  /** It adds up by lib/lanes, with subgroups or without; the others multiply matrices with subgroups of 32. */
  readonly reduces: boolean;
  /** Positions that are processed at once; spans are multiples of it. */
  readonly tile: number;
  /** Workgroups that share a KV head's query heads. */
  readonly sets: number;
  /** Workgroups that a long context is divided into. */
  readonly workgroups: number;
  readonly values: Readonly<Record<string, number | boolean>>;
}

/**
 * Integer dot products for 4-bit caches, f32 arithmetic for f16. The heads of a workgroup are bounded by registers (8)
 * and by the 16 KiB of workgroup memory that every device has. It holds the queries, and for each head and token an f32
 * score or a byte for each group of dims. A tile is 128 tokens, a thread for each: 16 -> 14 us at 1K and 149 -> 143 us
 * at 128K, compared to 256 (H100, int4, 2026-11-23, bench row attendDecode). 528 workgroups are four on each of 132
 * cores; 128K tokens, 64/8 heads of 128: int4 195 us with 264, 143 with 528, 150 with 1056; f16 320 and 249.
 */
function plainKernel(cache: Cache, group: number): DecodeKernel {
  const { codec, headDim } = cache;
  const layout = kvLayout(codec, "keys");
  const most = layout === "f16" ? Math.floor(1024 / headDim) : plainHeads(cache);
  const sets = Math.ceil(group / Math.min(8, most));
  const common = { reduces: true, tile: 128, sets, workgroups: 528 };
  const values = { HEADS: Math.ceil(group / sets), TILE: common.tile };
  if (layout === "f16") return { kernel: "attendDecodeF16", ...common, values: { ...values, BATCH: 4 } };
  // Codes of 3 bits are stored so that 4 dims are read at once.
  const dims = headDim > 64 || kvLayout(codec, "values") === "rq3" ? 4 : 2;
  return {
    kernel: "attendDecode",
    ...common,
    values: { ...values, DIMS: dims, AHEAD: Math.min(4, kvGroups(heldDim(cache, "keys"))) },
  };
}

/** Heads of a workgroup that reads codes. */
function plainHeads({ codec, headDim, turned }: Cache): number {
  const groups = kvGroups(headDim);
  const byChannel = isChannel(kvLayout(codec, "keys"));
  // If keys are scaled by channel, queries for each page of a tile take the place of half the heads.
  if (turned === 0) return Math.floor((byChannel ? 32 : 64) / groups);
  // For one vector as key and value: what attendDecode.wgsl declares, in words of 16 bytes.
  const [pages, keyGroups] = [byChannel ? 4 : 1, kvGroups(turned)];
  const words = (heads: number) => {
    const weights = kvLayout(codec, "values") === "int4" ? heads * groups * 9 : 0;
    const tile = Math.max(136 * Math.ceil(heads / 4), weights, groups * 32, heads * groups * 8, 512);
    const queries = heads * (2 * (keyGroups * pages + groups) + (byChannel ? 0 : keyGroups) + groups);
    return tile + queries + (heads * (keyGroups * pages * 8 + groups * 32 + 4)) / 16;
  };
  // Less the memory through which lanes exchange values if there are no subgroups.
  const room = 16_384 / 16 - 32;
  return [8, 7, 6, 5, 4, 3, 2].find((heads) => words(heads) <= room) ?? 1;
}

/**
 * Float arithmetic, for 4-bit caches. For each head and group of dims, workgroup memory holds a group of queries (if
 * keys are scaled by channel, one for each page of a tile) and the weights of a tile's tokens: 32 of both, and the
 * scores, in 16 KiB. A thread computes one dim or two.
 */
function floatKernel({ codec, headDim, turned }: Cache, group: number): DecodeKernel {
  const groups = kvGroups(headDim);
  // One vector for key and value: queries have more groups, and values are transposed in the memory of the weights.
  const fits = (heads: number) => {
    const pages = isChannel(kvLayout(codec, "keys")) ? 2 : 1;
    const isInt4 = kvLayout(codec, "values") === "int4";
    const asked = heads * (kvGroups(turned) * pages + groups) * 9;
    const weighed = Math.max(heads * (isInt4 ? groups : 1) * 16, Math.min(4, groups) * 64);
    return asked + weighed + heads * (16 + (isInt4 ? groups : 1) * 2) + 66 <= 16_384 / 16;
  };
  const most =
    turned > 0 ? ([8, 6, 4, 3, 2].find(fits) ?? 1) : Math.max(1, Math.min(8, Math.floor(32 / groups)));
  const sets = Math.ceil(group / most);
  const workgroup = groups <= 4 ? 64 : groups <= 8 ? 128 : 256;
  const values = { HEADS: Math.ceil(group / sets), TILE: 64, WORKGROUP: workgroup };
  return { kernel: "attendDecodeFloat", reduces: true, tile: 64, sets, workgroups: 1056, values };
}

/**
 * Subgroup matrices, for 4-bit caches. Twelve workgroups on each core, as many as its memory holds: 64/8 heads of 128,
 * rq4 at 128K tokens, 73 us with 1584, 79 with 1056, 95 with 1848 (H100, 2026-11-23, lab/kernels/attendDecode, v9).
 */
function matrixKernel(group: number): DecodeKernel {
  const sets = Math.ceil(group / 8);
  return { kernel: "attendDecodeMatrix", reduces: false, tile: 32, sets, workgroups: 1584, values: {} };
}

/**
 * As matrixKernel, for packed pages. After 131,072 tokens: 98 us with 1,056 workgroups, 90 with 1,584, 131 with 1,716
 * (H200, kv4).
 */
function packedKernel(group: number): DecodeKernel {
  return { ...matrixKernel(group), kernel: "attendDecodePacked" };
}

/**
 * Subgroup matrices for larger heads, and for one vector as key and value: 128 dims for each subgroup, codes of 4 bits.
 * Time of a layer after 131,072 tokens on an H200, kv4, with attendDecode's integer dot products and with this kernel:
 * Gemma 4 31B's full layers (32/4 heads of 512, one vector) 680 and 215 us with 264 workgroups (284 with 396); Qwen's
 * 24/4 heads of 256 232 and 100 us with 792 (112 with 528). A window of 1,024 tokens is too short for it: 22 and 25 us.
 * Returns null for windows, for codes of 3 bits, and if its subgroups cannot have the same number of groups of 32 dims,
 * which is so for no head size of a model.
 */
function wideKernel({ codec, headDim, turned, pool }: Cache, group: number): DecodeKernel | null {
  const SPLIT = Math.ceil(headDim / 128);
  const { keys, values } = codec.packed ?? {};
  const hasPlanes = keys?.bits === 3 || values?.bits === 3;
  if (pool.window || hasPlanes || SPLIT > 4 || headDim % (32 * SPLIT) > 0 || turned % (32 * SPLIT) > 0)
    return null;
  const workgroups = SPLIT > 2 ? 264 : 792;
  return {
    ...matrixKernel(group),
    ...{ kernel: "attendDecodeWide", workgroups },
    values: { SPLIT, TURNED: turned },
  };
}

/**
 * Subgroup matrices of 8x8x8, for the same caches; never measured. As many workgroups as for matrixKernel, whose memory
 * and registers are similar.
 */
function matrix8Kernel(group: number): DecodeKernel {
  return { ...matrixKernel(group), kernel: "attendDecodeMatrix8" };
}

function kernelOf({ traits, cache, heads, plain }: AttendOptions): DecodeKernel {
  const { kvHeads, headDim } = cache;
  const group = heads / kvHeads;
  const layout = kvLayout(cache.codec, "keys");
  // Time with 64/8 heads of 128 at 128K tokens, int4 / rq4, us: matrices 91 / 76 (bench rows attendDecode of
  // h100.jsonl), integer dot products 145 / 112 (lab/kernels/attendDecode, v4). A subgroup's registers hold heads of up
  // to 128 dims.
  const isCoded = layout !== "f16" && !plain;
  const fits = isCoded && headDim <= 128 && cache.turned === 0;
  if (traits.matrices && traits.subgroup === 32 && isCoded) {
    if (fits) return isChannel(layout) ? packedKernel(group) : matrixKernel(group);
    const wide = wideKernel(cache, group);
    if (wide) return wide;
  }
  if (traits.matrices8 && fits) return matrix8Kernel(group);
  return traits.floats && layout !== "f16" ? floatKernel(cache, group) : plainKernel(cache, group);
}

/** The spans that attendDecode's kernel needs; other rows of the step use the same. */
export function decodeSpans(options: AttendOptions): Spans {
  const { tile, sets, workgroups } = kernelOf(options);
  return mostSpans(
    options,
    tile,
    Math.round((options.workgroups ?? workgroups) / (options.cache.kvHeads * sets)),
  );
}

export function attendDecode(options: AttendOptions, spans: Spans): Dispatch {
  const { traits, cache, heads, scale, softcap } = options;
  const { kvHeads, pool } = cache;
  const { kernel, reduces, sets, values } = kernelOf(options);
  const bytes = bufferTokenBytes(cache);
  return {
    // A separate label, because the GPU runs one part after the other.
    label: options.part === "recent" ? "attendDecode recent" : "attendDecode",
    kernel: {
      kernel,
      libs: reduces ? { lanes: traits.subgroup === null ? "shared" : "subgroup" } : {},
      values: {
        GROUP: heads / kvHeads,
        ...(kernel === "attendDecodeF16" ? kvConstants("f16", cache.headDim) : attendConstants(cache)),
        ...(reduces ? { TURNED: cache.turned } : {}),
        MOST_SPANS: spans.most,
        ...partConstants(options),
        HAS_SOFTCAP: softcap > 0,
        ...(reduces ? { SUBGROUP: traits.subgroup ?? 1 } : {}),
        ...values,
      },
    },
    params: packParams(kernel, {
      ...{ kvHeads, table: options.table, window: pool.window ?? 0 },
      ...scaling(scale, softcap),
    }),
    buffers: {
      queries: options.queries,
      keys: options.cacheKeys,
      values: options.cacheValues,
      partials: spans.partials,
      batch: options.batch,
    },
    workgroups(step) {
      const { singles } = step;
      if (singles.length === 0) return null;
      let most = 0;
      for (const row of singles) most = Math.max(most, spans.count(row, step));
      // One part of a packed cache may be empty.
      return most === 0 ? null : [most, kvHeads * sets, singles.length];
    },
    bytes: ({ singles }) => singles.reduce((sum, row) => sum + bytes * visible(options, row), 0),
  };
}
