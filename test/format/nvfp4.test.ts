/** NVFP4 in GGUF files: values with and without scales, against the gguf package's blocks, and scales that do not fit. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { dequantize } from "../../src/format/blocks.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { FormatError, UnsupportedError } from "../../src/format/errors.ts";
import { readGguf } from "../../src/format/gguf.ts";
import { rowBytes, storedRowBytes } from "../../src/format/tensor.ts";
import { type WrittenTensor, writeGguf } from "./write-gguf.ts";

const golden = (file: string) =>
  new Uint8Array(readFileSync(new URL(`../golden/gguf-blocks/${file}`, import.meta.url)));
const BLOCKS = golden("nvfp4.bin");
const VALUES = new Float32Array(golden("nvfp4.f32").buffer);
/** 18 rows of 64. */
const ROWS = 18;

const floats = (name: string, ...values: number[]): WrittenTensor => ({
  ...{ name, dims: [values.length], type: 0 },
  data: new Uint8Array(Float32Array.from(values).buffer),
});
const matrix = (name: string, rows = ROWS): WrittenTensor => ({
  ...{ name, dims: [64, rows], type: 40 },
  data: BLOCKS.subarray(0, rows * 36),
});
const read = (...tensors: WrittenTensor[]) => readGguf(bufferSource("test.gguf", writeGguf({ tensors })));

async function valuesOf(file: Awaited<ReturnType<typeof read>>, name: string, first = 0): Promise<number[]> {
  const tensor = file.tensors.get(name)!;
  const bytes = new Uint8Array((tensor.rows - first) * rowBytes("nvfp4", 64));
  await tensor.readRows(first, tensor.rows - first, bytes);
  const values = new Float32Array((tensor.rows - first) * 64);
  dequantize("nvfp4", bytes, values);
  return [...values];
}

describe("NVFP4", () => {
  it("without a scale is bit for bit the gguf package's", async () => {
    const file = await read(floats("a", 1), matrix("w.weight"));
    expect(file.tensors.get("w.weight")).toMatchObject({ type: "nvfp4", rows: ROWS, cols: 64 });
    expect(await valuesOf(file, "w.weight")).toEqual([...VALUES]);
    expect(storedRowBytes("nvfp4", 64)).toBe(36);
  });

  it("is multiplied by its tensor's scale, wherever that lies; input_scale is not used", async () => {
    const file = await read(floats("w.scale", 0.3), matrix("w.weight"), floats("w.input_scale", 7));
    expect([...file.tensors.keys()]).toEqual(["w.weight"]);
    const found = await valuesOf(file, "w.weight", 3);
    // Rounded twice: scale by scale, then by the code.
    found.forEach((value, i) => {
      const exact = VALUES[3 * 64 + i] * Math.fround(0.3);
      expect(Math.abs(value - exact)).toBeLessThanOrEqual(Math.abs(exact) * 2 ** -23);
    });
  });

  it("has a scale for each expert", async () => {
    const file = await read(matrix("e.weight", 16), floats("e.scale", 2, 0.5));
    const wanted = VALUES.slice(0, 16 * 64).map((value, i) => value * (i < 8 * 64 ? 2 : 0.5));
    expect(await valuesOf(file, "e.weight")).toEqual([...wanted]);
    expect(await valuesOf(file, "e.weight", 7)).toEqual([...wanted.subarray(7 * 64)]);
  });

  it("leaves scales of other tensors alone", async () => {
    const other = { name: "q.weight", dims: [32, 1], type: 2, data: new Uint8Array(18) };
    const file = await read(matrix("w.weight"), other, floats("q.scale", 3), floats("scale", 4));
    expect([...file.tensors.keys()]).toEqual(["w.weight", "q.weight", "q.scale", "scale"]);
  });

  it("leaves the scales of Gemma 4's experts to its router, which multiplies by them", async () => {
    const [experts, scales] = ["blk.0.ffn_down_exps.weight", "blk.0.ffn_down_exps.scale"];
    const router = floats("blk.0.ffn_gate_inp.scale", 1, 1);
    const file = await read(matrix(experts, 16), floats(scales, 2, 0.5), router);
    expect([...file.tensors.keys()]).toEqual([experts, scales, router.name]);
    expect(await valuesOf(file, experts)).toEqual([...VALUES.slice(0, 16 * 64)]);
  });

  it.each<[string, WrittenTensor, typeof FormatError | typeof UnsupportedError, RegExp]>([
    [
      "scales that do not divide the rows",
      floats("w.scale", 1, 2, 3, 4),
      FormatError,
      /tensor "w.scale": 4 values of f32; allowed: an f32, or one for each expert, for the 18 rows of "w.weight"/,
    ],
    [
      "scales of another type",
      { name: "w.scale", dims: [2], type: 1, data: new Uint8Array(4) },
      FormatError,
      /2 values of f16/,
    ],
    [
      "scales of few rows",
      floats("w.scale", 1, 2),
      UnsupportedError,
      /a value for each 9 rows.*multiples of 8/,
    ],
  ])("refuses %s", async (_, scale, error, message) => {
    const failure = read(matrix("w.weight"), scale);
    await expect(failure).rejects.toThrow(error);
    await expect(failure).rejects.toThrow(message);
  });

  it("refuses part of a block, and a file that ends inside one", async () => {
    await expect(read({ ...matrix("w.weight"), dims: [96, 2] })).rejects.toThrow(
      /rows of 96 nvfp4 values; allowed: multiples of 64/,
    );
    const short = { ...matrix("w.weight"), data: BLOCKS.subarray(0, ROWS * 36 - 1) };
    await expect(read(short)).rejects.toThrow(/its data is bytes/);
  });
});
