/**
 * The dispatches of attend: queries of single rows, of runs, or of both, and the rotations before and after them if the
 * cache is `rq4` and no other dispatch includes them. attend-decode.ts and attend-prompt.ts choose the kernels.
 */
import { PAGE_SLOTS } from "../contract.ts";
import { keyDim } from "../kv.ts";
import { attendDecode, decodeSpans } from "./attend-decode.ts";
import { type AttendOptions, type CacheBuffers, isCacheRotated } from "./attend-options.ts";
import { attendPrompt } from "./attend-prompt.ts";
import { withShort } from "./attend-short.ts";
import { attendMerge, attendMergeParts, attendMergeRecent, oneSpan } from "./attend-spans.ts";
import { MOST_ALONE } from "./batch.ts";
import { type Dispatch, type PlannedBuffer, spread } from "./dispatch.ts";
import { FORM_IDS, type Form, factorsAt, formBytes } from "./forms.ts";
import { packParams } from "./params.ts";

export function attendDispatches(options: AttendOptions): Dispatch[] {
  if (options.recentCache) return packedDispatches(options, options.recentCache);
  const { mode, cache, heads, maxTokens, queries, out, form } = options;
  const isRotated = isCacheRotated(options);
  const { headDim } = cache;
  const scratch = (label: string) => options.scratch(label, formBytes("f32", maxTokens, heads * headDim));
  const { before, rotated } =
    isRotated && !options.queriesRotated ? rotatedQueries(options) : { before: [], rotated: queries };
  const given = { ...options, queries: rotated };
  // A merge rotates its sums back.
  if (mode !== "prompt") {
    const spans = decodeSpans(given);
    const shared = maxTokens > MOST_ALONE ? [attendPrompt(given, spans)] : [];
    const spanned = [attendDecode(given, spans), ...shared, attendMerge(given, spans)];
    return [...before, ...withShort(given, spanned)];
  }
  // Single rows and runs write rows of the same buffer, which are rotated back together.
  const sums = isRotated ? scratch("rotated sums") : out;
  const summed: AttendOptions = isRotated ? { ...given, out: sums, form: "f32", cacheRotated: false } : given;
  const spans = options.maxSpanned > 0 ? decodeSpans(summed) : null;
  return [
    ...before,
    ...(spans ? [attendDecode(summed, spans), attendMerge(summed, spans)] : []),
    attendPrompt(summed, null),
    ...(isRotated ? [rotateDispatch({ heads, headDim, back: true, x: sums, out, form, maxTokens })] : []),
  ];
}

/** Rotates queries for a cache whose keys are rotated, or whose rotated values are also its keys. */
function rotatedQueries(options: AttendOptions): { before: Dispatch[]; rotated: PlannedBuffer } {
  const { cache, heads, queries, maxTokens } = options;
  const { headDim, turned } = cache;
  const out = options.scratch("rotated queries", formBytes("f32", maxTokens, heads * keyDim(cache)));
  // Packed keys are scaled by channel, not rotated.
  const one = { turned, rotatesTurned: cache.codec.packed === null };
  const rotation = { heads, headDim, ...one, back: false, x: queries, out, form: "f32", maxTokens } as const;
  return { before: [rotateDispatch(rotation)], rotated: out };
}

/**
 * Attention over a packed cache. Packed positions and those that are not packed yet are separate parts, each with its
 * own partials; a merge rotates the sums of packed values back and adds the others. With few rows, the merge itself
 * attends to the part that is not packed: as a dispatch of its own, with little work, it would keep the GPU waiting.
 */
function packedDispatches(options: AttendOptions, recent: CacheBuffers): Dispatch[] {
  const { mode, maxTokens, maxSpanned } = options;
  const { recentTokens, firstPages } = options.cache.codec.packed!;
  const kept = firstPages * PAGE_SLOTS;
  // Values that are also keys are rotated, and so are the queries for them.
  const { before, rotated } =
    options.cache.turned > 0 ? rotatedQueries(options) : { before: [], rotated: options.queries };
  const packed: AttendOptions = { ...options, queries: rotated, part: "packed", kept, cacheRotated: false };
  // The positions that a step may find unpacked: the first pages, the newest tokens, its own rows, and two partial
  // pages.
  const mostUnpacked = kept + recentTokens + 2 * PAGE_SLOTS + maxTokens;
  const newest: AttendOptions = {
    ...packed,
    ...recent,
    queries: options.queries,
    part: "recent",
    mostUnpacked,
  };
  // The recent part first, because it is small.
  const parts = [newest, packed];
  const dispatches: Dispatch[] = [...before];
  if (mode === "decode" || mode === "few" || mode === "several") {
    const spans = decodeSpans(packed);
    const shared = maxTokens > MOST_ALONE ? [attendPrompt(packed, spans)] : [];
    const merge = attendMergeRecent({ ...packed, queries: options.queries }, spans, recent);
    return [...before, attendDecode(packed, spans), ...shared, merge];
  }
  if (mode !== "prompt" || maxSpanned > 0) {
    const spans = parts.map(decodeSpans);
    dispatches.push(...parts.map((part, i) => attendDecode(part, spans[i])));
    if (mode !== "prompt" && maxTokens > MOST_ALONE)
      dispatches.push(...parts.map((part, i) => attendPrompt(part, spans[i])));
    dispatches.push(attendMergeParts(packed, spans[1], spans[0], false));
  }
  if (mode === "prompt") {
    const spans = parts.map((part) => oneSpan(part, PAGE_SLOTS));
    dispatches.push(...parts.map((part, i) => attendPrompt(part, spans[i])));
    dispatches.push(attendMergeParts(packed, spans[1], spans[0], true));
  }
  return dispatches;
}

interface RotateOptions {
  readonly heads: number;
  readonly headDim: number;
  /**
   * For queries if one vector is key and value: the number of dims before those of the value, and whether these are
   * rotated.
   */
  readonly turned?: number;
  readonly rotatesTurned?: boolean;
  /** true: multiplies by the transpose. */
  readonly back: boolean;
  /** [tokens, heads, turned + headDim] f32. */
  readonly x: PlannedBuffer;
  /** f32 or f16. */
  readonly out: PlannedBuffer;
  readonly form: Form;
  readonly maxTokens: number;
}

const ROTATE_ROWS = 4;

function rotateDispatch(options: RotateOptions): Dispatch {
  const { heads, headDim, turned = 0, rotatesTurned = false, back, x, out, form, maxTokens } = options;
  return {
    label: "rotate",
    kernel: {
      kernel: "rotate",
      values: {
        ...{ HEAD_DIM: headDim, TURNED: turned, ROTATES_TURNED: rotatesTurned },
        ...{ BACK: back, OUT_FORM: FORM_IDS[form] },
      },
    },
    params: packParams("rotate", { heads, factorsAt: factorsAt(maxTokens, heads * headDim) }),
    buffers: { x, out },
    workgroups: ({ tokens }) => spread(Math.ceil((tokens * heads) / ROTATE_ROWS)),
  };
}
