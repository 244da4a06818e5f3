import { describe, expect, it } from "vitest";
import { bf16ToF32, f16At, f16ToF32, f32ToBf16, f32ToF16 } from "../../src/format/float16.ts";

const ALL = Uint16Array.from({ length: 65536 }, (_, bits) => bits);
const isNaN16 = (bits: number) => (bits & 0x7fff) > 0x7c00;

describe("f16", () => {
  it("widens every pattern to the value that IEEE 754 defines", () => {
    const wrong = ALL.filter((bits) => {
      const [, sign, exponent, mantissa] = /^(.)(.{5})(.{10})$/.exec(bits.toString(2).padStart(16, "0"))!;
      const e = Number.parseInt(exponent, 2);
      const m = Number.parseInt(mantissa, 2) / 1024;
      const special = m ? Number.NaN : Infinity;
      const magnitude = e === 31 ? special : e === 0 ? m * 2 ** -14 : (1 + m) * 2 ** (e - 15);
      return !Object.is(f16ToF32(bits), sign === "1" ? -magnitude : magnitude);
    });
    expect(wrong).toEqual(new Uint16Array());
  });

  it("takes every pattern back to itself, NaNs to quiet NaNs", () => {
    const wrong = ALL.filter((bits) => {
      const back = f32ToF16(f16ToF32(bits));
      return isNaN16(bits) ? !isNaN16(back) : back !== bits;
    });
    expect(wrong).toEqual(new Uint16Array());
  });

  it("rounds to nearest, ties to even, between every two neighbours", () => {
    const wrong = ALL.subarray(0, 0x7bff).filter((bits) => {
      const middle = (f16ToF32(bits) + f16ToF32(bits + 1)) / 2; // exact: 11 bits and one more
      const step = middle * 2 ** -22;
      const even = bits & 1 ? bits + 1 : bits;
      return (
        f32ToF16(middle) !== even ||
        f32ToF16(middle - step) !== bits ||
        f32ToF16(middle + step) !== bits + 1 ||
        f32ToF16(-middle) !== (0x8000 | even)
      );
    });
    expect(wrong).toEqual(new Uint16Array());
  });

  it("overflows to infinity from half a step above the largest value", () => {
    expect(f32ToF16(65504)).toBe(0x7bff);
    expect(f32ToF16(65519.996)).toBe(0x7bff);
    expect(f32ToF16(65520)).toBe(0x7c00);
    expect(f32ToF16(3.4e38)).toBe(0x7c00);
    expect(f32ToF16(-Infinity)).toBe(0xfc00);
  });

  it("flushes what is below half the smallest subnormal", () => {
    expect(f32ToF16(2 ** -25)).toBe(0);
    expect(f32ToF16(2 ** -25 * (1 + 2 ** -23))).toBe(1);
    expect(f32ToF16(1e-45)).toBe(0);
    expect(f32ToF16(-1e-45)).toBe(0x8000);
  });

  it("reads bytes at any alignment", () => {
    expect(f16At(Uint8Array.of(9, 0x00, 0x3c), 1)).toBe(1);
  });
});

describe("bf16", () => {
  const isNaNBf16 = (bits: number) => (bits & 0x7fff) > 0x7f80;

  it("is the upper half of an f32, and comes back whole", () => {
    const view = new DataView(new ArrayBuffer(4));
    const wrong = ALL.filter((bits) => {
      view.setUint32(0, bits * 65536);
      const back = f32ToBf16(bf16ToF32(bits));
      if (!Object.is(bf16ToF32(bits), view.getFloat32(0))) return true;
      return isNaNBf16(bits) ? !isNaNBf16(back) : back !== bits;
    });
    expect(wrong).toEqual(new Uint16Array());
  });

  it("rounds to nearest, ties to even", () => {
    expect(f32ToBf16(1 + 2 ** -8)).toBe(0x3f80);
    expect(f32ToBf16(1 + 2 ** -8 + 2 ** -20)).toBe(0x3f81);
    expect(f32ToBf16(1 + 3 * 2 ** -8)).toBe(0x3f82);
    expect(f32ToBf16(3.4e38)).toBe(0x7f80);
  });
});
