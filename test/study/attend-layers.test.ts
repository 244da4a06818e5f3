/**
 * What `nibble bench attend` times is attention: over caches filled on the GPU, with pages that come round again among them, fused and expanded to
 * f16 first, outputs are the reference's. And the baseline's kernel compiles for every head size and device.
 */
import { expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { poolPages } from "../../src/cache/layers.ts";
import type { Cache } from "../../src/device/contract.ts";
import { kvConstants, kvFormat } from "../../src/device/webgpu/kv.ts";
import type { AttendJob } from "../../src/study/attend/attend-timer.ts";
import { EXPANDABLE } from "../../src/study/attend/dequantize.ts";
import { AttendLayers } from "../../src/study/attend/webgpu-layers.ts";
import { TOLERANCES } from "../device/device-cases.ts";
import { ATTEND_DIMS } from "../device/webgpu/attend-layer.ts";
import { ALL_TRAITS, describeGpu, NO_TRAITS, nullDevice, softwareDevice } from "../device/webgpu/gpu.ts";

/** Keys and values rounded to float16, 2^-12 of their size in the mean; measured 2.9e-4. */
const ROUNDED = 5e-4;

const PACKED = ["kv4", "k3c-v3r-n64"];

interface Shape {
  heads: number;
  kvHeads: number;
  headDim: number;
  window: number | null;
  tokens: number;
  queries: number;
}

const SHAPES: Shape[] = [
  { heads: 8, kvHeads: 2, headDim: 64, window: null, tokens: 1100, queries: 1 },
  { heads: 2, kvHeads: 2, headDim: 80, window: null, tokens: 40, queries: 1 },
  { heads: 3, kvHeads: 1, headDim: 96, window: 50, tokens: 300, queries: 9 },
];

describeGpu("layers of the bench", () => {
  it.each(SHAPES)(
    "$heads/$kvHeads heads of $headDim, window $window, $queries queries over $tokens tokens",
    async ({ heads, kvHeads, headDim, window, tokens, queries }) => {
      // Nine queries are a prompt.
      const gpu = await softwareDevice({ few: 4 });
      const cacheOf = (format: string): Cache => {
        const needs = { cacheTokens: tokens, texts: 1, maxTokens: Math.max(64, queries) };
        const pool = { id: 0, window, pages: poolPages(window, needs) };
        return { id: 0, layer: 0, codec: kvCodec(format), kvHeads, headDim, turned: 0, pool };
      };
      const expanded = cacheOf("f16");
      const jobs = [
        ...EXPANDABLE.map(cacheOf).flatMap((cache): AttendJob[] => [
          { cache, heads },
          { cache, heads, expanded },
        ]),
        ...PACKED.map((format) => ({ cache: cacheOf(format), heads, expanded: undefined })),
      ];
      const layers = new AttendLayers(gpu, jobs, { queries, position: tokens - queries }, 1);
      try {
        await layers.fill();
        const errors = await layers.errors();
        for (const [i, { cache, expanded }] of jobs.entries()) {
          const exact = queries === 1 ? TOLERANCES.attendInt4 : TOLERANCES.attendF16;
          const allowed = expanded ? ROUNDED : exact;
          expect(errors[i], `${cache.codec.name}${expanded ? " expanded" : ""}`).toBeLessThanOrEqual(allowed);
        }
        gpu.check();
      } finally {
        layers.destroy();
      }
    },
  );

  it.each([
    ["all features", ALL_TRAITS],
    ["none", NO_TRAITS],
  ])("expand every head size with %s", async (_, traits) => {
    const gpu = await nullDevice(traits);
    for (const format of EXPANDABLE)
      for (const headDim of ATTEND_DIMS) {
        const { HEAD_DIM, RQ4, BLOCK_WORDS, SCALES_AT } = kvConstants(kvFormat(format), headDim);
        await gpu.pipeline({ kernel: "dequantizeKv", values: { HEAD_DIM, RQ4, BLOCK_WORDS, SCALES_AT } });
      }
    gpu.check();
  });
});
