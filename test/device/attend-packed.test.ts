/** Packed pages on the CPU device: what packing writes, and attention over packed and recent pages in one pass. */
import { describe, expect, it } from "vitest";
import { relativeError } from "../../src/study/attend/attend-timer.ts";
import { type Binary, Layer, type Random, type Shape, seeded } from "./attend-layer.ts";

const BINARIES: Binary[] = ["kernels", "kernels-relaxed"];
/** Every part that there are kernels for. */
const FORMATS = ["k4c-v4r-n32", "k3c-v3r-n32", "k2c-v2r-n32"];

/** As in attend.test.ts for rq4: queries and weights are rounded to 8 bits. */
const TOLERANCE = 0.015;

const base: Shape = {
  ...{ heads: 4, kvHeads: 2, headDim: 64, pages: 34, window: 0, softcap: 0 },
  ...{ format: FORMATS[0], packed: 2 },
};

/** A layer with `total` tokens whose blocks are packed, and the error of `tokens` queries at its end. */
function errorOf(binary: Binary, shape: Shape, total: number, tokens: number): number {
  const layer = new Layer(binary, shape);
  const queries = layer.fill(total, tokens, seeded(total));
  layer.pack();
  return relativeError(layer.attend(queries), layer.expected(queries));
}

describe.each(BINARIES)("%s", (binary) => {
  describe.each(FORMATS)("%s", (format) => {
    it("packs as the codec does, of any numbers", () => {
      const kinds: ((i: number, size: number, random: Random) => Float32Array)[] = [
        (_, size, random) => random(size),
        (i, size) => new Float32Array(size).fill(i % 3),
        (_, size) => new Float32Array(size).fill(-0),
        (_, size, random) => random(size).map((x, i) => x * 10 ** ((i % 12) - 7)),
        (_, size, random) => random(size).map((x) => x * 1e9),
        (_, size, random) => random(size).map((x, i) => (i % 8 === 3 ? 300 + x : x)),
      ];
      for (const headDim of [16, 80, 128]) {
        const layer = new Layer(binary, {
          ...base,
          format,
          headDim,
          pages: kinds.length,
          packed: kinds.length,
        });
        const random = seeded(headDim);
        for (const [kind, make] of kinds.entries())
          for (let i = 0; i < 32; i++) {
            const size = base.kvHeads * headDim;
            layer.append(make(i, size, random), make(i + kind, size, random));
          }
        layer.pack();
        for (let block = 0; block < kinds.length; block++)
          for (const part of ["keys", "values"] as const) {
            const [found, wanted] = layer.packedPage(block, block % base.kvHeads, part);
            expect(found, `${part} of kind ${block}, heads of ${headDim}`).toEqual(wanted);
          }
      }
    });

    it("attends to packed and recent pages in one pass", () => {
      // Of all blocks, those from `kept` to `packed`; rows that share a page, several spans.
      const shapes = [
        [33, 0, 1, 1],
        [129, 1, 3, 7],
      ];
      const longer = [
        [100, 0, 2, 33],
        [130, 3, 3, 1],
        [1000, 0, 27, 1],
        [700, 1, 18, 20],
      ];
      for (const [total, kept, packed, tokens] of format === FORMATS[0] ? [...shapes, ...longer] : shapes)
        expect(errorOf(binary, { ...base, format, kept, packed }, total, tokens)).toBeLessThan(TOLERANCE);
    });
  });

  it.each([16, 48, 80, 96, 128, 256, 512])("heads of %i", (headDim) => {
    for (const [heads, kvHeads, tokens] of [
      [3, 1, 1],
      [2, 2, 9],
    ]) {
      const shape = { ...base, format: FORMATS[tokens % 3], heads, kvHeads, headDim, pages: 3 };
      expect(errorOf(binary, shape, 77, tokens)).toBeLessThan(TOLERANCE);
    }
  });

  it("windows that begin in a packed page, and pages that come round again", () => {
    for (const [window, pages, packed, tokens] of [
      [20, 22, 20, 1],
      [64, 22, 20, 5],
      [100, 22, 19, 33],
      [512, 22, 21, 1],
    ])
      expect(errorOf(binary, { ...base, window, pages, packed }, 700, tokens)).toBeLessThan(TOLERANCE);
  });

  it("soft-capped scores, and sinks", () => {
    expect(errorOf(binary, { ...base, softcap: 1.5, packed: 4 }, 200, 40)).toBeLessThan(TOLERANCE);
    const sinks = Float32Array.of(-1e4, 2.5, 3, Number.NEGATIVE_INFINITY);
    for (const total of [140, 700])
      expect(errorOf(binary, { ...base, sinks, packed: 3 }, total, 3)).toBeLessThan(TOLERANCE);
  });

  it("channels that stand out cost the others nothing", () => {
    const layer = new Layer(binary, { ...base, packed: 5 });
    const random = seeded(9);
    const standOut = (x: Float32Array) =>
      x.map((v, i) => (i % 16 === 5 ? 40 * v : i % 16 === 7 ? 900 + v : v));
    for (let i = 0; i < 200; i++) layer.append(standOut(random(128)), random(128));
    layer.pack();
    const queries = random(3 * 256).map((x, i) => (i % 16 === 7 ? x / 100 : i % 16 === 5 ? x / 40 : x));
    expect(relativeError(layer.attend(queries), layer.expected(queries))).toBeLessThan(TOLERANCE);
  });

  it("extreme values stay finite", () => {
    for (const size of [0, 1e-6, 1e9])
      for (const scale of [0, 1e-38, 1e6]) {
        const layer = new Layer(binary, { ...base, packed: 2 });
        const random = seeded(1);
        const row = () => random(128).map((x) => x * size);
        for (let i = 0; i < 70; i++) layer.append(row(), row());
        layer.pack();
        const found = layer.attend(random(3 * 256).map((x) => x * scale));
        expect(found.every(Number.isFinite)).toBe(true);
      }
  });

  it("any split of the units gives the same bits", () => {
    const layer = new Layer(binary, { ...base, packed: 16 });
    const queries = layer.fill(600, 3, seeded(7));
    layer.pack();
    const whole = layer.attend(queries);
    for (const cut of [0.1, 0.5, 0.9])
      expect(layer.attend(queries, (units) => [Math.floor(cut * units)])).toEqual(whole);
  });
});
