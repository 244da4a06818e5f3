/** Appending to the WASM device's cache and attending to it: both binaries, all formats, all shapes and edges. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { Recorder } from "../../src/device/recorder.ts";
import {
  appendWorkBytes,
  attendPartialBytes,
  attendWorkBytes,
  type KvFormat,
  kvFormatNumber,
  layerPageBytes,
} from "../../src/device/wasm/kv-layout.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { type Binary, Layer, type Random, type Shape, seeded } from "./attend-layer.ts";
import { expectSame } from "./same.ts";

const BINARIES: Binary[] = ["kernels", "kernels-relaxed"];
const FORMATS: KvFormat[] = ["f16", "int4", "rq4"];

/**
 * Largest allowed rms of the error over rms of the output.
 * f16: float32 sums and a polynomial exp2 against float64.
 * int4: queries are rounded to 8 bits (1/254 of a group's largest, 0.4 % of a Gaussian score's spread) and weights to 7
 * bits of a block's largest; together 1.1 % on Gaussian data, where the 4 bits themselves cost 8 % of a value.
 * rq4: as int4; the rotated query is as Gaussian as the one before.
 */
const TOLERANCE: Record<KvFormat, number> = { f16: 5e-6, int4: 0.015, rq4: 0.015 };

const base: Shape = {
  heads: 4,
  kvHeads: 2,
  headDim: 64,
  pages: 34,
  window: 0,
  softcap: 0,
  format: "int4",
};

function relativeError(found: Float32Array, wanted: Float32Array): number {
  let errors = 0;
  let sizes = 0;
  for (let i = 0; i < wanted.length; i++) {
    errors += (found[i] - wanted[i]) ** 2;
    sizes += wanted[i] ** 2;
  }
  return Math.sqrt(errors / Math.max(sizes, 1e-30));
}

function expectClose(
  layer: Layer,
  queries: Float32Array,
  tolerance = TOLERANCE[layer.shape.format as KvFormat],
): void {
  const error = relativeError(layer.attend(queries), layer.expected(queries));
  expect(error).toBeLessThan(tolerance);
}

describe.each(BINARIES)("%s", (binary) => {
  describe.each(FORMATS)("%s", (format) => {
    it.each([1, 31, 32, 33, 100, 1000])("context of %i tokens", (total) => {
      for (const tokens of [1, 2, 3, 7, 33, 64]) {
        if (tokens > total) continue;
        const layer = new Layer(binary, { ...base, format });
        expectClose(layer, layer.fill(total, tokens, seeded(total)));
      }
    });

    it.each([16, 48, 64, 80, 96, 128, 256, 496, 512])("heads of %i", (headDim) => {
      for (const [heads, kvHeads] of [
        [2, 2],
        [4, 2],
        [3, 1],
        [8, 2],
        [8, 1],
        [16, 1],
      ]) {
        for (const tokens of [1, 9]) {
          const layer = new Layer(binary, { ...base, format, heads, kvHeads, headDim, pages: 3 });
          expectClose(layer, layer.fill(77, tokens, seeded(headDim)));
        }
      }
    });

    it("stores what the codec would", () => {
      for (const headDim of [64, 80, 512]) {
        const layer = new Layer(binary, { ...base, format, headDim, pages: 3 });
        layer.fill(150, 1, seeded(3), 13);
        for (let position = 54; position < 150; position++) {
          for (const part of ["keys", "values"] as const) {
            const [found, wanted] = layer.stored(position, position % 2, part);
            expectSame(found, wanted);
          }
        }
      }
    });

    it("fewer pages than the text has blocks, with a window", () => {
      for (const [window, pages, tokens] of [
        [1, 1, 1],
        [20, 2, 5],
        [64, 4, 33],
        [100, 7, 64],
        [512, 17, 1],
      ]) {
        const layer = new Layer(binary, { ...base, format, window, pages });
        const queries = layer.fill(700, tokens, seeded(window), tokens);
        expectClose(layer, queries);
      }
    });

    it("soft-capped scores", () => {
      const layer = new Layer(binary, { ...base, format, softcap: 1.5 });
      expectClose(layer, layer.fill(200, 40, seeded(5)));
    });

    it("sinks count once, in one span and in several, below and above all scores", () => {
      const sinks = Float32Array.of(-1e4, 2.5, 30, Number.NEGATIVE_INFINITY);
      for (const total of [40, 1000]) {
        for (const [window, softcap] of [
          [0, 0],
          [300, 1.5],
        ]) {
          const layer = new Layer(binary, { ...base, format, sinks, window, softcap });
          // A head at a time: the second one's sink, above all scores, leaves little of the values.
          const queries = layer.fill(total, 3, seeded(total));
          const [found, wanted] = [layer.attend(queries), layer.expected(queries)];
          for (let at = 0; at < found.length; at += base.headDim) {
            const head = (x: Float32Array) => x.subarray(at, at + base.headDim);
            expect(relativeError(head(found), head(wanted))).toBeLessThan(2 * TOLERANCE[format]);
          }
        }
      }
    });

    it("any split of the units gives the same bits", () => {
      for (const tokens of [1, 40]) {
        const layer = new Layer(binary, { ...base, format, sinks: Float32Array.of(1, 2, 3, 4) });
        const queries = layer.fill(1000, tokens, seeded(7));
        const whole = layer.attend(queries);
        fc.assert(
          fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 6 }), (fractions) => {
            const cuts = (units: number) => fractions.map((f) => Math.floor(f * units)).sort((a, b) => a - b);
            expectSame(layer.attend(queries, cuts), whole);
          }),
          { numRuns: 20 },
        );
      }
    });
  });

  it("int4 on Gaussian data: close to attention over the cache, and to attention without quantization", () => {
    const layer = new Layer(binary, { ...base, heads: 8, headDim: 128 });
    const queries = layer.fill(1000, 8, seeded(11));
    const found = layer.attend(queries);
    expect(relativeError(found, layer.expected(queries))).toBeLessThan(0.0125);
    // What 4 bits cost: the groups' steps are a 15th of their range, an error of 8 % of a value, as much on scores.
    expect(relativeError(found, layer.expected(queries, false))).toBeLessThan(0.15);
  });
});

describe.each(FORMATS)("extreme values, %s", (format) => {
  const cases: [string, (i: number, size: number, random: Random) => [Float32Array, Float32Array]][] = [
    ["zeros", (_, size) => [new Float32Array(size), new Float32Array(size)]],
    ["constants", (i, size) => [new Float32Array(size).fill(i), new Float32Array(size).fill(-3)]],
    ["huge", (_, size, random) => [random(size).map((x) => x * 2e4), random(size).map((x) => x * 2e4)]],
    ["tiny", (_, size, random) => [random(size).map((x) => x * 1e-6), random(size).map((x) => x * 1e-6)]],
    [
      "beyond float16",
      (_, size, random) => [random(size).map((x) => x * 1e9), random(size).map((x) => x * 1e9)],
    ],
  ];
  it.each(cases)("%s stay finite", (_, make) => {
    for (const binary of BINARIES) {
      for (const scale of [0, 1e-38, 1, 1e6]) {
        const layer = new Layer(binary, { ...base, format });
        const random = seeded(1);
        const row = base.kvHeads * base.headDim;
        for (let i = 0; i < 70; i++) layer.append(...make(i, row, random));
        const found = layer.attend(random(3 * base.heads * base.headDim).map((x) => x * scale));
        expect(found.every(Number.isFinite)).toBe(true);
      }
    }
  });

  it("one dominant token is returned as it is stored", () => {
    for (const binary of BINARIES) {
      const layer = new Layer(binary, { ...base, format, heads: 2 });
      layer.fill(300, 1, seeded(2));
      const query = seeded(4)(2 * 64);
      layer.append(
        query.map((x) => 10 * x),
        seeded(5)(2 * 64),
      );
      layer.fill(333, 1, seeded(6));
      const found = layer.attend(query.map((x) => 10 * x));
      const wanted = [0, 1].flatMap((head) => [...layer.stored(300, head, "values")[1]]);
      expect(relativeError(found, Float32Array.from(wanted))).toBeLessThan(1e-3);
    }
  });
});

it("more query heads than a unit has columns are refused before anything is allocated", async () => {
  const device = await wasmDevice({ threads: 1 });
  const graph = (heads: number, kvHeads: number) => {
    const op = new Recorder(1, 1);
    const queries = op.embed(op.weight("table", "matrix", "f32", 2, heads * 16));
    const cache = op.cache({
      layer: 0,
      codec: kvCodec("int4"),
      kvHeads,
      headDim: 16,
      pool: op.pool(null, 1),
    });
    return op.finish(op.takeOutputs(op.attend(cache, queries, { heads, scale: 1 })));
  };
  expect(() => device.measure(graph(130, 2))).toThrow(
    "130 query heads over 2 KV heads on the wasm device is not",
  );
  expect(device.measure(graph(128, 2)).total).toBeGreaterThan(0);
});

it("the host's sizes are the kernels'", () => {
  const { kernels } = new Layer("kernels", base);
  for (const headDim of [64, 80, 96, 128, 256, 512]) {
    for (const [codec, packed] of [
      ["f16", 0],
      ["k4c-v4r-n32", 1],
    ] as const) {
      const shape = { codec: kvCodec(codec), kvHeads: 1, headDim };
      expect(attendWorkBytes({ ...shape, turned: 0 })).toBe(kernels.attendWorkBytes(headDim, packed));
      const format = kvFormatNumber(shape.codec);
      for (const turned of [16, headDim / 2])
        if (turned % 16 === 0)
          expect(attendWorkBytes({ ...shape, turned })).toBe(
            kernels.turnedWorkBytes(headDim, turned, format),
          );
    }
    expect(appendWorkBytes(headDim, true)).toBe(kernels.packWorkBytes(headDim));
    for (const [heads, kvHeads] of [
      [32, 8],
      [4, 1],
      [7, 1],
      [6, 2],
    ]) {
      for (let tokens = 1; tokens <= 200; tokens += 3) {
        // One run, and the same tokens as runs of up to five texts.
        for (let texts = 1; texts <= Math.min(5, tokens); texts++) {
          const counts = Array.from({ length: texts }, (_, i) => Math.floor((tokens + i) / texts));
          const tiles = counts.reduce((sum, count) => sum + kernels.attendTiles(count, heads, kvHeads), 0);
          const needed = counts.reduce((sum, count) => {
            const spans = kernels.attendSpans(count, tiles, kvHeads, 100_000, 0);
            return sum + (spans > 1 ? count * heads * spans * (headDim + 4) * 4 : 0);
          }, 0);
          expect(attendPartialBytes(200, texts, heads, kvHeads, headDim)).toBeGreaterThanOrEqual(needed);
        }
      }
    }
  }
  // 5.0 bits a value for head sizes that are multiples of 32.
  const bytes = (codec: string) => {
    const shape = { codec: kvCodec(codec), kvHeads: 8, headDim: 128, turned: 0 };
    return 4096 * (layerPageBytes(shape, "keys") + layerPageBytes(shape, "values"));
  };
  expect(bytes("int4")).toBe((2 * 8 * 128 * 131072 * 5) / 8);
  expect(bytes("f16")).toBe(2 * 8 * 128 * 131072 * 2);
});
