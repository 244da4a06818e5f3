/**
 * Conformance of layers with one vector for key and value (Cache.turned): takeTurned, appendKv, attend, as Gemma 4's full layers
 * have them; `case-runs.ts` runs them.
 */
import type { Recorder } from "../../src/device/recorder.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import type { DeviceCase, Given } from "./device-cases.ts";

interface TurnedShape {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Pairs that turn. */
  pairs: number;
  steps: DeviceCase["steps"];
  window?: number;
}

const SHAPES: readonly TurnedShape[] = [
  { heads: 16, kvHeads: 2, headDim: 64, pairs: 8, steps: [70, 1, 25, 1, 1] },
  { heads: 2, kvHeads: 1, headDim: 512, pairs: 64, steps: [97, 1] },
  { heads: 3, kvHeads: 3, headDim: 80, pairs: 16, steps: [90, 40, 3], window: 20 },
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

export function turnedCases(kv: string, tolerance: number): DeviceCase[] {
  return SHAPES.map(({ heads, kvHeads, headDim, pairs, steps, window = null }) => ({
    name: `takeTurned, appendKv, attend ${kv}, ${heads}/${kvHeads} heads of ${headDim}, ${pairs} pairs, steps ${JSON.stringify(steps)}, window ${window}`,
    ...{ kv, tolerance, steps },
    build: (op: Recorder, given: Given) => {
      const cache = given.cache({ codec: kv, kvHeads, headDim, window, turned: 2 * pairs });
      const rope = op.ropeTable(ropeFrequencies(10_000, headDim).map((f, i) => (i < pairs ? f : 0)));
      const queries = op.rope(given.input(heads * headDim, 1), heads, rope);
      const keys = op.rope(given.input(kvHeads * headDim, 2), kvHeads, rope);
      const weight = given.weight("vector", "f32", 1, headDim, 4);
      op.appendKv(cache, op.takeTurned(keys, kvHeads, rope), given.input(kvHeads * headDim, 3));
      const met = op.takeTurned(queries, heads, rope, weight);
      return op.attend(cache, met, { heads, scale: 1 / Math.sqrt(headDim) });
    },
  }));
}
