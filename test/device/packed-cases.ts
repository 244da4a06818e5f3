/**
 * Conformance of packed caches: appendKv with blocks to pack, attend over packed pages and those that are not packed yet, in
 * steps of one row, of few and of many; `case-runs.ts` runs them.
 */
import type { Recorder } from "../../src/device/recorder.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import type { DeviceCase, Given } from "./device-cases.ts";

interface PackedShape {
  heads: number;
  kvHeads: number;
  headDim: number;
  steps: DeviceCase["steps"];
  window?: number;
  softcap?: number;
  sinks?: boolean;
  onlyMatrices?: boolean;
}

/** The last step meets packed pages; others pack within a chunk, a page at a time, and none. */
const SHAPES: readonly PackedShape[] = [
  { heads: 16, kvHeads: 2, headDim: 64, steps: [70, 1, 25, 1, 1] },
  // Rows of one text that share what they read.
  { heads: 2, kvHeads: 1, headDim: 128, steps: [150, 7], softcap: 5 },
  // A window that has passed pages before they could be packed, and one that begins in a packed page.
  { heads: 3, kvHeads: 3, headDim: 80, steps: [90, 40, 3], window: 20 },
  { heads: 2, kvHeads: 1, headDim: 256, steps: [64, 64, 1], window: 70, sinks: true },
  { heads: 2, kvHeads: 1, headDim: 512, steps: [97, 1] },
  // Several texts, of which some have packed pages.
  {
    heads: 6,
    kvHeads: 2,
    headDim: 96,
    steps: [
      [99, 0, 5],
      [1, 40, 60],
      [4, 33, 1],
    ],
  },
  // As device-cases.ts has it.
  { heads: 12, kvHeads: 1, headDim: 256, steps: [129, 1], onlyMatrices: true },
  // attendPromptApart, whose last step sees packed pages with a window.
  { heads: 8, kvHeads: 2, headDim: 128, steps: [150, 40], onlyMatrices: true },
  { heads: 4, kvHeads: 1, headDim: 128, steps: [150, 40], window: 70, onlyMatrices: true },
];

/** Of some of the shapes, by their places. */
export function packedCases(
  kv: string,
  tolerance: number,
  shapes: Iterable<number> = SHAPES.keys(),
): DeviceCase[] {
  return [...shapes].map((shape) => {
    const {
      heads,
      kvHeads,
      headDim,
      steps,
      window = null,
      softcap = 0,
      sinks = false,
      onlyMatrices,
    } = SHAPES[shape];
    return {
      name: `appendKv, attend ${kv}, ${heads}/${kvHeads} heads of ${headDim}, steps ${JSON.stringify(steps)}, window ${window}, softcap ${softcap}${sinks ? ", sinks" : ""}`,
      ...{ kv, tolerance, steps, onlyMatrices },
      build: (op: Recorder, given: Given) => {
        const cache = given.cache({ codec: kv, kvHeads, headDim, window });
        const rope = op.ropeTable(ropeFrequencies(10_000, headDim));
        const queries = op.rope(given.input(heads * headDim, 1), heads, rope);
        const keys = op.rope(given.input(kvHeads * headDim, 2), kvHeads, rope);
        op.appendKv(cache, keys, given.input(kvHeads * headDim, 3));
        return op.attend(cache, queries, {
          ...{ heads, scale: 1 / Math.sqrt(headDim), softcap },
          ...(sinks && { sinks: given.weight("vector", "f32", 1, heads, 4) }),
        });
      },
    };
  });
}
