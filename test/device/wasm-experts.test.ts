/** The CPU device's kernels for mixtures of experts, one by one: the order of picks, what is read, any split of the work. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { expertMatmul as referenceExpertMatmul } from "../../src/device/reference/experts.ts";
import { MATMUL_SCRATCH_BYTES, packedBytes, TYPE_IDS } from "../../src/device/wasm/packing.ts";
import { rowBytes, type TensorType } from "../../src/format/tensor.ts";
import { dequantizeRows, KernelBench } from "./kernels.ts";
import { random, randomBytes } from "./random-tensor.ts";

interface Experts {
  readonly type: TensorType;
  readonly experts: number;
  /** Of one expert. */
  readonly rows: number;
  readonly cols: number;
  /** By token: the experts that it takes. */
  readonly ids: readonly (readonly number[])[];
}

let bench: KernelBench;
beforeAll(async () => {
  bench = await KernelBench.open("auto");
});

const words = (at: number, count: number) => new Uint32Array(bench.memory.buffer, at, count);

/** Picks as `route` writes them; weights do not matter here. */
function picksOf(ids: Experts["ids"]): Float32Array {
  return Float32Array.from(ids.flatMap((each) => [...each, ...each.map(() => 0.5)]));
}

function group(picks: Float32Array, experts: number, k: number) {
  const rows = picks.length / 2 / k;
  const [order, starts] = [bench.place(rows * k * 4), bench.place((experts + 1) * 4)];
  bench.call.groupPicks(order, starts, bench.placeFloats(picks), experts, k, rows);
  return { order, starts };
}

/** y [picks, rows], what the reference makes of the same (quantized) input, and how many panels were read. */
function run(shape: Experts, poisoned: readonly number[] = [], cuts: readonly number[] = []) {
  const { type, experts, rows, cols, ids } = shape;
  bench.clear();
  const k = ids[0].length;
  const tokens = ids.length;
  const bytes = randomBytes(type, experts * rows, cols, 3);
  const one = rows * rowBytes(type, cols);
  const next = random(4);
  const x = Float32Array.from({ length: tokens * cols }, () => next() - 0.5);
  const xAt = bench.placeFloats(x);
  const q = bench.quantize(xAt, cols, tokens);
  const seen = Float32Array.from(bench.dequantizedRows(q, cols, tokens));
  const wanted = new Float32Array(tokens * k * rows);
  const weight = dequantizeRows(type, bytes, experts * rows * cols);
  const picks = picksOf(ids);
  referenceExpertMatmul(seen, picks, k, { weight, bias: null, rows, cols }, wanted);
  for (const expert of poisoned) bytes.fill(0xff, expert * one, (expert + 1) * one);
  const w = bench.pack(type, bytes, experts * rows, cols);
  const { order, starts } = group(picks, experts, k);
  const y = bench.place(wanted.byteLength + 64);
  const out = bench.floats(y, wanted.length + 16).fill(1234.5);
  const scratch = bench.place(MATMUL_SCRATCH_BYTES);
  const units = bench.call.expertUnits(starts, experts, rows);
  const ends = [...cuts.map((cut) => Math.floor(cut * units)).sort((a, b) => a - b), units];
  let panels = 0;
  for (const [i, end] of ends.entries()) {
    const range = [i === 0 ? 0 : ends[i - 1], end];
    const places = [order, starts, ...range, scratch];
    panels += bench.call.expertMatmul(
      ...[y, xAt, q, w, TYPE_IDS[type], rows, cols, 0, experts, k, ...places],
    );
  }
  expect(out.subarray(wanted.length).every((value) => value === 1234.5)).toBe(true);
  return { found: out.slice(0, wanted.length), wanted, panels };
}

function worst(found: Float32Array, wanted: Float32Array): number {
  const size = Math.sqrt(wanted.reduce((sum, value) => sum + value ** 2, 0) / wanted.length);
  return found.reduce((most, value, i) => {
    const error = Math.abs(value - wanted[i]) / size;
    return error <= most ? most : error;
  }, 0);
}

describe("groupPicks", () => {
  it("sorts any picks by expert and keeps their order", () => {
    const shapes = fc
      .record({ experts: fc.integer({ min: 1, max: 9 }), k: fc.integer({ min: 1, max: 3 }) })
      .chain(({ experts, k }) =>
        fc.record({
          experts: fc.constant(experts),
          k: fc.constant(k),
          ids: fc.array(fc.array(fc.integer({ min: 0, max: experts - 1 }), { minLength: k, maxLength: k }), {
            minLength: 1,
            maxLength: 20,
          }),
        }),
      );
    fc.assert(
      fc.property(shapes, ({ experts, k, ids }) => {
        bench.clear();
        const { order, starts } = group(picksOf(ids), experts, k);
        const flat = ids.flat();
        const wanted = flat.map((_, pick) => pick).sort((a, b) => flat[a] - flat[b] || a - b);
        expect([...words(order, flat.length)]).toEqual(wanted);
        const begins = Array.from({ length: experts + 1 }, (_, e) => flat.filter((id) => id < e).length);
        expect([...words(starts, experts + 1)]).toEqual(begins);
      }),
      { numRuns: 60 },
    );
  });

  it("ids that are none stay within the experts", () => {
    bench.clear();
    const { starts } = group(Float32Array.of(Number.NaN, -3, 1e9, 2, 0, 0, 0, 0), 3, 4);
    expect([...words(starts, 4)]).toEqual([0, 3, 3, 4]);
  });
});

describe("expertMatmul", () => {
  const one = { type: "q4_0", experts: 16, rows: 64, cols: 96, ids: [[3, 15, 0, 7]] } as const;

  it("of one token reads the panels of the chosen experts and no others", () => {
    const others = Array.from({ length: 16 }, (_, e) => e).filter(
      (e) => !(one.ids[0] as readonly number[]).includes(e),
    );
    const { found, wanted, panels } = run(one, others);
    expect(worst(found, wanted)).toBeLessThan(1e-5);
    expect(panels).toBe((4 * one.rows) / 8);
    // Of the matrix's bytes a quarter.
    expect(panels * packedBytes("q4_0", 8, 96)).toBe(packedBytes("q4_0", 16 * 64, 96) / 4);
  });

  it("of a prompt reads each chosen expert's panels once", () => {
    const ids = Array.from({ length: 40 }, (_, t) => [t % 5, 5 + (t % 3)]);
    const { found, wanted, panels } = run({ ...one, ids }, [8, 9, 10, 11, 12, 13, 14, 15]);
    expect(worst(found, wanted)).toBeLessThan(1e-5);
    expect(panels).toBe((8 * one.rows) / 8);
  });

  it.each(["q4_0", "q6_k", "q8_0", "f16"] as const)(
    "%s: any split of the units gives the same bits",
    (type) => {
      // 35 rows: experts begin and end within panels. Experts have one pick, three, and many.
      const cols = type === "q6_k" ? 256 : 96;
      const ids = Array.from({ length: 12 }, (_, t) => [t < 9 ? 1 : 4, t === 0 ? 0 : 2]);
      const shape = { type, experts: 6, rows: 35, cols, ids };
      const whole = run(shape, [3, 5]);
      if (type !== "f16") expect(worst(whole.found, whole.wanted)).toBeLessThan(1e-5);
      fc.assert(
        fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 6 }), (cuts) => {
          expect(run(shape, [3, 5], cuts).found).toEqual(whole.found);
        }),
        { numRuns: 12 },
      );
    },
  );
});

describe("routeRows", () => {
  it("of logits that are no numbers gives ids of experts and weights that are none", () => {
    const bad = [
      [Number.NaN, Number.NaN, Number.NaN, Number.NaN],
      [1, Number.NaN, 3, 2],
      [Number.POSITIVE_INFINITY, 0, Number.POSITIVE_INFINITY, 1],
      Array(4).fill(Number.NEGATIVE_INFINITY),
    ];
    for (const normalise of [0, 1]) {
      bench.clear();
      const out = bench.place(bad.length * 24);
      bench.call.routeRows(
        out,
        bench.placeFloats(Float32Array.from(bad.flat())),
        4,
        3,
        normalise,
        0,
        0,
        bad.length,
      );
      for (let t = 0; t < bad.length; t++) {
        const ids = [...bench.floats(out + t * 24, 3)];
        expect(ids.every((id) => id >= 0 && id < 4 && Number.isInteger(id))).toBe(true);
        expect([...bench.floats(out + t * 24 + 12, 3)].every(Number.isNaN)).toBe(true);
      }
    }
  });
});
