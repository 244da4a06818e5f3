/**
 * Spans of positions, which workgroups of their own attend to, and attendMerge, which joins them. Owns how many there are
 * (mirrored by lib/spans.wgsl) and the buffer of what they found.
 */
import { type AttendOptions, rotates, visible } from "./attend-options.ts";
import type { Buffer, Dispatch, StepShape } from "./dispatch.ts";
import { FORM_IDS, factorsAt } from "./forms.ts";
import { packParams } from "./wgsl.ts";

export interface Spans {
  /** Positions at a time: spans are multiples of it. */
  readonly tile: number;
  /** Of a row that is the only one in a step. */
  readonly most: number;
  /** [rows][heads][spans] of a head's sums, maximum, total and two zeros, f32. */
  readonly partials: Buffer;
  /** In a step, of rows at `from` to `to` that share them. */
  count(from: number, to: number, step: StepShape): number;
}

/** attendMerge looks at every span with a thread of its own, of as many as its workgroup memory allows. */
const mergeThreads = (headDim: number) => (headDim > 256 ? 128 : 256);

/**
 * Spans of all rows of a step in which rows share them: a third more, as their workgroups are larger, but no more than fill the
 * device by themselves. 8 rows of one text after 32K tokens, 64/8 heads of 128, int4, 8 layers on an H200: alone 1,262 us, sharing
 * 198 spans 1,132, 264 spans 910, 396 spans 969 (2026-11-28, bench rows `step`).
 */
const sharedRoom = (most: number) => most + Math.floor(most / 3);

/** wanted: spans of one row that fill the device. */
export function mostSpans(options: AttendOptions, tile: number, wanted: number): Spans {
  const { cache, heads, maxSpanned } = options;
  const { headDim } = cache;
  const mostTiles = Math.ceil(visible(cache, options.mostPositions - 1).count / tile) + 1;
  const most = Math.min(mostTiles, mergeThreads(headDim), Math.max(1, wanted));
  return {
    tile,
    most,
    partials: options.scratch("partials", heads * Math.max(sharedRoom(most), maxSpanned) * (headDim + 4) * 4),
    count(from, to, { spanned, singles }) {
      const shares = spanned > singles.length;
      const room = shares ? Math.min(sharedRoom(most) / spanned, most / 6) : most / spanned;
      const places = Math.max(1, Math.floor(room));
      const tiles = Math.ceil((to + 1 - visible(cache, from).first) / tile);
      return Math.ceil(tiles / Math.ceil(tiles / places));
    },
  };
}

/** The rows' outputs from what their spans found. */
export function attendMerge(options: AttendOptions, { tile, most, partials }: Spans): Dispatch {
  const { traits, cache, heads, form } = options;
  const { headDim, pool } = cache;
  return {
    label: "attendMerge",
    kernel: {
      kernel: "attendMerge",
      libs: { lanes: traits.subgroup === null ? "shared" : "subgroup" },
      values: {
        HEAD_DIM: headDim,
        TILE: tile,
        MOST_SPANS: most,
        SUBGROUP: traits.subgroup ?? 1,
        ROTATE: rotates(options),
        HAS_SINKS: options.sinks !== null,
        OUT_FORM: FORM_IDS[form],
      },
    },
    params: packParams("attendMerge", {
      heads,
      window: pool.window ?? 0,
      outGroups: (heads * headDim) / 32,
      factorsAt: factorsAt(options.maxTokens, heads * headDim) / 4,
    }),
    buffers: { partials, out: options.out, batch: options.batch, sinks: options.sinks ?? partials },
    workgroups: ({ spanned }) => (spanned === 0 ? null : [heads, spanned, 1]),
  };
}
