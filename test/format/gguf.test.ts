import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { FormatError, UnsupportedError } from "../../src/format/errors.ts";
import { readGguf } from "../../src/format/gguf.ts";
import { BLOCKS, rowBytes, type TensorType } from "../../src/format/tensor.ts";
import { memoryFolder, watchedSource } from "./memory-folder.ts";
import { type KeyValue, T, type WrittenGguf, type WrittenTensor, writeGguf } from "./write-gguf.ts";

const NEEDLE = new URL("../../models/needle-14m/needle-14m-Q8_0.gguf", import.meta.url);

const read = (file: WrittenGguf) => readGguf(bufferSource("test.gguf", writeGguf(file)));
const keysOf = async (...keys: KeyValue[]) => (await read({ keys })).metadata;

function bytes(count: number, first = 0): Uint8Array {
  return Uint8Array.from({ length: count }, (_, i) => first + i * 7);
}

function f32(name: string, cols: number, more: Partial<WrittenTensor> = {}): WrittenTensor {
  return { name, dims: [cols], type: 0, data: bytes(4 * cols), ...more };
}

describe("GGUF key-values", () => {
  it("reads every type of value", async () => {
    const metadata = await keysOf(
      ["u8", T.u8, 200],
      ["i8", T.i8, -100],
      ["u16", T.u16, 60000],
      ["i16", T.i16, -30000],
      ["u32", T.u32, 4e9],
      ["i32", T.i32, -2e9],
      ["f32", T.f32, 1e-5],
      ["yes", T.bool, 1],
      ["no", T.bool, 0],
      ["text", T.string, "čaj \u{1f375}"],
      ["u64", T.u64, 2 ** 53 - 1],
      ["i64", T.i64, -(2 ** 53 - 1)],
      ["f64", T.f64, Math.PI],
    );
    expect({ ...metadata }).toEqual({
      u8: 200,
      i8: -100,
      u16: 60000,
      i16: -30000,
      u32: 4e9,
      i32: -2e9,
      f32: Math.fround(1e-5),
      yes: true,
      no: false,
      text: "čaj \u{1f375}",
      u64: 2 ** 53 - 1,
      i64: -(2 ** 53 - 1),
      f64: Math.PI,
    });
  });

  it("reads arrays: numbers as typed arrays, the rest as plain ones", async () => {
    const array = (type: number, ...items: unknown[]) => ({ type, items });
    const metadata = await keysOf(
      ["u8", T.array, array(T.u8, 1, 255)],
      ["i16", T.array, array(T.i16, -1, 300)],
      ["i32", T.array, array(T.i32, -1, 70000)],
      ["f32", T.array, array(T.f32, 0.5, -Infinity)],
      ["f64", T.array, array(T.f64, 0.1)],
      ["u64", T.array, array(T.u64, 5, 2 ** 40)],
      ["i64", T.array, array(T.i64, -5)],
      ["bool", T.array, array(T.bool, 1, 0)],
      ["string", T.array, array(T.string, "", "a", "é")],
      ["nested", T.array, array(T.array, array(T.u8, 1), array(T.string, "x"))],
      ["empty", T.array, array(T.f32)],
    );
    expect({ ...metadata }).toEqual({
      u8: Uint8Array.of(1, 255),
      i16: Int16Array.of(-1, 300),
      i32: Int32Array.of(-1, 70000),
      f32: Float32Array.of(0.5, -Infinity),
      f64: Float64Array.of(0.1),
      u64: Float64Array.of(5, 2 ** 40),
      i64: Float64Array.of(-5),
      bool: [true, false],
      string: ["", "a", "é"],
      nested: [Uint8Array.of(1), ["x"]],
      empty: new Float32Array(0),
    });
  });

  it("reads arrays that are longer than a window, numbers across its edge too", async () => {
    const numbers = Uint32Array.from({ length: 70_001 }, (_, i) => i * 3);
    const texts = Array.from({ length: 30_000 }, (_, i) => `token ${i}`);
    const metadata = await keysOf(
      ["odd", T.string, "x"],
      ["numbers", T.array, { type: T.u32, items: [...numbers] }],
      ["texts", T.array, { type: T.string, items: texts }],
      ["doubles", T.array, { type: T.u64, items: [...numbers] }],
      ["long", T.string, "y".repeat(1_000_000)],
    );
    // As strings: toEqual takes a second over so many elements.
    expect(String(metadata.numbers)).toBe(String(numbers));
    expect(String(metadata.texts)).toBe(String(texts));
    expect(String(metadata.doubles)).toBe(String(numbers));
    expect(metadata.long).toHaveLength(1_000_000);
  });

  it("keeps different byte strings different, and a byte order mark", async () => {
    const items = [
      [0xff],
      [0xfe],
      [0xc3, 0x28],
      [0xe2, 0x82],
      [0xef, 0xbb, 0xbf, 0x41],
      [0xf0, 0x9f, 0x8d, 0xb5, 0x80],
    ];
    const metadata = await keysOf([
      "t",
      T.array,
      { type: T.string, items: items.map((b) => Uint8Array.from(b)) },
    ]);
    expect(metadata.t).toEqual(["\udcff", "\udcfe", "\udcc3(", "\udce2\udc82", "\ufeffA", "\u{1f375}\udc80"]);
  });

  it("takes no key for an inherited name", async () => {
    const metadata = await keysOf(["__proto__", T.u8, 1], ["constructor", T.u8, 2]);
    expect(Object.keys(metadata)).toEqual(["__proto__", "constructor"]);
    expect(metadata.toString).toBeUndefined();
  });

  it("keeps a large u64 where it only describes, and refuses it elsewhere", async () => {
    const huge = 2n ** 64n - 1n;
    expect((await keysOf(["general.seed", T.u64, huge]))["general.seed"]).toBe(2 ** 64);
    await expect(keysOf(["llama.block_count", T.u64, huge])).rejects.toThrow(
      /"llama.block_count" is 18446744073709552000/,
    );
    await expect(keysOf(["x", T.array, { type: T.i64, items: [0, -(2n ** 60n)] }])).rejects.toThrow(
      FormatError,
    );
  });

  it.each<[string, WrittenGguf, RegExp]>([
    ["another magic", { magic: "GGML" }, /starts with 0x4c4d4747; allowed: "GGUF"/],
    [
      "a key twice",
      {
        keys: [
          ["a", T.u8, 1],
          ["a", T.u8, 2],
        ],
      },
      /key "a" occurs twice/,
    ],
    ["an empty key", { keys: [["", T.u64, 1]] }, /key 0 is empty/],
    ["a boolean of 2", { keys: [["a", T.bool, 2]] }, /the boolean 2 in "a"; allowed: 0 or 1/],
    ["2^60 keys", { keyCount: 2n ** 60n }, /1152921504606847000 keys/],
    ["2^60 tensors", { tensorCount: 2n ** 60n }, /1152921504606847000 tensors/],
    [
      "2^60 numbers",
      { keys: [["a", T.array, { type: T.u8, items: [], count: 2n ** 60n }]] },
      /1152921504606847000 numbers in "a"/,
    ],
    [
      "2^60 strings",
      { keys: [["a", T.array, { type: T.string, items: ["x"], count: 2n ** 60n }]] },
      /1152921504606847000 values in "a"/,
    ],
    [
      "one number too many",
      { keys: [["a", T.array, { type: T.f32, items: [1], count: 2 }]] },
      /2 numbers in "a"; allowed: 1/,
    ],
    [
      "an unknown value type in an array",
      { keys: [["a", T.array, { type: 13, items: [] }]] },
      /value type 13 of "a"; allowed: 0 to 12/,
    ],
    ["nesting", { keys: [["a", T.array, nested(5)]] }, /arrays nested 5 deep in "a"; allowed: 4/],
    [
      "an alignment of 0",
      { keys: [["general.alignment", T.u32, 0]] },
      /"general.alignment" is 0; allowed: powers of two/,
    ],
    ["an alignment of 48", { keys: [["general.alignment", T.u32, 48]] }, /"general.alignment" is 48/],
    [
      "an alignment in words",
      { keys: [["general.alignment", T.string, "32"]] },
      /"general.alignment" is "32"; allowed/,
    ],
  ])("refuses %s", async (_, file, message) => {
    const failure = read(file);
    await expect(failure).rejects.toThrow(FormatError);
    await expect(failure).rejects.toThrow(message);
  });

  it.each([
    [1, /GGUF version 1 is not supported/],
    [4, /GGUF version 4 is not supported/],
    [0x03000000, /a big-endian GGUF file is not supported/],
  ])("names version %i", async (version, message) => {
    await expect(read({ version })).rejects.toThrow(UnsupportedError);
    await expect(read({ version })).rejects.toThrow(message);
  });

  it("reads version 2", async () => {
    const file = await read({ version: 2, keys: [["a", T.u8, 1]] });
    expect(file.metadata.a).toBe(1);
  });
});

function nested(depth: number): unknown {
  return { type: depth === 1 ? T.u8 : T.array, items: depth === 1 ? [1] : [nested(depth - 1)] };
}

describe("GGUF tensors", () => {
  const TYPES: [TensorType, number][] = [
    ["f32", 0],
    ["f16", 1],
    ["q4_0", 2],
    ["q4_1", 3],
    ["q5_0", 6],
    ["q5_1", 7],
    ["q8_0", 8],
    ["q2_k", 10],
    ["q3_k", 11],
    ["q4_k", 12],
    ["q5_k", 13],
    ["q6_k", 14],
    ["iq2_xxs", 16],
    ["iq2_xs", 17],
    ["iq3_xxs", 18],
    ["iq1_s", 19],
    ["iq4_nl", 20],
    ["iq3_s", 21],
    ["iq2_s", 22],
    ["iq4_xs", 23],
    ["iq1_m", 29],
    ["bf16", 30],
    ["tq1_0", 34],
    ["tq2_0", 35],
    ["mxfp4", 39],
    ["q1_0", 41],
    ["q2_0", 42],
  ];

  it.each(TYPES)("reads rows of %s", async (type, number) => {
    const row = rowBytes(type, 512);
    const data = bytes(3 * row);
    const { tensors } = await read({
      tensors: [f32("first", 1), { name: "w", dims: [512, 3], type: number, data }],
    });
    const tensor = tensors.get("w")!;
    expect(tensor).toMatchObject({ name: "w", type, rows: 3, cols: 512 });
    const into = new Uint8Array(2 * row);
    await tensor.readRows(1, 2, into);
    expect(into).toEqual(data.subarray(row));
  });

  it.each(TYPES.filter(([type]) => BLOCKS[type].elements > 1))(
    "refuses rows of %s that end inside a block, and a file that does",
    async (type, number) => {
      const { elements, bytes: blockBytes } = BLOCKS[type];
      const matrix = { name: "w", dims: [2 * elements, 3], type: number, data: bytes(6 * blockBytes) };
      const odd = read({ tensors: [{ ...matrix, dims: [1.5 * elements, 4] }] });
      await expect(odd).rejects.toThrow(
        `rows of ${1.5 * elements} ${type} values; allowed: multiples of ${elements}`,
      );
      const short = read({ tensors: [{ ...matrix, data: matrix.data.subarray(1) }] });
      await expect(short).rejects.toThrow(/"w": its data is bytes .* it is damaged or not completely/);
      await expect(short).rejects.toThrow(FormatError);
    },
  );

  it("takes one dimension as a row, and multiplies the outer ones into rows", async () => {
    const { tensors } = await read({
      tensors: [f32("vector", 8), { name: "cube", dims: [4, 3, 2, 5], type: 0, data: bytes(480) }],
    });
    expect(tensors.get("vector")).toMatchObject({ rows: 1, cols: 8 });
    expect(tensors.get("cube")).toMatchObject({ rows: 30, cols: 4 });
  });

  it("honours general.alignment", async () => {
    const keys: KeyValue[] = [["general.alignment", T.u32, 256]];
    const file = { keys, alignment: 256, tensors: [f32("a", 3), f32("b", 5, { data: bytes(20, 3) })] };
    const { tensors } = await read(file);
    const into = new Uint8Array(20);
    await tensors.get("b")!.readRows(0, 1, into);
    expect(into).toEqual(bytes(20, 3));
  });

  it("checks the rows that a caller asks for", async () => {
    const { tensors } = await read({ tensors: [{ name: "w", dims: [4, 3], type: 0, data: bytes(48) }] });
    const { readRows } = tensors.get("w")!;
    await expect(readRows(2, 2, new Uint8Array(32))).rejects.toThrow("rows of w is 2 to 4; allowed: 0 to 3");
    await expect(readRows(-1, 1, new Uint8Array(16))).rejects.toThrow(/rows of w/);
    await expect(readRows(0.5, 1, new Uint8Array(16))).rejects.toThrow(/rows of w/);
    await expect(readRows(0, 1, new Uint8Array(15))).rejects.toThrow(
      "bytes for 1 rows of w is 15; allowed: 16",
    );
  });

  it.each<[string, WrittenTensor[], RegExp]>([
    ["a name twice", [f32("a", 1), f32("a", 1)], /tensor "a" occurs twice/],
    ["no name", [f32("", 1)], /tensor 0 has no name/],
    ["no dimensions", [f32("a", 1, { dims: [] })], /tensor "a": 0 dimensions; allowed: 1 to 4/],
    ["five dimensions", [f32("a", 1, { dims: [1, 1, 1, 1, 1] })], /5 dimensions/],
    ["a dimension of 0", [f32("a", 1, { dims: [4, 0] })], /a dimension of 0 in \[4,0\]/],
    [
      "an overflow",
      [f32("a", 1, { dims: [2n ** 40n, 2n ** 40n] })],
      /dimensions \[1099511627776,1099511627776\] overflow/,
    ],
    ["a 2^63 dimension", [f32("a", 1, { dims: [2n ** 63n] })], /overflow/],
    [
      "part of a block",
      [f32("a", 1, { dims: [33], type: 2 })],
      /rows of 33 q4_0 values; allowed: multiples of 32/,
    ],
    ["an odd offset", [f32("a", 1, { offset: 4 })], /its data at offset 4; allowed: multiples of 32/],
    ["data beyond the end", [f32("a", 1), f32("b", 1, { offset: 2n ** 50n })], /"b": its data is bytes/],
    [
      "one byte short",
      [f32("a", 2, { data: bytes(7) })],
      /its data is bytes 64 to 72; allowed: the file's 71/,
    ],
    [
      "an overlap",
      [f32("a", 16), f32("b", 1, { offset: 32 })],
      /"b": its data starts at byte 128, inside that of "a"/,
    ],
    ["the same data twice", [f32("a", 8), f32("b", 8, { offset: 0 })], /inside that of "a"/],
    ["an unknown type", [f32("a", 1, { type: 77 })], /tensor "a" has type number 77; allowed: 0, 1, 2/],
  ])("refuses %s", async (_, tensors, message) => {
    const failure = read({ tensors });
    await expect(failure).rejects.toThrow(FormatError);
    await expect(failure).rejects.toThrow(message);
  });

  it("says of a fork's q2_0 what it is", async () => {
    const fork = { name: "w", dims: [256, 8], type: 42, data: bytes((256 * 8 * 34) / 128) };
    const failure = read({ tensors: [fork, f32("a", 64)] });
    await expect(failure).rejects.toThrow(UnsupportedError);
    await expect(failure).rejects.toThrow(/"w" of type q2_0 in groups of 128.*groups of 64/);
  });

  it("names a type of ggml's that it cannot read", async () => {
    const failure = read({ tensors: [f32("blk.0.w", 1, { type: 31 })] });
    await expect(failure).rejects.toThrow(UnsupportedError);
    await expect(failure).rejects.toThrow(
      /tensor "blk.0.w" of type q4_0_4_4 \(31\) is not supported. Supported types: f32/,
    );
  });
});

describe("split GGUF", () => {
  const part = (no: number, count: number, tensors: WrittenTensor[], more: KeyValue[] = []) =>
    writeGguf({
      keys: [
        ["split.no", T.u16, no],
        ["split.count", T.u16, count],
        ["split.tensors.count", T.i32, 3],
        ...more,
      ],
      tensors,
    });
  const whole = () => ({
    "m-00001-of-00003.gguf": part(0, 3, [], [["general.name", T.string, "first"]]),
    "m-00002-of-00003.gguf": part(1, 3, [f32("a", 2), f32("b", 2, { data: bytes(8, 9) })]),
    "m-00003-of-00003.gguf": part(2, 3, [f32("c", 2)]),
  });
  const open = async (files: Record<string, Uint8Array>, file = Object.keys(files)[0]) => {
    const folder = memoryFolder(files);
    return { folder, reading: readGguf((await folder.open(file))!, folder) };
  };

  it.each([1, 2, 3])("opens all parts from part %i", async (given) => {
    const { folder, reading } = await open(whole(), `m-0000${given}-of-00003.gguf`);
    const file = await reading;
    expect([...file.tensors.keys()]).toEqual(["a", "b", "c"]);
    expect(file.metadata["general.name"]).toBe("first");
    const into = new Uint8Array(8);
    await file.tensors.get("b")!.readRows(0, 1, into);
    expect(into).toEqual(bytes(8, 9));
    expect(folder.opened()).toBe(3);
    await file.close();
    expect(folder.opened()).toBe(0);
  });

  it.each<[string, (files: Record<string, Uint8Array>) => void, RegExp]>([
    [
      "a missing part",
      (files) => delete files["m-00002-of-00003.gguf"],
      /m-00002-of-00003.gguf: this part of a split GGUF is missing/,
    ],
    [
      "a part of another number",
      (files) => (files["m-00002-of-00003.gguf"] = files["m-00003-of-00003.gguf"]),
      /m-00002-of-00003.gguf: part 2 of 3, counted from 0; allowed: part 1 of 3/,
    ],
    [
      "a tensor in two parts",
      (files) => (files["m-00003-of-00003.gguf"] = part(2, 3, [f32("a", 1)])),
      /tensor "a" is also in an earlier part/,
    ],
    [
      "a tensor too few",
      (files) => (files["m-00003-of-00003.gguf"] = part(2, 3, [])),
      /2 tensors in 3 parts; allowed: 3/,
    ],
    [
      "a truncated part",
      (files) => (files["m-00003-of-00003.gguf"] = whole()["m-00003-of-00003.gguf"].subarray(0, 90)),
      /FormatError|needs|allowed/,
    ],
  ])("refuses %s, and closes what it opened", async (_, change, message) => {
    const files: Record<string, Uint8Array> = whole();
    change(files);
    const { folder, reading } = await open(files);
    await expect(reading).rejects.toThrow(FormatError);
    await expect(reading).rejects.toThrow(message);
    expect(folder.opened()).toBe(0);
  });

  it("refuses a part under a name that does not say so", async () => {
    const { reading } = await open({ "model.gguf": part(0, 3, []) });
    await expect(reading).rejects.toThrow(
      /a part of 3 under this name; allowed: names that end in -00001-of-00003.gguf/,
    );
  });

  it("opens a file that was never split, whatever its name", async () => {
    const files = { "m-00001-of-00001.gguf": part(0, 1, [f32("a", 1)]) };
    const { reading } = await open(files);
    expect((await reading).tensors.size).toBe(1);
  });
});

describe("needle-14m", () => {
  it("opens by its header alone", async () => {
    const source = watchedSource("needle", new Uint8Array(readFileSync(NEEDLE)));
    const { metadata, tensors } = await readGguf(source);
    expect(metadata["general.architecture"]).toBe("llama");
    expect(metadata["tokenizer.ggml.tokens"]).toHaveLength(4096);
    expect(metadata["tokenizer.ggml.token_type"]).toBeInstanceOf(Int32Array);
    expect(tensors.size).toBe(74);
    expect(tensors.get("token_embd.weight")).toMatchObject({ type: "q8_0", rows: 4096, cols: 384 });
    expect(source.bytesRead).toBeLessThan(300_000);
  });
});
