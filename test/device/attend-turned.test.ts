/** Attention on the CPU device where one vector serves as key and value: keys are turned dims, then the values. */
import { describe, expect, it } from "vitest";
import { relativeError } from "../../src/study/attend/attend-timer.ts";
import { type Binary, Layer, type Shape, seeded } from "./attend-layer.ts";

/** As in attend.test.ts: formats of codes round queries and weights to 8 bits. */
const TOLERANCES: Record<string, number> = {
  f16: 5e-6,
  ...{ int4: 0.015, rq4: 0.015, "k4c-v4r-n32": 0.015, "k3c-v3r-n32": 0.015, "k2c-v2r-n32": 0.015 },
};

const base = { heads: 4, kvHeads: 2, headDim: 64, turned: 16, pages: 34, window: 0, softcap: 0 };

function expectClose(binary: Binary, shape: Shape, total: number, tokens: number): void {
  const layer = new Layer(binary, shape);
  const queries = layer.fill(total, tokens, seeded(total)).map((x) => x / 2);
  layer.pack();
  const error = relativeError(layer.attend(queries), layer.expected(queries));
  expect(error, JSON.stringify([shape, total, tokens])).toBeLessThan(TOLERANCES[shape.format]);
}

describe.each(["kernels", "kernels-relaxed"] as const)("%s", (binary) => {
  describe.each(Object.keys(TOLERANCES))("%s", (format) => {
    const packs = format.startsWith("k");

    it("heads of several sizes, one row and several, spans, windows, caps and sinks", () => {
      for (const [headDim, turned, heads, kvHeads, total, tokens] of [
        [64, 16, 4, 2, 33, 1],
        [64, 32, 5, 1, 71, 5],
        [80, 48, 3, 1, 77, 9],
        [512, 128, 8, 1, 40, 2],
      ])
        expectClose(
          binary,
          { ...base, headDim, turned, heads, kvHeads, format, packed: packs ? 1 : 0 },
          total,
          tokens,
        );
      const [kept, packed] = packs ? [1, 7] : [0, 0];
      expectClose(binary, { ...base, format, packed, kept }, 300, 3);
      expectClose(binary, { ...base, format, packed, kept, window: 100 }, 300, 3);
      const sinks = Float32Array.of(-3, 2, 3, -1e4);
      expectClose(binary, { ...base, format, packed, softcap: 1.5, sinks }, 290, 3);
    });

    it("holds what the codec holds, of both parts", () => {
      const layer = new Layer(binary, { ...base, headDim: 80, turned: 48, format, packed: packs ? 2 : 0 });
      layer.fill(70, 1, seeded(7));
      layer.pack();
      for (const part of ["keys", "values"] as const)
        for (const [found, wanted] of packs ? [layer.packedPage(1, 1, part)] : [layer.stored(66, 1, part)])
          expect(found).toEqual(wanted);
    });

    it("one part of a query may be nothing, or far larger than the other", () => {
      const layer = new Layer(binary, { ...base, format, packed: packs ? 2 : 0 });
      const queries = layer.fill(70, 4, seeded(3));
      layer.pack();
      const row = base.turned + base.headDim;
      for (const [own, rest] of [
        [0, 0.3],
        [0.3, 0],
        [0, 0],
        [1e-6, 0.3],
        [1e-38, 1e-38],
      ]) {
        const scaled = queries.map((x, i) => x * (i % row < base.turned ? own : rest));
        const error = relativeError(layer.attend(scaled), layer.expected(scaled));
        expect(error).toBeLessThan(TOLERANCES[format]);
      }
      const found = layer.attend(seeded(5)(4 * row * 4).map((x) => x * 1e6));
      expect(found.every(Number.isFinite)).toBe(true);
    });
  });
});
