/**
 * Dispatches of appendKv and attend: which kernels, values and workgroups serve a cache and a device. Owns how a decode
 * step is cut into spans (mirrored by lib/spans.wgsl) and the limits that workgroup memory sets; kv.ts owns the layout.
 */
import type { Cache } from "../contract.ts";
import type { Buffer, Dispatch, StepShape } from "./dispatch.ts";
import type { Form, View } from "./forms.ts";
import type { Traits } from "./gpu.ts";
import { type KvFormat, kvBufferBytes, kvConstants, kvFormat, kvGroups } from "./kv.ts";
import { packParams } from "./wgsl.ts";

/** Rows of head vectors before norm and RoPE, each optional. */
export interface Heads {
  readonly view: View;
  readonly norm: { readonly weight: Buffer | null; readonly epsilon: number } | null;
}

export interface AppendOptions {
  readonly traits: Traits;
  readonly cache: Cache;
  readonly keys: Heads;
  readonly values: View;
  /** turns: [maxTokens, 2, pairs] f32, cosines then sines, times the rope's magnitude. For keys and queries alike. */
  readonly rope: { readonly turns: Buffer; readonly pairs: number } | null;
  /** Queries that are normed and turned on the way; out: [tokens, heads, headDim] f32. */
  readonly queries: (Heads & { readonly heads: number; readonly out: Buffer }) | null;
  readonly cacheKeys: Buffer;
  readonly cacheValues: Buffer;
  /** 16 bytes, bound as a uniform where there is no norm weight. */
  readonly spare: Buffer;
  /** A new activation: bound where no queries are written. */
  scratch(label: string, bytes: number): Buffer;
}

const BLOCK = 32;

/** Buffers of norm weights are bound as uniforms. */
export function appendDispatch(options: AppendOptions): Dispatch {
  const { cache, keys, values, rope, queries, spare } = options;
  const { kvHeads, headDim, capacity } = cache;
  const format = kvFormat(cache.codec.name);
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
        ...kvConstants(format, headDim),
        PAIRS: rope?.pairs ?? 0,
        NORM_KEYS: keys.norm !== null,
        NORM_QUERIES: Boolean(queries?.norm),
        KEY_NORM_WORDS: words(keys.norm),
        QUERY_NORM_WORDS: words(queries?.norm),
      },
    },
    params: packParams("appendKv", {
      keysAt: keys.view.offset,
      keysStride: keys.view.stride,
      valuesAt: values.offset,
      valuesStride: values.stride,
      queriesAt: from.offset,
      queriesStride: from.stride,
      capacity,
      keyEpsilon: keys.norm?.epsilon ?? 0,
      queryEpsilon: queries?.norm?.epsilon ?? 0,
    }),
    buffers: {
      keysIn: keys.view.buffer,
      valuesIn: values.buffer,
      queriesIn: from.buffer,
      turns: rope?.turns ?? keys.view.buffer,
      keyNorm: keys.norm?.weight ?? spare,
      queryNorm: queries?.norm?.weight ?? spare,
      keys: options.cacheKeys,
      values: options.cacheValues,
      queries: queries?.out ?? options.scratch("no queries", 16),
    },
    workgroups: ({ tokens, position }) => [
      Math.ceil(((position % BLOCK) + tokens) / BLOCK),
      2 * kvHeads + heads,
      1,
    ],
    bytes: ({ tokens }) => (2 * tokens * kvBufferBytes({ format, kvHeads, headDim, capacity })) / capacity,
  };
}

export interface AttendOptions {
  readonly traits: Traits;
  readonly mode: "decode" | "prompt";
  readonly cache: Cache;
  readonly heads: number;
  readonly scale: number;
  readonly softcap: number;
  /** [tokens, heads, headDim] f32. */
  readonly queries: Buffer;
  readonly cacheKeys: Buffer;
  readonly cacheValues: Buffer;
  /** [tokens, heads * headDim] in `form`: decode f32 or q8, prompt f32 or f16. */
  readonly out: Buffer;
  readonly form: Form;
  /** Most tokens of a step in this mode. */
  readonly maxTokens: number;
  /** Bound where a variant needs no buffer. */
  readonly spare: Buffer;
  /** Workgroups that a long context is cut into; for measuring. */
  readonly workgroups?: number;
  /** Positions that a workgroup of a decode takes at a time; for measuring. */
  readonly tile?: number;
  scratch(label: string, bytes: number): Buffer;
}

export function attendDispatches(options: AttendOptions): Dispatch[] {
  if (options.mode === "decode") return decode(options);
  // The matrix kernel counts on two lanes for each of a matrix's 16 rows.
  const { matrices, subgroup } = options.traits;
  return [prompt(options, matrices && subgroup === 32)];
}

/** Positions that a step's first query sees: [from the block of the oldest, to the last]. */
export function visible({ window }: Cache, position: number): { first: number; count: number } {
  const oldest = window === null ? 0 : Math.max(0, position + 1 - window);
  const first = oldest - (oldest % BLOCK);
  return { first, count: position + 1 - first };
}

/** exp2 instead of exp, and no division before tanh: the two factors around the soft cap. */
function scaling(scale: number, softcap: number) {
  return softcap > 0
    ? { scale: scale / softcap, cap: softcap * Math.LOG2E }
    : { scale: scale * Math.LOG2E, cap: 0 };
}

/**
 * How a KV head's query heads are served. heads: bounded by registers (8), and by what workgroup memory holds of the
 * 16 KiB that every device has: for each head and token an f32 score or a byte for each group of dims, and the queries.
 * A tile of 128 tokens, a thread each: 16 -> 14 us at 1K and 149 -> 143 us at 128K against 256 (H100, 2026-11-23, bench
 * row attendDecode).
 */
function decodeShape(format: KvFormat, group: number, headDim: number) {
  const int4 = format === "int4";
  const tile = 128;
  const most = int4 ? 64 / kvGroups(headDim) : 1024 / headDim;
  const sets = Math.ceil(group / Math.min(8, most));
  return { tile, sets, heads: Math.ceil(group / sets) };
}

/**
 * Workgroups that a long context is cut into: four a core on 132 cores. 128K tokens, 64/8 heads of 128, us a layer: int4
 * 195 with 264, 143 with 528, 150 with 1056; f16 320 and 249 (H100, 2026-11-23, bench row attendDecode).
 */
const WORKGROUPS = 528;
/** attendMerge looks at every span with a thread of its own. */
const MERGE_THREADS = 256;

/** The spans of a decode step at `position`; spansOf of lib/spans.wgsl counts them alike. */
function spanCount(cache: Cache, position: number, tile: number, most: number): number {
  const tiles = Math.ceil(visible(cache, position).count / tile);
  return Math.ceil(tiles / Math.ceil(tiles / most));
}

function decode(options: AttendOptions): Dispatch[] {
  const { traits, cache, heads, scale, softcap, form } = options;
  const { kvHeads, headDim, capacity } = cache;
  const format = kvFormat(cache.codec.name);
  const group = heads / kvHeads;
  const shape = { ...decodeShape(format, group, headDim), ...(options.tile ? { tile: options.tile } : {}) };
  const mostTiles = Math.ceil(visible(cache, capacity - 1).count / shape.tile) + 1;
  const most = Math.min(
    mostTiles,
    MERGE_THREADS,
    Math.max(1, Math.round((options.workgroups ?? WORKGROUPS) / (kvHeads * shape.sets))),
  );
  const partials = options.scratch("partials", heads * most * (headDim + 4) * 4);
  const dims = headDim > 64 ? 4 : 2;
  const bytes = (2 * kvBufferBytes({ format, kvHeads, headDim, capacity })) / capacity;
  const window = cache.window ?? 0;
  const spans = ({ position }: StepShape) => spanCount(cache, position, shape.tile, most);
  const int4 = format === "int4";
  const kernel = int4 ? "attendDecode" : "attendDecodeF16";
  const lanes = traits.subgroup === null ? "shared" : "subgroup";
  return [
    {
      label: "attendDecode",
      kernel: {
        kernel,
        libs: { lanes },
        values: {
          KV_HEADS: kvHeads,
          GROUP: group,
          HEADS: shape.heads,
          ...kvConstants(format, headDim),
          TILE: shape.tile,
          ...(int4 ? { DIMS: dims, AHEAD: Math.min(4, kvGroups(headDim)) } : { BATCH: 4 }),
          MOST_SPANS: most,
          SUBGROUP: traits.subgroup ?? 1,
          HAS_SOFTCAP: softcap > 0,
        },
      },
      params: packParams(kernel, { capacity, window, ...scaling(scale, softcap) }),
      buffers: {
        queries: options.queries,
        keys: options.cacheKeys,
        values: options.cacheValues,
        partials,
      },
      workgroups: (step) => [spans(step), kvHeads * shape.sets, 1],
      bytes: ({ position }) => bytes * visible(cache, position).count,
    },
    {
      label: "attendMerge",
      kernel: {
        kernel: "attendMerge",
        libs: { lanes },
        values: {
          HEAD_DIM: headDim,
          TILE: shape.tile,
          MOST_SPANS: most,
          SUBGROUP: traits.subgroup ?? 1,
          OUT_Q8: form === "q8",
        },
      },
      params: packParams("attendMerge", { window, outGroups: (heads * headDim) / 32 }),
      buffers: { partials, out: options.out },
      workgroups: () => [heads, 1, 1],
    },
  ];
}

/** Rows of attendPrompt's workgroups: a thread's sums, rows / 8 * groups of 32 dims, stay within 32 registers. */
const promptRows = (headDim: number) => (headDim > 256 ? 16 : headDim > 128 ? 32 : 64);

/** Four subgroups, each with at most 128 dims of 16 rows of sums in registers, and at most 32 KiB of workgroup memory. */
function matrixShape(headDim: number) {
  if (headDim <= 128) return { ROW_BLOCKS: 4, SPLIT: 1, TOKENS: 32, ONE_TILE: false };
  if (headDim <= 256) return { ROW_BLOCKS: 2, SPLIT: 2, TOKENS: 32, ONE_TILE: true };
  return { ROW_BLOCKS: 1, SPLIT: 4, TOKENS: 16, ONE_TILE: true };
}

function prompt(options: AttendOptions, matrices: boolean): Dispatch {
  const { cache, heads, scale, softcap, form } = options;
  const { kvHeads, headDim, capacity } = cache;
  const format = kvFormat(cache.codec.name);
  const group = heads / kvHeads;
  const shape = matrices ? matrixShape(headDim) : { ROWS: promptRows(headDim) };
  const rows = "ROWS" in shape ? shape.ROWS : shape.ROW_BLOCKS * 16;
  const bytes = (2 * kvBufferBytes({ format, kvHeads, headDim, capacity })) / capacity;
  const kernel = matrices ? "attendPromptMatrix" : "attendPrompt";
  return {
    label: "attendPrompt",
    kernel: {
      kernel,
      values: {
        KV_HEADS: kvHeads,
        GROUP: group,
        ...kvConstants(format, headDim),
        ...shape,
        HAS_SOFTCAP: softcap > 0,
        OUT_F16: form === "f16",
      },
    },
    params: packParams(kernel, { capacity, window: cache.window ?? 0, ...scaling(scale, softcap) }),
    buffers: {
      queries: options.queries,
      keys: options.cacheKeys,
      values: options.cacheValues,
      out: options.out,
    },
    workgroups: ({ tokens }) => [Math.ceil((tokens * group) / rows), kvHeads, 1],
    bytes: ({ tokens, position }) => bytes * (visible(cache, position).count + tokens - 1),
  };
}
