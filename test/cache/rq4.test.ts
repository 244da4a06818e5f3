/**
 * The rq4 codec: its rotation, its errors against KV.md's figures and against int4's, and bytes that must not change.
 * That the CPU's kernels store the same codes is in codecs.test.ts.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { KvPart } from "../../src/device/contract.ts";
import { flipSigns, hadamard, rotateBack, rotationBlock, rotationFactor } from "../../src/device/rotation.ts";
import { gaussian, random } from "../device/random-tensor.ts";

const HEAD_DIMS = [64, 80, 96, 128, 256, 512];
const PARTS: KvPart[] = ["keys", "values"];

function encode(format: string, vector: Float32Array, part: KvPart): Uint8Array {
  const bytes = new Uint8Array(kvCodec(format).vectorBytes(vector.length));
  kvCodec(format).encode(vector, bytes, part);
  return bytes;
}

function roundTrip(format: string, vector: Float32Array, part: KvPart): Float32Array {
  const back = new Float32Array(vector.length);
  kvCodec(format).decode(encode(format, vector, part), back);
  return back;
}

const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const vectorOf = (size: number, f: (i: number) => number) =>
  Float32Array.from({ length: size }, (_, i) => f(i));

/** Square error over square size of what comes back, and the mean error of q.x over its spread, q Gaussian. */
function errors(format: string, part: KvPart, make: () => Float32Array, count = 400) {
  const next = random(77);
  let [square, size, score, scores] = [0, 0, 0, 0];
  for (let n = 0; n < count; n++) {
    const x = make();
    const back = roundTrip(format, x, part);
    const q = vectorOf(x.length, () => gaussian(next));
    const lost = x.map((v, i) => v - back[i]);
    square += dot(lost, lost);
    size += dot(x, x);
    score += Math.abs(dot(q, lost));
    scores += dot(q, x) ** 2;
  }
  return { square: square / size, score: score / count / Math.sqrt(scores / count) };
}

describe("the rotation", () => {
  it.each([
    [16, 16],
    [64, 64],
    [80, 16],
    [96, 32],
    [128, 128],
    [512, 512],
  ])("of %i dims mixes blocks of %i; back and forth is 1, or 2 for odd powers of two", (headDim, block) => {
    expect(rotationBlock(headDim)).toBe(block);
    const next = random(headDim);
    const x = vectorOf(headDim, () => gaussian(next));
    const y = x.slice();
    flipSigns(y, rotationFactor(block));
    hadamard(y, block);
    const gain = Math.log2(block) % 2 === 0 ? 1 : 2;
    expect(dot(y, y) / dot(x, x) / gain).toBeCloseTo(1, 5);
    rotateBack(y);
    for (let i = 0; i < headDim; i++) expect(y[i] / gain).toBeCloseTo(x[i], 4);
  });

  it("is Hadamard's matrix: entry (i, j) is -1 to the number of ones in i & j", () => {
    const ones = (bits: number) => bits.toString(2).replaceAll("0", "").length;
    for (let j = 0; j < 32; j++) {
      const x = vectorOf(32, (i) => (i === j ? 1 : 0));
      hadamard(x, 32);
      expect([...x]).toEqual(Array.from({ length: 32 }, (_, i) => (ones(i & j) % 2 ? -1 : 1)));
    }
  });

  it("turns about half of the signs, always the same", () => {
    const ones = new Float32Array(512).fill(1);
    flipSigns(ones, 1);
    const signs = Array.from(ones, (one) => (one < 0 ? "-" : "+")).join("");
    expect(signs.slice(0, 64)).toBe("+-++++-+---+-++-++-+-+--+++-----+---+++-+-+--++--++-+--++++---++");
    for (let first = 0; first < 512; first += 128)
      expect(Math.abs(signs.slice(first, first + 128).replaceAll("+", "").length - 64)).toBeLessThan(16);
  });
});

describe("errors", () => {
  it("takes half a byte a value and two bytes a vector: 4.125 bits at 128", () => {
    for (const headDim of HEAD_DIMS) expect(kvCodec("rq4").vectorBytes(headDim)).toBe(headDim / 2 + 2);
  });

  it.each(HEAD_DIMS)("heads of %i: Gaussian keys and values as KV.md has them", (headDim) => {
    const next = random(headDim);
    const make = () => vectorOf(headDim, () => gaussian(next));
    // The least error of 16 even steps is 0.0115 of the variance; a step of its own for each vector saves some.
    const keys = errors("rq4", "keys", make);
    expect(keys.square).toBeGreaterThan(0.008);
    expect(keys.square).toBeLessThan(0.0117);
    expect(errors("rq4", "values", make).square).toBeLessThan(0.0115);
    // 0.084, measured with heads of 128 to 256.
    expect(keys.score).toBeGreaterThan(0.07);
    expect(keys.score).toBeLessThan(0.089);
  });

  it("q.k is unbiased for queries along the key, and values lose a little of their length", () => {
    const next = random(5);
    for (const headDim of HEAD_DIMS)
      for (let n = 0; n < 20; n++) {
        const x = vectorOf(headDim, () => gaussian(next));
        // What is left is the rounding of the scale to float16.
        expect(dot(roundTrip("rq4", x, "keys"), x) / dot(x, x)).toBeCloseTo(1, 2.9);
        expect(dot(roundTrip("rq4", x, "values"), x) / dot(x, x)).toBeLessThan(1);
      }
  });

  /** Student's t with 3 degrees of freedom. */
  const student = (next: () => number) =>
    gaussian(next) / Math.sqrt((gaussian(next) ** 2 + gaussian(next) ** 2 + gaussian(next) ** 2) / 3);
  // Square error of rq4 over int4's. A bit less may cost four times the error, 0.875 bits 3.36 times.
  it.each<[string, number, (next: () => number, i: number) => number]>([
    ["Student's t, 3 degrees of freedom", 1.1, student],
    [
      "outliers, 1 channel of 32 ten times as large",
      0.8,
      (next, i) => gaussian(next) * (i % 32 === 5 ? 10 : 1),
    ],
    ["one channel with an offset of 30", 0.6, (next, i) => gaussian(next) + (i === 7 ? 30 : 0)],
  ])("%s: at most %f of int4's, with fewer bits", (_, most, value) => {
    for (const headDim of [64, 128, 256])
      for (const part of PARTS) {
        const make = (seed: number) => {
          const next = random(seed);
          return () => vectorOf(headDim, (i) => value(next, i));
        };
        const rq4 = errors("rq4", part, make(headDim));
        const int4 = errors("int4", part, make(headDim));
        expect(rq4.square).toBeLessThan(int4.square * most);
      }
  });
});

describe("any finite vector", () => {
  const value = fc.oneof(
    fc.float({ noNaN: true, noDefaultInfinity: true }),
    fc.float({ min: -8, max: 8, noNaN: true }),
    fc.constantFrom(0, -0, 1e-45, 65_504, -1e6, 3.4e38),
  );
  const vector = fc
    .tuple(fc.constantFrom(16, 32, 48, 64), fc.array(value, { minLength: 64, maxLength: 64 }))
    .map(([size, list]) => Float32Array.from(list.slice(0, size)));

  it("comes back finite and no further from itself than zero is, clamped to float16's range", () => {
    fc.assert(
      fc.property(vector, (x) => {
        const clamped = x.map((v) => Math.max(-65_504, Math.min(65_504, v)));
        for (const part of PARTS) {
          const back = roundTrip("rq4", x, part);
          expect(back.every(Number.isFinite)).toBe(true);
          if (part === "keys") continue;
          const lost = clamped.map((v, i) => v - back[i]);
          expect(dot(lost, lost)).toBeLessThanOrEqual(dot(clamped, clamped) * 1.001 + 1e-9);
        }
      }),
      { numRuns: 500, seed: 1 },
    );
  });

  it("has the codes of itself times a power of two, and leaves its input alone", () => {
    const next = random(3);
    for (const headDim of HEAD_DIMS) {
      const x = vectorOf(headDim, () => gaussian(next));
      const before = x.slice();
      for (const part of PARTS) {
        const codes = encode("rq4", x, part).slice(2);
        expect(encode("rq4", x, part).slice(2)).toEqual(codes);
        for (const factor of [2 ** -8, 4, 2 ** 12])
          expect(
            encode(
              "rq4",
              x.map((v) => v * factor),
              part,
            ).slice(2),
          ).toEqual(codes);
      }
      expect(x).toEqual(before);
    }
  });

  it("is zero when it is zero or vanishes beside float16's smallest", () => {
    for (const x of [0, -0, 1e-45, 1e-20, -1e-9]) {
      const bytes = encode("rq4", new Float32Array(64).fill(x), "keys");
      expect([...bytes.slice(0, 2)]).toEqual([0, 0]);
      if (Math.abs(x) < 2 ** -40) expect(bytes.slice(2).every((byte) => byte === 0x88)).toBe(true);
    }
  });
});

it("bytes are canonical: a saved cache must be read for ever", () => {
  const x = vectorOf(48, (i) => ((i * 7) % 23) - 10.25);
  expect(Buffer.from(encode("rq4", x, "keys")).toString("hex")).toBe(
    "ff3fc69436c4ab7b70699664c6f85bb267968af9da678a36d384",
  );
  expect(Buffer.from(encode("rq4", x, "values")).toString("hex")).toBe(
    "f03fc69436c4ab7b70699664c6f85bb267968af9da678a36d384",
  );
});
