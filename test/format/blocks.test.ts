import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type GridName, grid } from "../../src/format/blocks/grids.ts";
import { dequantize } from "../../src/format/blocks.ts";
import { ArgumentError } from "../../src/format/errors.ts";
import { BLOCKS, rowBytes, type TensorType } from "../../src/format/tensor.ts";

const GOLDEN = new URL("../golden/gguf-blocks/", import.meta.url);

/** How far each type may be from ggml 0.25, in units in the last place. All are bit-exact. */
const ULPS: Partial<Record<TensorType, number>> = {
  f16: 0,
  bf16: 0,
  q4_0: 0,
  q4_1: 0,
  q5_0: 0,
  q5_1: 0,
  q8_0: 0,
  q2_k: 0,
  q3_k: 0,
  q4_k: 0,
  q5_k: 0,
  q6_k: 0,
  iq4_nl: 0,
  iq4_xs: 0,
  mxfp4: 0,
  iq3_s: 0,
  iq3_xxs: 0,
  iq2_s: 0,
  iq2_xs: 0,
  iq2_xxs: 0,
  iq1_s: 0,
  iq1_m: 0,
  tq1_0: 0,
  tq2_0: 0,
  q1_0: 0,
  q2_0: 0,
};

const MLX: [TensorType, number, number][] = [
  ["mlx4_g32", 4, 32],
  ["mlx4_g64", 4, 64],
  ["mlx4_g128", 4, 128],
  ["mlx8_g32", 8, 32],
  ["mlx8_g64", 8, 64],
  ["mlx8_g128", 8, 128],
];

function golden(file: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(file, GOLDEN)));
}

function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** Distance in representable floats: consecutive floats have consecutive integers in this order. */
function ulps(a: number, b: number): number {
  const order = (x: number) => {
    const bits = new Int32Array(Float32Array.of(x).buffer)[0];
    return bits < 0 ? -2147483648 - bits : bits;
  };
  return Math.abs(order(a) - order(b));
}

describe("dequantize", () => {
  it.each(Object.entries(ULPS) as [TensorType, number][])("%s is within %i ulp of ggml", (type, allowed) => {
    const expected = floats(golden(`${type}.f32`));
    const out = new Float32Array(expected.length);
    dequantize(type, golden(`${type}.bin`), out);
    let worst = 0;
    for (let i = 0; i < out.length; i++) worst = Math.max(worst, ulps(out[i], expected[i]));
    expect(worst).toBeLessThanOrEqual(allowed);
  });

  it.each(MLX)("%s is scale * code + bias, lowest bits first", (type, bits, group) => {
    const codes = Array.from({ length: 2 * group }, (_, i) => (i * 7 + 3) % 2 ** bits);
    const bytes = new Uint8Array(rowBytes(type, 2 * group));
    const view = new DataView(bytes.buffer);
    const scales = [0.0123, -1.7];
    const biases = [-0.5, 0.3333];
    for (let block = 0; block < 2; block++) {
      const at = block * BLOCKS[type].bytes;
      view.setFloat32(at, scales[block], true);
      view.setFloat32(at + 4, biases[block], true);
      // As MLX packs: whole little-endian u32 words, value i of a word at bit i * bits.
      for (let word = 0; word < (group * bits) / 32; word++) {
        let packed = 0;
        for (let i = 0; i < 32 / bits; i++)
          packed |= codes[block * group + (word * 32) / bits + i] << (i * bits);
        view.setUint32(at + 8 + 4 * word, packed >>> 0, true);
      }
    }
    const out = new Float32Array(2 * group);
    dequantize(type, bytes, out);
    const expected = codes.map((code, i) => {
      const block = i < group ? 0 : 1;
      return Math.fround(Math.fround(Math.fround(scales[block]) * code) + Math.fround(biases[block]));
    });
    expect([...out]).toEqual(expected);
  });

  // golden/gguf-blocks/make.py --grids: the blocks above meet only some of the tuples.
  it.each<[GridName, string]>([
    ["iq3_s", "acb8a458f699e571cf55c9270a4bc15facd6653b40450ce1f449f345c95e4407"],
    ["iq3_xxs", "e86540e4e7b2d3375c137ffe84467dc402396c6da24273f9007b5db112172f4c"],
    ["iq2_s", "1d4ca1e2fbd2be073bef55f6582ad20109dc746ebd39b5c0780d57ebacc73024"],
    ["iq2_xs", "e9567eb15257b717a029c8c1e574ffd87af0c95090552eff83eb6e09b1211046"],
    ["iq2_xxs", "886814bc08b031008eb1086cdbc5c3fae78eecc764a4a6742f8eb839b9f37ef6"],
    ["iq1", "bf92c60e2ed15644d2d948b652a55624cc35699ef5c8e0337258e332f8c47b48"],
  ])("the grid of %s is gguf's", (name, sum) => {
    const places = new Uint8Array(grid(name).buffer);
    expect(createHash("sha256").update(places).digest("hex")).toBe(sum);
  });

  it("covers every type of the table", () => {
    // nvfp4, whose blocks the reader makes: nvfp4.test.ts.
    const tested = ["f32", "nvfp4", ...Object.keys(ULPS), ...MLX.map(([type]) => type)];
    expect(tested.sort()).toEqual(Object.keys(BLOCKS).sort());
  });

  it("reads f32 at any alignment", () => {
    const bytes = new Uint8Array(9);
    new DataView(bytes.buffer).setFloat32(1, 1.5, true);
    new DataView(bytes.buffer).setFloat32(5, -0.25, true);
    const out = new Float32Array(2);
    dequantize("f32", bytes.subarray(1), out);
    expect([...out]).toEqual([1.5, -0.25]);
  });

  it("follows ggml at the ends of the mxfp4 exponent", () => {
    const bytes = new Uint8Array(34).fill(0x11, 1);
    bytes[17] = 254;
    const out = new Float32Array(64);
    dequantize("mxfp4", bytes, out);
    expect(out[0]).toBe(2 ** -128);
    expect(out[32]).toBe(2 ** 126);
  });

  it("refuses part of a block and bytes that do not match", () => {
    expect(() => dequantize("q4_0", new Uint8Array(18), new Float32Array(31))).toThrow(ArgumentError);
    expect(() => dequantize("q4_0", new Uint8Array(19), new Float32Array(32))).toThrow(
      "bytes of 32 q4_0 values is 19; allowed: 18",
    );
  });
});
