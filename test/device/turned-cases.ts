/**
 * Conformance of layers with one vector for key and value (Cache.turned): takeTurned, appendKv, attend, as Gemma 4's full layers
 * have them; `case-runs.ts` runs them.
 */
import type { Value, Weight } from "../../src/device/contract.ts";
import type { Recorder } from "../../src/device/recorder.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import { type DeviceCase, type Given, TOLERANCES } from "./device-cases.ts";

interface TurnedShape {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Pairs that turn. */
  pairs: number;
  steps: DeviceCase["steps"];
  window?: number;
  /** As models have it: key and value are norms of one projection. */
  isNormed?: boolean;
}

const SHAPES: readonly TurnedShape[] = [
  { heads: 16, kvHeads: 2, headDim: 64, pairs: 8, steps: [70, 1, 25, 1, 1] },
  { heads: 2, kvHeads: 1, headDim: 512, pairs: 64, steps: [97, 1] },
  { heads: 3, kvHeads: 3, headDim: 80, pairs: 16, steps: [90, 40, 3], window: 20 },
  { heads: 4, kvHeads: 2, headDim: 64, pairs: 16, steps: [40, 1, 7], isNormed: true },
  // Several texts.
  {
    ...{ heads: 6, kvHeads: 2, headDim: 96, pairs: 24 },
    steps: [
      [99, 0, 5],
      [1, 40, 60],
      [4, 33, 1],
    ],
  },
];

/** shapes: numbers of some; default: all. */
export function turnedCases(kv: string, tolerance: number, shapes?: readonly number[]): DeviceCase[] {
  const chosen = shapes?.map((i) => SHAPES[i]) ?? SHAPES;
  return chosen.map(({ heads, kvHeads, headDim, pairs, steps, window = null, isNormed = false }) => ({
    name: `takeTurned, appendKv, attend ${kv}, ${heads}/${kvHeads} heads of ${headDim}, ${pairs} pairs, steps ${JSON.stringify(steps)}, window ${window}${isNormed ? ", normed" : ""}`,
    ...{ kv, tolerance, steps },
    matrixTolerance: kv === "f16" ? TOLERANCES.halfMatrices : undefined,
    build: (op: Recorder, given: Given) => {
      const cache = given.cache({ codec: kv, kvHeads, headDim, window, turned: 2 * pairs });
      const rope = op.ropeTable(ropeFrequencies(10_000, headDim).map((f, i) => (i < pairs ? f : 0)));
      const weight = given.weight("vector", "f32", 1, headDim, 4);
      const queryWeight = given.weight("vector", "f32", 1, headDim, 5);
      const normed = (x: Value, by: Weight | null, count: number) =>
        isNormed ? op.rmsNorm(x, by, 1e-6, count) : x;
      const queries = op.rope(normed(given.input(heads * headDim, 1), queryWeight, heads), heads, rope);
      const projected = given.input(kvHeads * headDim, 2);
      const keys = op.rope(normed(projected, weight, kvHeads), kvHeads, rope);
      const values = isNormed ? normed(projected, null, kvHeads) : given.input(kvHeads * headDim, 3);
      op.appendKv(cache, op.takeTurned(keys, kvHeads, rope), values);
      const met = op.takeTurned(queries, heads, rope, weight);
      return op.attend(cache, met, { heads, scale: 1 / Math.sqrt(headDim) });
    },
  }));
}
