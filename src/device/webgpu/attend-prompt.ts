/**
 * The dispatch of attendPrompt: queries of runs over their texts' pages, all of them or in spans, with subgroup matrices where the
 * device has them. Owns how rows and dims are shared out within the limits of registers and workgroup memory.
 */
import { type AttendOptions, partConstants, scaling, visible } from "./attend-options.ts";
import type { Spans } from "./attend-spans.ts";
import type { Dispatch } from "./dispatch.ts";
import { factorsAt } from "./forms.ts";
import { attendConstants, bufferTokenBytes } from "./kv.ts";
import { packParams } from "./params.ts";

/** Rows of attendPrompt's workgroups: a thread's sums, rows / 8 * groups of 32 dims, stay within 32 registers. */
const promptRows = (headDim: number) => (headDim > 256 ? 16 : headDim > 128 ? 32 : 64);

/**
 * Four subgroups, each with at most 128 dims of 16 rows of sums in registers. Values take the keys' place in workgroup memory, so
 * that two workgroups share a core's: at most 20 KiB up to 256 dims (int4 107 -> 137 TFLOP/s, f16 80 -> 119, heads of 256 53 -> 66;
 * H200, 2026-11-28). null: subgroups that share a row cannot have the same number of matrices of 16 dims, as for no head size of a
 * model; attendPrompt serves.
 */
function matrixShape(headDim: number) {
  if (headDim <= 128) return { ROW_BLOCKS: 4, SPLIT: 1, TOKENS: 32 };
  const shape =
    headDim <= 256 ? { ROW_BLOCKS: 2, SPLIT: 2, TOKENS: 16 } : { ROW_BLOCKS: 1, SPLIT: 4, TOKENS: 16 };
  return headDim % (16 * shape.SPLIT) === 0 ? shape : null;
}

/** spans: of a step of few rows, into their partials. */
export function attendPrompt(options: AttendOptions, spans: Spans | null): Dispatch {
  const { traits, cache, heads, scale, softcap, form } = options;
  // The matrix kernel counts on two lanes for each of a matrix's 16 rows.
  const matrices =
    traits.matrices && traits.subgroup === 32 && !options.plain ? matrixShape(cache.headDim) : null;
  const { kvHeads, headDim, pool } = cache;
  const group = heads / kvHeads;
  const shape = matrices ?? { ROWS: promptRows(headDim) };
  const rows = "ROWS" in shape ? shape.ROWS : shape.ROW_BLOCKS * 16;
  const bytes = bufferTokenBytes(cache);
  const kernel = matrices ? "attendPromptMatrix" : "attendPrompt";
  // In words as wide as those that the kernel writes.
  const factors = factorsAt(options.maxTokens, heads * headDim) / (matrices ? 4 : 1);
  return {
    label: "attendPrompt",
    kernel: {
      kernel,
      values: {
        KV_HEADS: kvHeads,
        GROUP: group,
        ...attendConstants(cache),
        ...shape,
        HAS_SOFTCAP: softcap > 0,
        HAS_SINKS: options.sinks !== null && spans === null,
        OUT_F16: form === "f16" && spans === null,
        SPANS: spans !== null,
        ...(spans && { TILE: spans.tile, MOST_SPANS: spans.most, ...partConstants(options) }),
      },
    },
    params: packParams(kernel, {
      table: options.table,
      window: pool.window ?? 0,
      ...scaling(scale, softcap),
      factorsAt: factors,
    }),
    buffers: {
      queries: options.queries,
      keys: options.cacheKeys,
      values: options.cacheValues,
      out: spans ? spans.partials : options.out,
      batch: options.batch,
      sinks: options.sinks ?? options.queries,
    },
    workgroups(step) {
      const { longs } = step;
      // tileOf of lib/tiles.wgsl counts them alike.
      const tiles = longs.reduce((sum, { tokens }) => sum + Math.ceil((tokens * group) / rows), 0);
      if (tiles === 0) return null;
      const most = Math.max(...longs.map((run) => spans?.count(run, step) ?? 1));
      // Of a packed cache one part may be empty.
      return most === 0 ? null : [tiles, kvHeads, most];
    },
    bytes: ({ longs }) => longs.reduce((sum, run) => sum + bytes * visible(options, run), 0),
  };
}
