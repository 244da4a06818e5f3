/**
 * Spans of positions, each of which workgroups of its own attend to, and attendMerge, which joins their results.
 * Defines how many spans there are (mirrored by lib/spans.wgsl) and the buffer of their results. Each part of a packed
 * cache has its own spans.
 */
import { type Graph, PAGE_SLOTS } from "../contract.ts";
import {
  type AttendOptions,
  type CacheBuffers,
  isCacheRotated,
  type Seeing,
  scaling,
  visible,
} from "./attend-options.ts";
import type { Dispatch, PlannedBuffer, StepShape } from "./dispatch.ts";
import { FORM_IDS, factorsAt } from "./forms.ts";
import { packParams } from "./params.ts";

export interface Spans {
  /** Positions that are processed at once; spans are multiples of it. */
  readonly tile: number;
  /** Spans of a row that is the only one in its step. */
  readonly most: number;
  /** [rows][heads][spans][headDim + 4] f32: a head's sums, maximum, total and two zeros. */
  readonly partials: PlannedBuffer;
  /** Spans of rows that share them, in a step. */
  count(rows: Seeing, step: StepShape): number;
}

/**
 * Threads of attendMerge: one for each span, and rows of them for each four dims. 32/4 heads of 512 after 32,768 tokens,
 * kv4, H200: 82.1 us with 256, 80.1 with 512; smaller heads lose with 512.
 */
const mergeThreads = ({ traits, cache }: AttendOptions) =>
  cache.headDim > 256 && (traits.threads ?? 256) >= 512 ? 512 : 256;

/** Spans among these for the part of a packed cache that is not packed yet. */
const RECENT_SPANS = 32;

/**
 * Spans of all rows in a step in which rows share them: a third more, because their workgroups are larger, but no more
 * than fill the device by themselves. 8 rows of one text after 32K tokens, 64/8 heads of 128, int4, 8 layers on an
 * H200: 1,262 us if each attends alone; sharing 198 spans 1,132, 264 spans 910, 396 spans 969 (2026-11-28, bench rows
 * `step`).
 */
const sharedRoom = (most: number) => most + Math.floor(most / 3);

/** wanted: the spans with which one row fills the device. */
export function mostSpans(options: AttendOptions, tile: number, wanted: number): Spans {
  const { maxSpanned, part = "all" } = options;
  const threads = mergeThreads(options);
  const room = { all: threads, packed: threads - RECENT_SPANS, recent: RECENT_SPANS }[part];
  const spansFor = spansByPositions(options, tile, Math.min(room, Math.max(1, wanted)));
  return spansOf(options, tile, spansFor, maxSpanned);
}

/** The number of spans by the most positions of a text. */
type SpansFor = (mostPositions: number) => number;

function spansByPositions(
  { cache, part = "all", kept, mostUnpacked = Number.POSITIVE_INFINITY }: AttendOptions,
  tile: number,
  most: number,
): SpansFor {
  return (mostPositions) => {
    const positions = Math.min(mostPositions, mostUnpacked);
    const last = { position: positions - 1, packed: part === "packed" ? positions : 0 };
    return Math.min(Math.ceil(visible({ cache, part, kept }, last) / tile) + 1, most);
  };
}

/** Rows of prompts see each part of a packed cache in one span. */
export function oneSpan(options: AttendOptions, tile: number): Spans {
  return spansOf(options, tile, () => 1, options.maxTokens);
}

function spansOf(options: AttendOptions, tile: number, spansFor: SpansFor, rows: number): Spans {
  const { mostPositions, scratch } = options;
  const most = spansFor(mostPositions);
  const bytesFor = partialsBytes(options, spansFor, rows);
  const bytesIn = ({ blocks }: Graph) => bytesFor(blocks * PAGE_SLOTS);
  return {
    tile,
    most,
    partials: scratch("partials", bytesFor(mostPositions), bytesIn),
    count(seeing, { spanned, singles }) {
      const shares = spanned > singles.length;
      const room = shares ? Math.min(sharedRoom(most) / spanned, most / 6) : most / Math.max(1, spanned);
      const spans = Math.max(1, Math.floor(room));
      return Math.min(spans, Math.ceil(visible(options, seeing) / tile));
    },
  };
}

/** Bytes of the results by the most positions of a text. */
function partialsBytes({ heads, cache: { headDim } }: AttendOptions, spansFor: SpansFor, rows: number) {
  return (mostPositions: number) =>
    heads * Math.max(sharedRoom(spansFor(mostPositions)), rows) * (headDim + 4) * 4;
}

/** Computes the rows' outputs from the results of their spans. */
export function attendMerge(options: AttendOptions, { tile, most, partials }: Spans): Dispatch {
  return mergeDispatch(
    options,
    { partials },
    { TILE: tile, MOST_SPANS: most, ROTATE: isCacheRotated(options) },
  );
}

/**
 * The same for both parts of a packed cache, whose packed values are rotated. longs: for the rows that attend in tiles,
 * with one span for each part.
 */
export function attendMergeParts(
  options: AttendOptions,
  packed: Spans,
  recent: Spans,
  longs: boolean,
): Dispatch {
  const values = { RECENT_TILE: recent.tile, MOST_RECENT_SPANS: recent.most, LONGS: longs };
  const { partials } = packed;
  return mergeDispatch(
    options,
    { partials, recentPartials: recent.partials },
    { ...partsConstants(options, packed), ...values },
  );
}

/** The same for few rows: the merge itself attends to the vectors in `recent`, which are not packed. */
export function attendMergeRecent(options: AttendOptions, packed: Spans, recent: CacheBuffers): Dispatch {
  const { partials } = packed;
  return mergeDispatch(
    options,
    { partials, queries: options.queries, recentKeys: recent.cacheKeys, recentValues: recent.cacheValues },
    {
      ...partsConstants(options, packed),
      ...{ ATTENDS: true, TURNED: options.cache.turned, HAS_SOFTCAP: options.softcap > 0 },
    },
    recent.table,
  );
}

function partsConstants({ kept = 0 }: AttendOptions, packed: Spans) {
  return { TILE: packed.tile, MOST_SPANS: packed.most, ROTATE: true, PARTS: true, KEPT: kept };
}

/** found: the buffers that the variant reads. Bindings of others get `partials`. */
function mergeDispatch(
  options: AttendOptions,
  found: { readonly partials: PlannedBuffer; readonly [variable: string]: PlannedBuffer },
  values: { readonly [name: string]: number | boolean },
  recentTable = 0,
): Dispatch {
  const { traits, cache, heads, form, scale, softcap } = options;
  const { headDim, kvHeads, pool } = cache;
  const { partials } = found;
  return {
    label: "attendMerge",
    kernel: {
      kernel: "attendMerge",
      libs: { lanes: traits.subgroup === null ? "shared" : "subgroup" },
      values: {
        HEAD_DIM: headDim,
        SUBGROUP: traits.subgroup ?? 1,
        HAS_SINKS: options.sinks !== null,
        OUT_FORM: FORM_IDS[form],
        THREADS: mergeThreads(options),
        ...values,
      },
    },
    params: packParams("attendMerge", {
      heads,
      window: pool.window ?? 0,
      outGroups: (heads * headDim) / 32,
      factorsAt: factorsAt(options.maxTokens, heads * headDim) / 4,
      ...{ kvHeads, recentTable },
      ...scaling(scale, softcap),
    }),
    buffers: {
      ...{ recentPartials: partials, queries: partials, recentKeys: partials, recentValues: partials },
      ...found,
      out: options.out,
      batch: options.batch,
      sinks: options.sinks ?? partials,
    },
    workgroups({ spanned, longs }) {
      const rows = values.LONGS ? longs.reduce((sum, { tokens }) => sum + tokens, 0) : spanned;
      return rows === 0 ? null : [heads, rows, 1];
    },
  };
}
