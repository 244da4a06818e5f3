/** Formats by description: what one may say, what its pages weigh, and what comes back of a page. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { codeBytes, packCodes, unpackCodes } from "../../src/cache/codes.ts";
import { type KvPart, PAGE_SLOTS } from "../../src/device/contract.ts";
import type { CodeBits } from "../../src/device/kv.ts";
import { seeded } from "../device/attend-layer.ts";

const BITS: readonly CodeBits[] = [2, 3, 4, 8];
/** Head sizes: 80 ends with half a group. */
const HEAD_DIMS = [16, 64, 80, 128];

function roundTrip(format: string, part: KvPart, page: Float32Array): Float32Array {
  const packed = kvCodec(format).packed!;
  const bytes = new Uint8Array(packed.pageBytes(page.length / PAGE_SLOTS, part)).fill(0xff);
  packed.encode(page, bytes, part);
  const back = new Float32Array(page.length).fill(Number.NaN);
  packed.decode(bytes, back, part);
  return back;
}

const rms = (x: Float32Array) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);
const error = (found: Float32Array, wanted: Float32Array) =>
  rms(found.map((v, i) => v - wanted[i])) / rms(wanted);

describe("a description", () => {
  it("says how keys and values are held, and from when on", () => {
    const { name, packed, vectorBytes } = kvCodec("k3c-v8r-n64");
    expect(name).toBe("k3c-v8r-n64");
    expect(packed).toMatchObject({
      keys: { bits: 3, scales: "channel" },
      values: { bits: 8, scales: "rotated" },
      recentTokens: 64,
    });
    expect(vectorBytes(128)).toBe(256);
    expect(packed!.pageBytes(128, "keys")).toBe(2 * 128 + (PAGE_SLOTS * 128 * 3) / 8);
    expect(packed!.pageBytes(128, "values")).toBe(PAGE_SLOTS * (128 + 2));
  });

  it("of a format with a name is that format", () => {
    const named = kvCodec("kv4");
    const { keys, values, recentTokens } = named.packed!;
    const letter = { channel: "c", rotated: "r" };
    const part = ({ bits, scales }: typeof keys) => `${bits}${letter[scales]}`;
    expect(kvCodec(`k${part(keys)}-v${part(values)}-n${recentTokens}-f32`)).toBe(named);
  });

  it.each([
    "",
    "k4c",
    "k5c-v4r-n128",
    "k4x-v4r-n128",
    "k4c-v4r-n16",
    "k4c-v4r-n9999",
    "K4C-v4r-n128",
    "k4c-v4r-n128 ",
  ])("%j is none", (text) => {
    expect(() => kvCodec(text)).toThrow(/KV cache format is .*; allowed: f16, int4, rq4, kv4/);
  });
});

it.each(BITS)("codes of %i bits come back", (bits) => {
  const codes = fc.uint8Array({ minLength: 16, maxLength: 160, max: 2 ** bits - 1 });
  fc.assert(
    fc.property(codes, (all) => {
      const wanted = all.subarray(0, all.length - (all.length % 16));
      const bytes = new Uint8Array(codeBytes(wanted.length, bits)).fill(0xff);
      packCodes(wanted, bits, bytes);
      const found = new Uint8Array(wanted.length).fill(0xff);
      unpackCodes(bytes, bits, found);
      expect(found).toEqual(wanted);
    }),
    { numRuns: 30 },
  );
});

describe("a page", () => {
  /** Of a Gaussian. */
  const MOST = {
    "2c": 0.47,
    "3c": 0.2,
    "4c": 0.09,
    "8c": 0.006,
    "2r": 0.4,
    "3r": 0.22,
    "4r": 0.12,
    "8r": 0.06,
  };

  it.each(Object.entries(MOST))("of Gaussian numbers in %s is off by at most %f", (part, most) => {
    for (const headDim of HEAD_DIMS) {
      const page = seeded(headDim)(PAGE_SLOTS * headDim).map((x) => Math.fround(x));
      expect(error(roundTrip(`k${part}-v4r-n32`, "keys", page), page)).toBeLessThan(most);
      expect(error(roundTrip(`k4c-v${part}-n32`, "values", page), page)).toBeLessThan(most);
    }
  });

  it("by channel: one that stands far out costs the others nothing", () => {
    const page = seeded(5)(PAGE_SLOTS * 64);
    const others = (x: Float32Array) => x.filter((_, i) => i % 64 !== 9);
    const alone = error(others(roundTrip("kv4", "keys", page)), others(page));
    const far = page.map((x, i) => (i % 64 === 9 ? 100 + x : x));
    expect(error(others(roundTrip("kv4", "keys", far)), others(far))).toBe(alone);
  });

  it("of one value in each channel, of zeros and of the largest numbers comes back finite and near", () => {
    const constant = new Float32Array(PAGE_SLOTS * 64).map((_, i) => (i % 64) / 8 - 3);
    // Half a step of 128.
    expect(error(roundTrip("kv4", "keys", constant), constant)).toBeLessThan(1 / 200);
    const zeros = new Float32Array(PAGE_SLOTS * 64);
    for (const part of ["keys", "values"] as const) expect(rms(roundTrip("kv4", part, zeros))).toBe(0);
    const large = new Float32Array(PAGE_SLOTS * 64).map((_, i) => (i % 3 === 0 ? 65_504 : -65_504));
    for (const part of ["keys", "values"] as const)
      expect(roundTrip("kv4", part, large).every((x) => Number.isFinite(x) && Math.abs(x) <= 65_504)).toBe(
        true,
      );
  });
});
