/** The cache codecs: error bounds, hard vectors, and the same values from the CPU device's kernels. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { int4 } from "../../src/cache/codec-int4.ts";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Allocation, KvPart } from "../../src/device/contract.ts";
import { INT4_GROUP } from "../../src/device/int4.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { ArgumentError } from "../../src/format/errors.ts";
import { f16At } from "../../src/format/float16.ts";
import { gaussian, memoryTensor, random } from "../device/random-tensor.ts";
import { expectSame } from "../device/same.ts";

const HEAD_DIMS = [64, 80, 96, 128, 256, 512];
const LARGEST_F16 = 65_504;

function roundTrip(format: string, vector: Float32Array, part: KvPart = "keys"): Float32Array {
  const codec = kvCodec(format);
  const bytes = new Uint8Array(codec.vectorBytes(vector.length));
  codec.encode(vector, bytes, part);
  const back = new Float32Array(vector.length);
  codec.decode(bytes, back);
  return back;
}

/** The distance between float16 numbers around x. */
function f16Step(x: number): number {
  const exponent = Math.max(-14, Math.floor(Math.log2(Math.max(Math.abs(x), 2 ** -24))));
  return 2 ** (exponent - 10);
}

/**
 * Half a step of the code; plus what is cut off at the end of the range because scale and zero are rounded: half of the
 * float16 step of zero, and 15 times that of the scale.
 */
function int4Bound(group: Float32Array): number {
  const min = Math.min(...group);
  const scale = (Math.max(...group) - min) / 15;
  return (scale + f16Step(scale) / 2) / 2 + f16Step(min) / 2 + (15 * f16Step(scale)) / 2 + 1e-6 * scale;
}

function expectInt4Bounds(vector: Float32Array): void {
  const back = roundTrip("int4", vector);
  for (let first = 0; first < vector.length; first += INT4_GROUP) {
    const group = vector.subarray(first, first + INT4_GROUP);
    const bound = int4Bound(group);
    for (let i = 0; i < group.length; i++) {
      const error = Math.abs(group[i] - back[first + i]);
      // An `expect` for each number takes longer than the codec.
      if (!(error <= bound)) expect(error).toBeLessThanOrEqual(bound);
    }
  }
}

describe("int4", () => {
  it.each(HEAD_DIMS)("heads of %i: bytes and error of Gaussian vectors", (headDim) => {
    expect(int4.vectorBytes(headDim)).toBe(headDim / 2 + 4 * Math.ceil(headDim / 32));
    const next = random(headDim);
    for (let i = 0; i < 20; i++)
      expectInt4Bounds(Float32Array.from({ length: headDim }, () => gaussian(next)));
  });

  it("error is bounded for any finite vector within float16's range, its offset and size whatever", () => {
    const value = fc.oneof(
      fc.float({ min: -8, max: 8, noNaN: true }),
      fc.float({ min: -30_000, max: 30_000, noNaN: true }),
      fc.float({ min: Math.fround(-1e-4), max: Math.fround(1e-4), noNaN: true }),
    );
    const vector = fc.array(value, { minLength: 16, maxLength: 16 });
    fc.assert(
      fc.property(vector, (list) => expectInt4Bounds(Float32Array.from(list))),
      { numRuns: 1000, seed: 1 },
    );
  });

  it("keeps constants to float16's precision", () => {
    for (const x of [0, 1, -1, 0.1, 2.7, 64_992, -64_992, 1e-5]) {
      const back = roundTrip("int4", new Float32Array(80).fill(x));
      expect(new Set(back).size).toBe(1);
      expect(Math.abs(back[0] - x)).toBeLessThanOrEqual(f16Step(x) / 2);
    }
  });

  it("has one zero: -0 comes back as 0, in any order", () => {
    const bytes = (list: number[]) => {
      const out = new Uint8Array(int4.vectorBytes(16));
      int4.encode(Float32Array.from(list), out, "keys");
      return out;
    };
    const zeros = bytes(new Array(16).fill(0));
    expect(bytes(new Array(16).fill(-0))).toEqual(zeros);
    expect(bytes([-0, ...new Array(15).fill(0)])).toEqual(zeros);
    expect(bytes([0, ...new Array(15).fill(-0)])).toEqual(zeros);
  });

  it("represents its own codes exactly: decoding and encoding again changes nothing", () => {
    const next = random(9);
    const vector = Float32Array.from({ length: 64 }, () => gaussian(next));
    const once = roundTrip("int4", vector);
    const twice = roundTrip("int4", once);
    for (let i = 0; i < 64; i++) expect(Math.abs(twice[i] - once[i])).toBeLessThan(2e-3);
  });
});

describe("numbers beyond float16", () => {
  const huge = [1e6, -1e6, 3.4e38, -3.4e38];

  it.each(["f16", "int4", "rq4"])(
    "%s: huge ones are clamped, tiny ones vanish, nothing is infinite or NaN",
    (format) => {
      for (const first of huge)
        for (const second of [...huge, 0, 1e-8]) {
          const vector = new Float32Array(64).fill(first);
          vector.fill(second, 10, 40);
          expect(roundTrip(format, vector).every(Number.isFinite)).toBe(true);
        }
      // Adding 0 turns -0 into 0.
      const vanished = roundTrip(format, new Float32Array(32).fill(1e-8)).map((x) => x + 0);
      expect(vanished).toEqual(new Float32Array(32));
    },
  );

  it("int4 and rq4: codes that fast kernels expand to float16 stay finite there", () => {
    const sizes = [65_504, 6e4, 65_440, 64_999, 1e5, 3e38];
    for (const size of sizes)
      for (const other of [...sizes, 0, 3.7]) {
        const vector = Float32Array.from({ length: 64 }, (_, i) =>
          i % 3 === 0 ? -size : i % 7 ? other : size,
        );
        for (const x of roundTrip("int4", vector)) expect(Math.abs(x)).toBeLessThanOrEqual(LARGEST_F16);
        const codec = kvCodec("rq4");
        const bytes = new Uint8Array(codec.vectorBytes(64));
        for (const part of ["keys", "values"] as const) {
          codec.encode(vector, bytes, part);
          expect(15 * f16At(bytes, 0)).toBeLessThanOrEqual(LARGEST_F16);
        }
      }
  });

  it("f16 clamps to its largest number and rounds to nearest even", () => {
    const vector = Float32Array.of(1e6, -1e6, 65_519, 2049, 2051, -0);
    expect(roundTrip("f16", vector)).toEqual(
      Float32Array.of(LARGEST_F16, -LARGEST_F16, LARGEST_F16, 2048, 2052, -0),
    );
  });

  it("f32 keeps everything", () => {
    const vector = Float32Array.of(1e38, -1e-40, 0.1, -0);
    expect(roundTrip("f32", vector)).toEqual(vector);
  });
});

it("an unknown format is refused with the known ones", () => {
  for (const name of ["q4", "", "INT4", "constructor"]) expect(() => kvCodec(name)).toThrow(ArgumentError);
  expect(() => kvCodec("q4")).toThrow(/"q4"; allowed: .*int4/);
});

/** Vectors that a kernel might round otherwise than the codec does. */
function hardVectors(headDim: number): Float32Array[] {
  const next = random(headDim);
  const of = (f: (i: number) => number) => Float32Array.from({ length: headDim }, (_, i) => f(i));
  const scaled = (size: number, offset = 0) => of(() => offset + size * gaussian(next));
  return [
    scaled(1),
    scaled(20, 300),
    scaled(1e-3, 1),
    scaled(1e-5),
    scaled(1e-8),
    scaled(1e6),
    scaled(1e38),
    scaled(2e4, 5e4),
    of(() => 0),
    of((i) => (i % 2 ? -0 : 0)),
    of((i) => (i % 3 ? 0 : -0)),
    of(() => 0.1),
    of((i) => i % 16),
    of((i) => (i % 31) - 15.5),
    of((i) => (i % 7 ? 1e-8 : 1)),
    of((i) => (i % 5 ? 1e6 : -1e6)),
    of((i) => (i === 3 ? 1e6 : 0.5)),
  ];
}

/** Both binaries; the cache is read where the device has it. */
describe.each(["auto", "plain"] as const)("the CPU device's cache, %s SIMD", (simd) => {
  const open: Allocation[] = [];
  afterAll(() => Promise.all(open.map((allocation) => allocation.close())));

  it.each(
    HEAD_DIMS.flatMap((headDim) => (["int4", "f16", "rq4"] as const).map((format) => ({ headDim, format }))),
  )("heads of $headDim, $format: stores what the codec stores", async ({ headDim, format }) => {
    const vectors = hardVectors(headDim);
    const kvHeads = 2;
    const tokens = vectors.length;
    const op = new Recorder(tokens, tokens);
    // Token t has vector t as the key of head 0, and its neighbours elsewhere.
    const part = (shift: number) =>
      op.embed(op.weight(`part ${shift}`, "matrix", "f32", tokens, kvHeads * headDim));
    const keys = part(0);
    const cache = op.cache({
      layer: 0,
      codec: kvCodec(format),
      kvHeads,
      headDim,
      pool: op.pool(null, 2),
    });
    op.appendKv(cache, keys, part(2));
    const graph = op.finish(keys);
    const device = await wasmDevice({ simd, threads: 2 });
    const allocation = await device.allocate(graph);
    open.push(allocation);
    const row = (token: number, head: number, shift: number) => vectors[(token + head + shift) % tokens];
    for (const [i, weight] of graph.weights.entries()) {
      const values = new Float32Array(tokens * kvHeads * headDim);
      for (let t = 0; t < tokens; t++)
        for (let h = 0; h < kvHeads; h++) values.set(row(t, h, 2 * i), (t * kvHeads + h) * headDim);
      const bytes = new Uint8Array(values.buffer);
      await allocation.load(weight, memoryTensor(weight.name, "f32", tokens, kvHeads * headDim, bytes));
    }
    // The last eight slots of a page and the first of another.
    const position = 24;
    allocation.setPages(graph.pools[0], 0, 0, [1, 0]);
    const ids = Uint32Array.from({ length: tokens }, (_, t) => t);
    await allocation.run({ runs: [{ text: 0, ids, position, outputs: 0 }] });
    const found = new Float32Array(headDim);
    const vectorBytes = kvCodec(format).vectorBytes(headDim);
    for (let kvHead = 0; kvHead < kvHeads; kvHead++)
      for (const [i, part] of (["keys", "values"] as const).entries()) {
        const held = await allocation.readPages({ cache, part, kvHead }, [1, 0]);
        for (let t = 0; t < tokens; t++) {
          kvCodec(format).decode(held.subarray((position + t) * vectorBytes), found);
          const wanted = roundTrip(format, row(t, kvHead, 2 * i), part);
          expectSame(found, wanted, `token ${t}, head ${kvHead}, ${part}`);
        }
      }
  });
});
