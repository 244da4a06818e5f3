/** Methods against published distortions on Gaussian vectors, their counted bits, and what a view must not change. */
import { describe, expect, it } from "vitest";
import { int4 } from "../../src/cache/codec-int4.ts";
import type { KvPart } from "../../src/device/contract.ts";
import { holding } from "../../src/lab/holding.ts";
import { METHODS, Methods } from "../../src/lab/methods/methods.ts";
import { gaussians } from "../../src/lab/methods/random.ts";
import { normalSpec, type PartDraft } from "../../src/lab/spec.ts";

const HEAD_DIM = 128;
const TOKENS = 96;
const next = gaussians(5);
const VECTORS = Float32Array.from({ length: TOKENS * HEAD_DIM }, next);
const methods = new Methods();
const PLACE = { layer: 0, kvHead: 0 };

function held(part: PartDraft, which: KvPart = "keys", more: { keyScale?: number; draw?: number } = {}) {
  const spec = normalSpec({ [which]: part, keyScale: more.keyScale });
  const found = holding(spec, which, methods, more.draw ?? 0, () => KEYS)!;
  const vectors = VECTORS.slice();
  for (let at = 0; at < vectors.length; at += 32 * HEAD_DIM)
    found.apply(vectors.subarray(at, at + 32 * HEAD_DIM), HEAD_DIM, PLACE);
  return vectors;
}

const KEYS = {
  ...{ mean: new Float32Array(HEAD_DIM).fill(0.5), spread: new Float32Array(HEAD_DIM).fill(1) },
  ...{ pairs: HEAD_DIM / 2, depth: 0.5 },
};

/** Squared error over squared values. */
function distortion(found: Float32Array): number {
  let error = 0;
  let all = 0;
  found.forEach((x, i) => {
    error += (x - VECTORS[i]) ** 2;
    all += VECTORS[i] ** 2;
  });
  return error / all;
}

const bitsOf = ({ method, bits = 4, group = 0 }: PartDraft, part: KvPart = "keys") =>
  methods.get(method).bitsOf({ bits, group, headDim: HEAD_DIM, part });

describe("on Gaussian vectors", () => {
  // Published, or of theory: TurboQuant's table, Max 1960, PolarQuant's cosine 0.984, ranges of 32 Gaussian values.
  it.each([
    [{ method: "affine", bits: 4, group: 32 }, 0.0061, 5],
    [{ method: "affine", bits: 8, group: 32 }, 0.00002, 9],
    [{ method: "affine", bits: 4, group: 32, rotate: true }, 0.0061, 5],
    [{ method: "symmetric", bits: 4, group: 32 }, 0.0075, 4.5],
    [{ method: "rq4" }, 0.0112, 4.125],
    [{ method: "turbo", bits: 4 }, 0.0095, 4.125],
    [{ method: "turbo", bits: 3 }, 0.0345, 3.125],
    [{ method: "turbo", bits: 2 }, 0.117, 2.125],
    [{ method: "polar" }, 0.032, 3.875],
    [{ method: "kivi", bits: 4 }, 0.0061, 5],
    [{ method: "kvarn", bits: 4 }, 0.0112, 4.625],
    [{ method: "kvquant", bits: 4 }, 0.0086, 5.32],
    [{ method: "fixed", bits: 8 }, 0.0007, 8],
    // pi/2 / m per dim, of which the vector's own direction is no error: large, and no error in inner products on average.
    [{ method: "qjl", bits: 4 }, 0.38, 4.125],
    [{ method: "turbo-prod", bits: 4 }, 0.054, 4.25],
  ] as const)("%j: error %d at %d bits", (part, error, bits) => {
    const found = distortion(held(part));
    expect(found / error).toBeGreaterThan(0.88);
    expect(found / error).toBeLessThan(1.12);
    expect(bitsOf(part)).toBeCloseTo(bits, 6);
  });

  it("every method has values too, at every bits and group that it names", () => {
    for (const { name, bits, groups } of METHODS.filter((method) => method.name !== "f16"))
      for (const some of bits)
        for (const group of groups)
          for (const which of ["keys", "values"] as const) {
            const found = distortion(held({ method: name, bits: some, group }, which));
            expect(found, `${name} ${some} ${group} ${which}`).toBeLessThan(name === "qjl" ? 2 : 0.6);
            expect(found).toBeGreaterThan(0);
          }
  });
});

it("affine at 4 bits in groups of 32 is the shipped int4, value by value", () => {
  const wanted = VECTORS.slice(0, HEAD_DIM);
  const bytes = new Uint8Array(int4.vectorBytes(HEAD_DIM));
  int4.encode(wanted, bytes, "keys");
  int4.decode(bytes, wanted);
  const found = held({ method: "affine", group: 32 }).subarray(0, HEAD_DIM);
  wanted.forEach((x, i) => {
    expect(found[i]).toBeCloseTo(x, 5);
  });
});

describe("a view", () => {
  it.each([{ method: "affine", group: 32 }, { method: "turbo" }, { method: "polar" }, { method: "kivi" }])(
    "of keys times a power of two changes no bit of %j; times 11.31 the error falls otherwise, and is the same",
    (part) => {
      const plain = held(part);
      expect(held(part, "keys", { keyScale: 8 })).toEqual(plain);
      const other = held(part, "keys", { keyScale: 11.31 });
      expect(distortion(other) / distortion(plain)).toBeCloseTo(1, 1);
    },
  );

  it("of a fixed grid is another error: values that leave its range", () => {
    const plain = distortion(held({ method: "fixed", bits: 8 }));
    expect(
      distortion(held({ method: "fixed", bits: 8 }, "keys", { keyScale: 1024 })) / plain,
    ).toBeGreaterThan(5);
  });

  it.each([{ method: "affine", group: 32 }, { method: "turbo" }])(
    "another draw of %j is as large an error",
    (part) => {
      const [one, other] = [held(part), held(part, "keys", { draw: 1 })];
      expect(other).not.toEqual(one);
      expect(distortion(other) / distortion(one)).toBeCloseTo(1, 1);
    },
  );

  it("less a mean is put back", () => {
    expect(distortion(held({ method: "affine", bits: 8, group: 32, mean: true }))).toBeLessThan(0.0001);
  });
});

it("what a method does not have is refused with what it has", () => {
  expect(() => held({ method: "polar", bits: 3 })).toThrow("bits of keys by polar is 3; allowed: 4");
  expect(() => held({ method: "turbo", rotate: true })).toThrow("rotates by itself");
  expect(() => held({ method: "exl2" })).toThrow("method is exl2; allowed: f16, affine");
});
