/**
 * The dispatch of attendShort: single rows over short int4 caches, which writes its output directly. Other steps use
 * spans and a merge. Decides which steps are short. Pure.
 */
import { type AttendOptions, scaling, visible } from "./attend-options.ts";
import type { Dispatch, StepShape } from "./dispatch.ts";
import { attendConstants, bufferTokenBytes, kvLayout } from "./kv.ts";
import { packParams } from "./params.ts";

/** Adds attendShort for the steps that are short; `spanned` serves the others. */
export function withShort(options: AttendOptions, spanned: readonly Dispatch[]): readonly Dispatch[] {
  const { traits, cache, form, mode } = options;
  const { codec, headDim, turned } = cache;
  const isInt4 = kvLayout(codec, "keys") === "int4" && turned === 0;
  const fits = isInt4 && headDim % 32 === 0 && headDim <= 128 && form !== "f16";
  const most = traits.short ?? 0;
  if (!fits || most === 0 || traits.floats || (mode !== "decode" && mode !== "few")) return spanned;
  // Steps with rows that share a text's pages in spans are never short.
  const isShort = ({ spanned, singles }: StepShape) =>
    spanned === singles.length && singles.reduce((sum, row) => sum + visible(options, row), 0) <= most;
  return [
    only(attendShort(options), isShort),
    ...spanned.map((dispatch) => only(dispatch, (step) => !isShort(step))),
  ];
}

function only(dispatch: Dispatch, serves: (step: StepShape) => boolean): Dispatch {
  return { ...dispatch, workgroups: (step) => (serves(step) ? dispatch.workgroups(step) : null) };
}

function attendShort(options: AttendOptions): Dispatch {
  const { traits, cache, heads, scale, softcap, sinks } = options;
  const { kvHeads, headDim, pool } = cache;
  const { KEY_WORDS, KEY_SCALES_AT, VALUE_WORDS, VALUE_SCALES_AT } = attendConstants(cache);
  const bytes = bufferTokenBytes(cache);
  return {
    label: "attendShort",
    kernel: {
      kernel: "attendShort",
      libs: { lanes: traits.subgroup === null ? "shared" : "subgroup" },
      values: {
        ...{ GROUP: heads / kvHeads, HEAD_DIM: headDim, SUBGROUP: traits.subgroup ?? 1 },
        ...{ KEY_WORDS, KEY_SCALES_AT, VALUE_WORDS, VALUE_SCALES_AT },
        ...{ HAS_SOFTCAP: softcap > 0, HAS_SINKS: sinks !== null, AS_Q8: options.form === "q8" },
      },
    },
    params: packParams("attendShort", {
      ...{ heads, kvHeads, table: options.table, window: pool.window ?? 0 },
      ...{ outGroups: (heads * headDim) / 32, ...scaling(scale, softcap) },
    }),
    buffers: {
      ...{ queries: options.queries, keys: options.cacheKeys, values: options.cacheValues },
      ...{ out: options.out, batch: options.batch, sinks: sinks ?? options.cacheKeys },
    },
    workgroups: ({ singles }) => (singles.length === 0 ? null : [(heads * headDim) / 32, singles.length, 1]),
    bytes: ({ singles }) => singles.reduce((sum, row) => sum + bytes * visible(options, row), 0),
  };
}
