/**
 * The dispatches of operations on recurrent states. In all modes, they process the runs of a step: a run reads one slot
 * of a state's buffer and writes another. Divides a head's rows among invocations; the kernels are in files with the
 * operations' names. Pure.
 */
import { UnsupportedError } from "../../format/errors.ts";
import type { Value } from "../contract.ts";
import type { Dispatch, Mode, PlannedBuffer } from "./dispatch.ts";
import type { View } from "./forms.ts";
import { packParams } from "./params.ts";
import type { Shared } from "./shared.ts";
import type { OpOf } from "./stages.ts";

/** The f32 rows of a value in a buffer. */
export interface Views {
  /** Rows without gaps between them. */
  plain(value: Value): PlannedBuffer;
  /** Rows with contiguous columns. */
  flat(value: Value): View;
}

export function recurrentDispatch(
  op: OpOf<"conv"> | OpOf<"gatedDelta">,
  shared: Pick<Shared, "traits" | "weights" | "states" | "batch">,
  mode: Mode,
  views: Views,
  out: PlannedBuffer,
): Dispatch {
  const states = shared.states[op.state.id];
  return op.op === "conv"
    ? convDispatch(op, shared, views.flat(op.x), states, out)
    : deltaDispatch(op, shared, mode, views, states, out);
}

/** Threads of a workgroup, each a channel of a row. */
const CONV_THREADS = 64;

/** x: [tokens, channels]; states: [slots, kernel - 1, channels] f32. */
function convDispatch(
  { kernel, activation, weight, x: { cols: channels } }: OpOf<"conv">,
  { weights, batch }: Pick<Shared, "weights" | "batch">,
  x: View,
  states: PlannedBuffer,
  out: PlannedBuffer,
): Dispatch {
  return {
    label: "conv",
    kernel: { kernel: "conv", values: { KERNEL: kernel, HAS_SILU: activation === "silu" } },
    params: packParams("conv", { channels, xOffset: x.offset, xStride: x.stride }),
    buffers: { x: x.buffer, weight: weights.vector(weight), states, batch, out },
    workgroups: ({ tokens }) => (tokens === 0 ? null : [Math.ceil(channels / CONV_THREADS), tokens, 1]),
  };
}

const DELTA_THREADS = 128;
/** Invocations of a row, the first that share its vec4s evenly: a key of 128 leaves each 16 numbers in registers. */
const LANES = [8, 16, 32, 4, 2, 1];
/** vec4s of a row in registers of one invocation. */
const MOST_FOURS = 8;
/** vec4s of queries that a workgroup fetches at a time, two an invocation: 4 KiB of its memory, and as much for keys. */
const FETCHED_FOURS = 256;
/** Pairs of tokens that a workgroup fetches at a time, if an invocation has at most one vec4 of a pair. */
const MOST_PAIRS = 4;
/**
 * vec4s of a row in registers of an invocation that holds two rows, so that it uses twice what it reads of keys and queries. A
 * layer of heads of 128 and 512 tokens, us with one and two rows: 48/16 heads 243 and 239, 32/16 203 and 189; token by
 * token 288 and 245 (H200, 2026-11-29).
 */
const FOURS_OF_TWO = 4;

/** states: [slots, valueHeads, valueDim, keyDim] f32. */
function deltaDispatch(
  op: OpOf<"gatedDelta">,
  { traits, weights, batch }: Pick<Shared, "traits" | "weights" | "batch">,
  mode: Mode,
  { plain, flat }: Views,
  states: PlannedBuffer,
  out: PlannedBuffer,
): Dispatch {
  const { keyHeads, valueHeads, keyDim, tiled, epsilon } = op;
  const valueDim = op.out.cols / valueHeads;
  const [a, b] = [flat(op.a), flat(op.b)];
  const fours = keyDim / 4;
  const lanes = LANES.find((count) => fours % count === 0 && fours / count <= MOST_FOURS);
  if (lanes === undefined)
    throw new UnsupportedError(
      `gatedDelta with keys of ${keyDim}`,
      "Rows of that size do not fit the registers of the GPU's kernel.",
    );
  const pairs = Math.min(MOST_PAIRS, Math.floor(DELTA_THREADS / fours));
  const byPairs = mode === "prompt" && pairs > 0;
  const kernel = byPairs ? "gatedDeltaPairs" : "gatedDelta";
  const rowsEach = byPairs && fours / lanes <= FOURS_OF_TWO ? 2 : 1;
  const rowBlocks = Math.ceil(valueDim / ((DELTA_THREADS / lanes) * rowsEach));
  const { subgroup } = traits;
  const sums = subgroup === null ? "shared" : "subgroup";
  const isTeam = subgroup !== null && fours <= subgroup && (fours & (fours - 1)) === 0;
  const fetched = Math.min(8, 2 ** Math.floor(Math.log2(Math.max(1, FETCHED_FOURS / fours))));
  return {
    label: "gatedDelta",
    kernel: {
      kernel,
      libs: {
        lanes: sums,
        ...(byPairs ? { teamFours: isTeam ? "subgroup" : "shared" } : { lanesTwo: sums }),
      },
      values: {
        ...{ WORKGROUP: DELTA_THREADS, SUBGROUP: subgroup ?? 1 },
        ...{ LANES: lanes, KEY_FOURS: fours, TILED: tiled },
        ...(byPairs ? { ROWS_EACH: rowsEach, PAIRS: pairs } : { TOKENS: fetched }),
      },
    },
    params: packParams(kernel, {
      ...{ keyHeads, valueHeads, valueDim, epsilon },
      ...{ aOffset: a.offset, aStride: a.stride, bOffset: b.offset, bStride: b.stride },
    }),
    buffers: {
      ...{ x: plain(op.x), a: a.buffer, b: b.buffer, states, batch, out },
      ...{ rates: weights.vector(op.rates), bias: weights.vector(op.bias) },
    },
    workgroups: ({ tokens, runs }) => (tokens === 0 ? null : [valueHeads * rowBlocks, runs, 1]),
    // Read and written.
    bytes: ({ runs }) => 2 * runs * op.state.values * 4,
  };
}
