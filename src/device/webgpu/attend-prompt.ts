/**
 * The dispatch of attendPrompt: queries of runs over their texts' pages, as a whole or in spans, with subgroup matrices
 * if the device has them. Divides rows and dims within the limits of registers and workgroup memory.
 */
import { type AttendOptions, partConstants, scaling, visible } from "./attend-options.ts";
import type { Spans } from "./attend-spans.ts";
import type { Dispatch } from "./dispatch.ts";
import { factorsAt } from "./forms.ts";
import { attendConstants, bufferTokenBytes, type KvLayout, kvLayout } from "./kv.ts";
import { packParams } from "./params.ts";
import type { KernelValues } from "./wgsl.ts";

/** Rows of attendPrompt's workgroups. A thread's sums, rows / 8 * groups of 32 dims, stay within 32 registers. */
const promptRows = (headDim: number) => (headDim > 256 ? 16 : headDim > 128 ? 32 : 64);

/**
 * Four subgroups, each with the sums of 16 rows and at most 128 dims in registers. Values take the keys' place in
 * workgroup memory, so that two workgroups fit on a core: at most 20 KiB up to 256 dims. Eight subgroups with keys and
 * values in separate memory wait for each other: 1,837 us, where these take 1,763 (int4, 512 tokens over 16,384; H200,
 * 2026-11-29, lab/kernels/attendPrompt). Returns null if subgroups that share a row cannot have the same number of
 * matrices of 16 dims, which is so for no head size of a model. Then attendPrompt is used.
 */
function matrixShape(headDim: number) {
  if (headDim <= 128) return { ROW_BLOCKS: 4, SPLIT: 1, TOKENS: 32 };
  const shape =
    headDim <= 256 ? { ROW_BLOCKS: 2, SPLIT: 2, TOKENS: 16 } : { ROW_BLOCKS: 1, SPLIT: 4, TOKENS: 16 };
  return headDim % (16 * shape.SPLIT) === 0 ? shape : null;
}

/**
 * For matrices of 8: four subgroups, each with 16 rows and at most 64 dims, whose queries and sums fill its registers.
 * null as above.
 */
function matrix8Shape(headDim: number) {
  const split = headDim <= 64 ? 1 : headDim <= 128 ? 2 : 4;
  return headDim <= 256 && headDim % (8 * split) === 0 ? { SPLIT: split } : null;
}

interface PromptKernel {
  readonly kernel: "attendPrompt" | "attendPromptMatrix" | "attendPromptApart" | "attendPromptMatrix8";
  /** Rows of a workgroup: pairs of a token and a query head. */
  readonly rows: number;
  readonly values: KernelValues;
}

/**
 * Whether attendPromptApart serves a layer. 32/8 heads, 512 tokens over 32,768, on an H200 (2026-11-29), against
 * attendPromptMatrix: kv4 with heads of 128 1,555 us instead of 1,885; heads of 64 1,037 instead of 1,465 (int4), 1,053
 * instead of 1,539 (rq4), 992 instead of 1,087 (f16).
 */
function isApart({ cache: { codec, headDim, turned }, softcap, sinks }: AttendOptions): boolean {
  const served = APART_DIMS.has(headDim) && !turned && softcap === 0 && !sinks;
  return served && APART_LAYOUTS.has(kvLayout(codec, "keys")) && APART_LAYOUTS.has(kvLayout(codec, "values"));
}
const APART_DIMS: ReadonlySet<number> = new Set([64, 128]);
const APART_LAYOUTS: ReadonlySet<KvLayout> = new Set(["f16", "int4", "rq4", "channel4"]);

function promptKernel(options: AttendOptions): PromptKernel {
  const { traits, form, plain } = options;
  const { headDim, turned: TURNED } = options.cache;
  // The matrix kernels rely on two lanes for each of 16 rows.
  const isWhole = traits.subgroup === 32 && !plain;
  if (traits.matrices && isWhole && isApart(options))
    return { kernel: "attendPromptApart", rows: 64, values: { OUT_F16: form === "f16" } };
  const matrices = traits.matrices && isWhole ? matrixShape(headDim) : null;
  if (matrices)
    return {
      ...{ kernel: "attendPromptMatrix", rows: matrices.ROW_BLOCKS * 16 },
      values: { ...matrices, TURNED, OUT_F16: form === "f16" },
    };
  // Layers with one vector for key and value have larger heads than this kernel serves.
  const eights = traits.matrices8 && isWhole && form === "f32" && !TURNED ? matrix8Shape(headDim) : null;
  if (eights) return { kernel: "attendPromptMatrix8", rows: 64 / eights.SPLIT, values: eights };
  const rows = promptRows(headDim);
  return { kernel: "attendPrompt", rows, values: { ROWS: rows, TURNED, OUT_F16: form === "f16" } };
}

/** spans: for a step of few rows, whose results go into the spans' partials; null: results go into `out`. */
export function attendPrompt(options: AttendOptions, spans: Spans | null): Dispatch {
  const { cache, heads, scale, softcap } = options;
  const { kvHeads, headDim, pool } = cache;
  const group = heads / kvHeads;
  // A span's partials are f32.
  const { kernel, rows, values } = promptKernel(spans ? { ...options, form: "f32" } : options);
  const bytes = bufferTokenBytes(cache);
  const common = { table: options.table, window: pool.window ?? 0, ...scaling(scale, softcap) };
  return {
    label: "attendPrompt",
    kernel: {
      kernel,
      values: {
        KV_HEADS: kvHeads,
        GROUP: group,
        ...attendConstants(cache),
        ...values,
        ...(kernel !== "attendPromptApart" && {
          HAS_SOFTCAP: softcap > 0,
          HAS_SINKS: options.sinks !== null && spans === null,
        }),
        SPANS: spans !== null,
        ...(spans && { TILE: spans.tile, MOST_SPANS: spans.most, ...partConstants(options) }),
      },
    },
    params:
      kernel === "attendPromptMatrix8"
        ? packParams(kernel, common)
        : packParams(kernel, {
            ...common,
            // In units of the words that the kernel writes.
            factorsAt: factorsAt(options.maxTokens, heads * headDim) / (kernel === "attendPrompt" ? 1 : 4),
          }),
    buffers: {
      queries: options.queries,
      keys: options.cacheKeys,
      values: options.cacheValues,
      out: spans ? spans.partials : options.out,
      batch: options.batch,
      ...(kernel !== "attendPromptApart" && { sinks: options.sinks ?? options.queries }),
    },
    workgroups(step) {
      const { longs } = step;
      // tileOf of lib/tiles.wgsl counts tiles in the same way.
      const tiles = longs.reduce((sum, { tokens }) => sum + Math.ceil((tokens * group) / rows), 0);
      if (tiles === 0) return null;
      const most = Math.max(...longs.map((run) => spans?.count(run, step) ?? 1));
      // One part of a packed cache may be empty.
      return most === 0 ? null : [tiles, kvHeads, most];
    },
    bytes: ({ longs }) => longs.reduce((sum, run) => sum + bytes * visible(options, run), 0),
  };
}
