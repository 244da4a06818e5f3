/**
 * The GPU's cache and attention in software: what lies in the buffers is what the codec would write, bit by bit, and
 * attention over it is the reference's. Head sizes, groups, windows, pages that come round again, steps that begin and end inside blocks.
 */
import { beforeAll, expect, it } from "vitest";
import { blocksOf } from "../../../src/cache/layers.ts";
import { PAGE_SLOTS } from "../../../src/device/contract.ts";
import { rmsNorm, rope } from "../../../src/device/reference/ops.ts";
import type { Gpu } from "../../../src/device/webgpu/gpu.ts";
import { KV_FORMATS } from "../../../src/device/webgpu/kv.ts";
import { TOLERANCES } from "../device-cases.ts";
import { gaussian, random } from "../random-tensor.ts";
import { AttendLayer, type Shape } from "./attend-layer.ts";
import { describeGpu, softwareDevice } from "./gpu.ts";

const noise = (count: number, seed: number) => {
  const next = random(seed);
  return Float32Array.from({ length: count }, () => gaussian(next));
};

const relative = (found: Float32Array, wanted: Float32Array) => {
  const sum = (f: (i: number) => number) => wanted.reduce((all, _, i) => all + f(i) ** 2, 0);
  return Math.sqrt(sum((i) => found[i] - wanted[i]) / sum((i) => wanted[i]));
};

/** Appends [tokens, kvHeads, headDim] as columns of one buffer with a gap between rows, as a fused projection has. */
async function append(layer: AttendLayer, position: number, keys: Float32Array, values: Float32Array) {
  const width = layer.shape.kvHeads * layer.shape.headDim;
  const tokens = keys.length / width;
  const stride = 2 * width + 7;
  const rows = new Float32Array(3 + tokens * stride);
  for (let t = 0; t < tokens; t++) {
    rows.set(keys.subarray(t * width, (t + 1) * width), 3 + t * stride);
    rows.set(values.subarray(t * width, (t + 1) * width), 3 + t * stride + width);
  }
  const buffer = layer.floats("rows", rows);
  const view = (offset: number) => ({ buffer, offset, stride });
  await layer.append(position, tokens, { view: view(3), norm: null }, view(3 + width), {
    rope: null,
    queries: null,
  });
}

interface Case extends Omit<Shape, "pages" | "format"> {
  steps: number[];
}

/** Rows of a step that attend one by one, at most. */
const FEW = 8;

const CASES: Case[] = [
  { heads: 6, kvHeads: 2, headDim: 64, steps: [31, 1, 2] },
  { heads: 2, kvHeads: 2, headDim: 80, steps: [33, 1] },
  { heads: 14, kvHeads: 2, headDim: 96, steps: [70, 3], window: 21 },
  { heads: 16, kvHeads: 1, headDim: 128, steps: [64, 1, 90, 1], softcap: 5 },
  { heads: 4, kvHeads: 1, headDim: 256, steps: [60, 60, 60, 60, 1, 5], window: 40 },
  { heads: 10, kvHeads: 1, headDim: 512, steps: [40, 1] },
];
/** Rows that share what they read, in several spans. */
const SPANS: Case = { heads: 20, kvHeads: 1, headDim: 64, steps: [1900, 1, 6] };
/** More spans than the threads of a merge load before they add. */
const MANY_SPANS: Case = { heads: 1, kvHeads: 1, headDim: 512, steps: [6600, 1, 1] };

/** Each shape in each format once, with subgroups or without: reductions alone differ. f16: conformance-plain.test.ts. */
const casesOf = (format: number, subgroups: boolean) => [
  ...CASES.filter((_, shape) => subgroups === ((shape + format) % 2 === 0) && (format > 0 || subgroups)),
  ...(format === (subgroups ? 1 : 0) ? [SPANS] : []),
  ...(format === 0 && subgroups ? [MANY_SPANS] : []),
];

describeGpu("the cache", () => {
  for (const subgroups of [true, false]) {
    let gpu: Gpu;
    beforeAll(async () => {
      gpu = await softwareDevice({ subgroups });
    });

    for (const [f, format] of KV_FORMATS.entries())
      it.each(casesOf(f, subgroups))(
        `${format}, ${subgroups ? "with" : "without"} subgroups: $heads/$kvHeads heads of $headDim, steps $steps, window $window, softcap $softcap`,
        async (shape) => {
          const { steps, heads, kvHeads, headDim, window = null } = shape;
          const context = steps.reduce((a, b) => a + b, 0);
          const most = Math.max(...steps);
          // No more than a step and what its first row sees.
          const pages = Math.min(blocksOf(context), blocksOf((window ?? context) + most - 2) + 1);
          const layer = new AttendLayer(gpu, { ...shape, format, pages }, most, context);
          const width = kvHeads * headDim;
          const all = { keys: noise(context * width, 1), values: noise(context * width, 2) };
          let position = 0;
          for (const [i, tokens] of steps.entries()) {
            const rows = (part: Float32Array) => part.subarray(position * width, (position + tokens) * width);
            await append(layer, position, rows(all.keys), rows(all.values));
            if (i >= steps.length - 2) {
              const queries = noise(tokens * heads * headDim, 3 + i);
              const wanted = await layer.expected(position, queries);
              // Several rows in tiles, and one by one where they may be few.
              for (const few of tokens > 1 && tokens <= FEW ? [1, FEW] : [1]) {
                const { mode, out } = await layer.attend(position, queries, few);
                expect(mode).toBe(tokens === 1 ? "decode" : few === 1 ? "prompt" : "few");
                const isExact = mode === "prompt" || format === "f16";
                const tolerance = isExact ? TOLERANCES.attendF16 : TOLERANCES.attendInt4;
                expect(relative(out, wanted), mode).toBeLessThanOrEqual(tolerance);
              }
            }
            position += tokens;
          }
          const stored = await layer.stored();
          const { codec } = layer.cache;
          const bytes = new Uint8Array(codec.vectorBytes(headDim));
          for (let at = (blocksOf(context) - pages) * PAGE_SLOTS; at < context; at++)
            for (let kvHead = 0; kvHead < kvHeads; kvHead++)
              for (const part of ["keys", "values"] as const) {
                const first = at * width + kvHead * headDim;
                codec.encode(all[part].subarray(first, first + headDim), bytes, part);
                const found = stored(part, kvHead, at);
                if (Buffer.compare(found, bytes) !== 0)
                  expect([...found], `${part} of head ${kvHead} at ${at}`).toEqual([...bytes]);
              }
        },
      );
  }

  it.each([null, 0.3])(
    "norms and angles keys and queries on their way, and values with an epsilon of %j",
    async (valueEpsilon) => {
      const gpu = await softwareDevice();
      const [heads, kvHeads, headDim, pairs, tokens, position] = [3, 1, 96, 20, 5, 30];
      const layer = new AttendLayer(gpu, { format: "f16", heads, kvHeads, headDim, pages: 2 }, tokens, 64);
      const width = (heads + 2 * kvHeads) * headDim;
      const rows = noise(tokens * width, 1);
      const weights = { queries: noise(headDim, 2), keys: noise(headDim, 3) };
      const frequencies = Float64Array.from({ length: pairs }, (_, i) => 0.5 ** i);
      const magnitude = 1.25;
      const positions = Uint32Array.from({ length: tokens }, (_, t) => position + t);
      const angles = new Float32Array(tokens * 2 * pairs);
      for (const [t, at] of positions.entries())
        frequencies.forEach((frequency, i) => {
          angles[t * 2 * pairs + i] = Math.cos(at * frequency) * magnitude;
          angles[t * 2 * pairs + pairs + i] = Math.sin(at * frequency) * magnitude;
        });
      const buffer = layer.floats("rows", rows);
      const out = layer.buffer("queries", tokens * heads * headDim * 4);
      const view = (offset: number) => ({ buffer, offset, stride: width });
      const norm = (weight: Float32Array<ArrayBuffer>, epsilon: number) => ({
        weight: layer.floats("norm", weight),
        epsilon,
      });
      await layer.append(
        position,
        tokens,
        { view: view(heads * headDim), norm: norm(weights.keys, 1e-3) },
        { view: view((heads + kvHeads) * headDim), epsilon: valueEpsilon },
        {
          rope: { angles: layer.floats("angles", angles), pairs },
          queries: { view: view(0), norm: norm(weights.queries, 0.1), heads, out },
        },
      );
      const columns = (first: number, count: number) =>
        Float32Array.from(
          { length: tokens * count },
          (_, i) => rows[Math.floor(i / count) * width + first + (i % count)],
        );
      const turned = (x: Float32Array, weight: Float32Array, epsilon: number, count: number) => {
        const result = new Float32Array(x.length);
        rmsNorm(x, weight, headDim, epsilon, result);
        rope(result.slice(), count, frequencies, magnitude, positions, result);
        return result;
      };
      const queries = new Float32Array((await layer.read(out)).buffer);
      const wanted = turned(columns(0, heads * headDim), weights.queries, 0.1, heads);
      expect(relative(queries, wanted)).toBeLessThanOrEqual(TOLERANCES.float);
      const stored = await layer.stored();
      const vector = new Float32Array(headDim);
      const keys = turned(columns(heads * headDim, headDim), weights.keys, 1e-3, 1);
      const values = columns((heads + 1) * headDim, headDim);
      if (valueEpsilon !== null) rmsNorm(values.slice(), null, headDim, valueEpsilon, values);
      // Rounding to float16: 2^-11 at most, a third of it on average.
      for (const [part, all] of [
        ["keys", keys],
        ["values", values],
      ] as const)
        for (let t = 0; t < tokens; t++) {
          layer.cache.codec.decode(stored(part, 0, position + t), vector);
          expect(relative(vector, all.subarray(t * headDim, (t + 1) * headDim))).toBeLessThanOrEqual(4e-4);
        }
    },
  );
});
