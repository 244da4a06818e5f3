/**
 * The dispatch of matmulAppend: computes queries, keys and values of one token from their weights, turns queries and
 * keys, and stores keys and values in the cache. chains.ts decides when it is used.
 */
import type { Heads } from "./append.ts";
import type { CacheBuffers } from "./attend-options.ts";
import type { Dispatch, PlannedBuffer, Workgroups } from "./dispatch.ts";
import { DEFAULT_THREADS } from "./gpu.ts";
import { kvConstants, kvFormat } from "./kv.ts";
import { bytesOf, type MatmulOptions } from "./matmul-options.ts";
import { packParams } from "./params.ts";
import { teams } from "./teams.ts";
import { formValues, groupsOf } from "./weights.ts";

/** Rows of a head without norms in each workgroup: half of them from each half of the head. */
const UNIT = 64;

export interface MatmulAppendOptions extends MatmulOptions, CacheBuffers {
  /** Query heads. The matrix has the rows of queries, then those of keys, then those of values. */
  readonly heads: number;
  /** Both with a weight, or both null. */
  readonly keyNorm: Heads["norm"];
  readonly queryNorm: Heads["norm"];
  /** [maxTokens, 2, headDim / 2] f32, as in appendKv. */
  readonly angles: PlannedBuffer;
  readonly batch: PlannedBuffer;
}

/** out: the queries, [heads, headDim] f32. */
export function matmulAppendDispatch(options: MatmulAppendOptions): Dispatch {
  const { traits, matrix, cache, heads, keyNorm, queryNorm, spare, unscaled = null } = options;
  const { kvHeads, headDim } = cache;
  const [part] = matrix.parts;
  const { threads = DEFAULT_THREADS } = traits;
  const unit = keyNorm ? headDim : UNIT;
  // Each team has rows in both halves of a head.
  const { team } = teams(traits, threads, 1);
  const shape = teams(traits, Math.min(threads, (unit / 2) * team), 1);
  const { INT4, BLOCK_WORDS, SCALES_AT } = kvConstants(kvFormat(cache.codec.name), headDim);
  const all: Workgroups = [matrix.rows / unit, 1, 1];
  return {
    label: "matmul, append",
    kernel: {
      kernel: "matmulAppend",
      libs: { ...shape.libs, codes: matrix.form.lib },
      values: {
        ...formValues(matrix.form),
        ...{ WORKGROUP: shape.workgroup, TEAM: shape.team, SUBGROUP: shape.subgroup },
        ...{ UNIT: unit, ROWS: (unit * shape.team) / shape.workgroup },
        NORMED: unscaled !== null,
        ...{ HEADS: heads, KV_HEADS: kvHeads, HEAD_DIM: headDim, INT4, BLOCK_WORDS, SCALES_AT },
        ...{ HEAD_NORMS: keyNorm !== null, NORM_WORDS: keyNorm ? headDim / 4 : 1 },
        ...{ HAS_BIAS: matrix.bias !== null, BIAS_WORDS: matrix.bias ? matrix.rows / 4 : 1 },
      },
    },
    params: packParams("matmulAppend", {
      ...{ groups: groupsOf(matrix.cols), table: options.table, epsilon: unscaled ?? 0 },
      ...{ keyEpsilon: keyNorm?.epsilon ?? 0, queryEpsilon: queryNorm?.epsilon ?? 0 },
    }),
    buffers: {
      ...{
        codes: part.codes,
        scales: part.scales ?? part.codes,
        x: options.x.buffer,
        angles: options.angles,
      },
      ...{ keys: options.cacheKeys, values: options.cacheValues, queries: options.out, batch: options.batch },
      keyNorm: keyNorm?.weight ?? spare,
      queryNorm: queryNorm?.weight ?? spare,
      bias: matrix.bias ?? spare,
    },
    workgroups: () => all,
    bytes: bytesOf(part),
  };
}
