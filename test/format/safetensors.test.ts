import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { dequantize } from "../../src/format/blocks.ts";
import { FormatError, UnsupportedError } from "../../src/format/errors.ts";
import { fileFolder, fileSource } from "../../src/format/file-source.ts";
import { f32ToBf16, f32ToF16 } from "../../src/format/float16.ts";
import { openSafetensors } from "../../src/format/safetensors.ts";
import { readSafetensors, type SafetensorsEntry } from "../../src/format/safetensors-file.ts";
import { rowBytes, type Tensor } from "../../src/format/tensor.ts";
import { memoryFolder, watchedSource } from "./memory-folder.ts";
import { type WrittenEntry, withHeader, writeSafetensors } from "./write-safetensors.ts";

const CONFIG = JSON.stringify({ model_type: "llama" });

async function readEntryBytes({ source, offset, bytes }: SafetensorsEntry): Promise<Uint8Array> {
  const out = new Uint8Array(bytes);
  await source.read(offset, out);
  return out;
}

function bytesOf(...values: ArrayBufferView[]): Uint8Array {
  return new Uint8Array(
    Buffer.concat(values.map((v) => new Uint8Array(v.buffer, v.byteOffset, v.byteLength))),
  );
}

function f32(values: readonly number[], shape: readonly number[] = [values.length]): WrittenEntry {
  return { dtype: "F32", shape, data: bytesOf(Float32Array.from(values)) };
}

async function floats(tensor: Tensor, first = 0, count = tensor.rows): Promise<number[]> {
  const bytes = new Uint8Array(count * rowBytes(tensor.type, tensor.cols));
  await tensor.readRows(first, count, bytes);
  const out = new Float32Array(count * tensor.cols);
  dequantize(tensor.type, bytes, out);
  return [...out];
}

const open = (entries: Record<string, WrittenEntry>, config = CONFIG) =>
  openSafetensors(memoryFolder({ "config.json": config, "model.safetensors": writeSafetensors(entries) }));

describe("a safetensors folder", () => {
  it("reads f32, f16 and bf16 weights, and shapes of any number of axes", async () => {
    const halves = Uint16Array.from([1, -2, 0.5, 8], f32ToF16);
    const brains = Uint16Array.from([1, -2, 0.5, 8], f32ToBf16);
    const { tensors, config } = await open({
      a: f32([1, 2, 3, 4, 5, 6], [3, 2]),
      b: { dtype: "F16", shape: [4], data: bytesOf(halves) },
      c: { dtype: "BF16", shape: [2, 1, 2], data: bytesOf(brains) },
      d: f32([7], []),
    });
    expect(config).toEqual({ model_type: "llama" });
    expect([...tensors.values()].map(({ name, type, rows, cols }) => [name, type, rows, cols])).toEqual([
      ["a", "f32", 3, 2],
      ["b", "f16", 1, 4],
      ["c", "bf16", 2, 2],
      ["d", "f32", 1, 1],
    ]);
    expect(await floats(tensors.get("a")!, 1, 2)).toEqual([3, 4, 5, 6]);
    expect(await floats(tensors.get("b")!)).toEqual([1, -2, 0.5, 8]);
    expect(await floats(tensors.get("c")!)).toEqual([1, -2, 0.5, 8]);
    expect(await floats(tensors.get("d")!)).toEqual([7]);
  });

  it("leaves arrays of other dtypes alone until one is asked for", async () => {
    const { tensors } = await open({
      position_ids: { dtype: "I64", shape: [2], data: new Uint8Array(16) },
      "x.weight": { dtype: "F8_E4M3", shape: [2, 2], data: new Uint8Array(4) },
      "y.weight": { dtype: "Q9_NEW", shape: [7], data: new Uint8Array(3) },
      nothing: f32([], [0, 4]),
      a: f32([1]),
    });
    expect([...tensors.keys()]).toEqual(["a"]);
    expect(tensors.get("absent")).toBeUndefined();
    expect(tensors.has("x.weight")).toBe(true);
    expect(() => tensors.get("x.weight")).toThrow(UnsupportedError);
    expect(() => tensors.get("x.weight")).toThrow(/"x.weight" of F8_E4M3 \[2,2\] is not supported/);
    expect(() => tensors.get("y.weight")).toThrow(/Q9_NEW/);
    expect(() => tensors.get("nothing")).toThrow(/F32 \[0,4\]/);
  });

  it("reads shards by the index, and closes them", async () => {
    const index = { metadata: {}, weight_map: { a: "model-1.safetensors", b: "model-2.safetensors" } };
    const folder = memoryFolder({
      "config.json": CONFIG,
      "model.safetensors.index.json": JSON.stringify(index),
      "model-1.safetensors": writeSafetensors({ a: f32([1]), extra: f32([9]) }),
      "model-2.safetensors": writeSafetensors({ b: f32([2]) }),
    });
    const { tensors, close } = await openSafetensors(folder);
    expect([...tensors.keys()]).toEqual(["a", "b"]);
    expect(await floats(tensors.get("b")!)).toEqual([2]);
    expect(folder.opened()).toBe(2);
    await close();
    expect(folder.opened()).toBe(0);
  });

  it.each<[string, Record<string, string | Uint8Array>, RegExp]>([
    ["no config.json", { "model.safetensors": writeSafetensors({}) }, /folder: a folder without config.json/],
    ["a config.json that is a list", { "config.json": "[]" }, /config.json: \[\] where an object belongs/],
    ["a config.json that is no JSON", { "config.json": "{" }, /config.json: invalid JSON/],
    ["no weights", { "config.json": CONFIG }, /config.json without weights; allowed: model.safetensors or/],
    [
      "a missing shard",
      { "config.json": CONFIG, ...index({ a: "m.safetensors" }) },
      /names "m.safetensors", which is not in the folder/,
    ],
    [
      "a missing tensor",
      {
        "config.json": CONFIG,
        ...index({ a: "m.safetensors" }),
        "m.safetensors": writeSafetensors({ b: f32([1]) }),
      },
      /names "a", which is not in m.safetensors/,
    ],
    [
      "a shard that is a number",
      { "config.json": CONFIG, ...index({ a: 7 }) },
      /"a" is in 7; allowed: a file/,
    ],
    [
      "no weight_map",
      { "config.json": CONFIG, "model.safetensors.index.json": "{}" },
      /weight_map: missing where an object belongs/,
    ],
    ...["../x.safetensors", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "C:x", "a\0b"].map(
      (file): [string, Record<string, string>, RegExp] => [
        `a shard called ${JSON.stringify(file)}`,
        { "config.json": CONFIG, ...index({ a: file }) },
        /file name .*; allowed: names without a path/,
      ],
    ),
  ])("refuses %s", async (_, files, message) => {
    const folder = memoryFolder(files);
    const failure = openSafetensors(folder);
    await expect(failure).rejects.toThrow(FormatError);
    await expect(failure).rejects.toThrow(message);
    expect(folder.opened()).toBe(0);
  });

  it("points from pickles to safetensors", async () => {
    const folder = memoryFolder({ "config.json": CONFIG, "pytorch_model.bin": "PK" });
    await expect(openSafetensors(folder)).rejects.toThrow(
      /PyTorch pickle weights \(pytorch_model.bin\) is not supported/,
    );
    expect(folder.opened()).toBe(0);
  });

  it("names a quantization method that it cannot read", async () => {
    const config = JSON.stringify({ quantization_config: { quant_method: "gptq", bits: 4 } });
    await expect(open({}, config)).rejects.toThrow(
      /quantization by "gptq" is not supported. Use the unquantized/,
    );
  });
});

function index(weightMap: object): Record<string, string> {
  return { "model.safetensors.index.json": JSON.stringify({ weight_map: weightMap }) };
}

describe("one safetensors file", () => {
  const readFile = (bytes: Uint8Array) => readSafetensors(watchedSource("m.safetensors", bytes));
  const entry = (dtype: string, shape: unknown, offsets: unknown) =>
    JSON.stringify({ a: { dtype, shape, data_offsets: offsets } });

  it("gives arrays of any dtype to those who ask", async () => {
    const ids = BigInt64Array.of(5n, -1n);
    const file = writeSafetensors(
      { ids: { dtype: "I64", shape: [2], data: bytesOf(ids) } },
      { __metadata__: { by: "me" } },
    );
    const entries = await readFile(file);
    expect([...entries.keys()]).toEqual(["ids"]);
    expect(new BigInt64Array((await readEntryBytes(entries.get("ids")!)).buffer)).toEqual(ids);
  });

  it("allows gaps, and bytes after the last array", async () => {
    const header =
      '{"a":{"dtype":"U8","shape":[2],"data_offsets":[3,5]},"b":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}}';
    expect((await readFile(withHeader(header, [new Uint8Array(9)]))).size).toBe(2);
  });

  it.each<[string, Uint8Array, RegExp]>([
    ["an empty file", new Uint8Array(0), /0 bytes; allowed: at least 8/],
    ["a header beyond the file", withHeader("{}", [], 3n), /a header of 3 bytes; allowed: 2/],
    [
      "a header of 2^63 bytes",
      withHeader("{}", [], 2n ** 63n),
      /a header of 9223372036854776000 bytes; allowed: 2/,
    ],
    ["no JSON", withHeader("{'a':1}"), /header: invalid JSON/],
    ["an empty header", withHeader(""), /header: invalid JSON/],
    ["a list", withHeader("[1]"), /header: \[1\] where an object belongs/],
    ["bytes that are not UTF-8", withHeader("{}", []).fill(0xff, 8), /not UTF-8/],
    ["an entry that is null", withHeader('{"a":null}'), /"a": null where an object belongs/],
    ["a name twice", withHeader('{"a":{},"\\u0061":{}}'), /the name "a" twice in one JSON object/],
    ["a field twice", withHeader('{"a":{"dtype":"F32","dtype" : "F16"}}'), /the name "dtype" twice/],
    ["deep nesting", withHeader(`{"a":${"[".repeat(100_000)}`), /JSON nested 65 deep; allowed: 64/],
    ["a dtype that is a number", withHeader('{"a":{"dtype":1}}'), /"a": dtype 1; allowed: a short name/],
    [
      "a shape that is no list",
      withHeader(entry("U8", 2, [0, 2])),
      /shape 2; allowed: up to 8 whole numbers/,
    ],
    ["a negative dimension", withHeader(entry("U8", [-2], [0, 2])), /shape \[-2\]/],
    ["half a dimension", withHeader(entry("U8", [0.5], [0, 2])), /shape \[0.5\]/],
    ["one offset", withHeader(entry("U8", [2], [0])), /data_offsets \[0\]; allowed: \[begin, end\]/],
    ["offsets backwards", withHeader(entry("U8", [2], [2, 0]), [new Uint8Array(2)]), /data_offsets \[2,0\]/],
    [
      "an offset beyond the file",
      withHeader(entry("U8", [2], [0, 2]), [new Uint8Array(1)]),
      /end <= 1, the bytes after/,
    ],
    ["an offset of 1e300", withHeader(entry("U8", [2], [0, 1e300])), /data_offsets \[0,1e\+300\]/],
    [
      "a shape of other bytes",
      withHeader(entry("F32", [2], [0, 4]), [new Uint8Array(4)]),
      /4 bytes for F32 \[2\]; allowed: 8/,
    ],
    ["a shape that overflows", withHeader(entry("F32", [2 ** 50, 2 ** 50], [0, 0])), /0 bytes for F32/],
    [
      "an overlap",
      withHeader(
        '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}}',
        [new Uint8Array(5)],
      ),
      /"b": its data starts at byte \d+, inside that of "a"/,
    ],
  ])("refuses %s", async (_, bytes, message) => {
    const failure = readFile(bytes);
    await expect(failure).rejects.toThrow(FormatError);
    await expect(failure).rejects.toThrow(message);
  });
});

describe("MLX quantized weights", () => {
  /** Arrays as MLX writes them, and the values that they stand for. */
  function quantized(bits: number, group: number, rows: number, cols: number, dtype: "F16" | "BF16" | "F32") {
    const codes = Array.from({ length: rows * cols }, (_, i) => (i * 37 + (i >> 4)) % 2 ** bits);
    const words = new Uint32Array((rows * cols * bits) / 32);
    for (let i = 0; i < codes.length; i++) {
      const bit = i * bits;
      words[bit >> 5] = (words[bit >> 5] | (codes[i] << (bit & 31))) >>> 0;
    }
    const groups = (rows * cols) / group;
    // Exact in every one of the three dtypes.
    const scales = Array.from({ length: groups }, (_, i) => (1 + (i % 5)) / 64);
    const biases = Array.from({ length: groups }, (_, i) => -(i % 7) / 8);
    const pack = (values: number[]) => {
      if (dtype === "F32") return bytesOf(Float32Array.from(values));
      return bytesOf(Uint16Array.from(values, dtype === "F16" ? f32ToF16 : f32ToBf16));
    };
    const small = { dtype, shape: [rows, cols / group] };
    return {
      parts: {
        weight: { dtype: "U32", shape: [rows, (cols * bits) / 32], data: bytesOf(words) },
        scales: { ...small, data: pack(scales) },
        biases: { ...small, data: pack(biases) },
      },
      values: codes.map((code, i) => scales[Math.floor(i / group)] * code + biases[Math.floor(i / group)]),
    };
  }
  const named = (path: string, parts: ReturnType<typeof quantized>["parts"]) => ({
    [`${path}.weight`]: parts.weight,
    [`${path}.scales`]: parts.scales,
    [`${path}.biases`]: parts.biases,
  });
  const mlx = (bits: unknown, group: unknown, more: object = {}) =>
    JSON.stringify({ quantization: { bits, group_size: group, ...more } });

  const CASES = [4, 8].flatMap((bits) =>
    [32, 64, 128].map((group, i) => [bits, group, (["F16", "BF16", "F32"] as const)[i]] as const),
  );
  it.each(CASES)("joins %i bits in groups of %i with %s scales", async (bits, group, dtype) => {
    const { parts, values } = quantized(bits, group, 5, 256, dtype);
    const { tensors } = await open({ ...named("m.up", parts), "m.norm.weight": f32([1]) }, mlx(bits, group));
    expect([...tensors.keys()]).toEqual(["m.up.weight", "m.norm.weight"]);
    const tensor = tensors.get("m.up.weight")!;
    expect(tensor).toMatchObject({ name: "m.up.weight", type: `mlx${bits}_g${group}`, rows: 5, cols: 256 });
    expect(await floats(tensor)).toEqual(values);
    expect(await floats(tensor, 3, 1)).toEqual(values.slice(3 * 256, 4 * 256));
  });

  it("equals what MLX itself wrote and dequantized", async () => {
    const at = (file: string) => fileURLToPath(new URL(`../golden/mlx${file}`, import.meta.url));
    const { tensors, close } = await openSafetensors(fileFolder(at("")));
    const expectedFile = await fileSource(at("/expected.safetensors"));
    const expected = await readSafetensors(expectedFile);
    expect(tensors.size).toBe(18);
    for (const tensor of tensors.values()) {
      const bytes = await readEntryBytes(expected.get(tensor.name.replace(".weight", ""))!);
      expect(await floats(tensor)).toEqual([...new Float32Array(bytes.buffer)]);
    }
    await expectedFile.close();
    await close();
  });

  it("gathers more rows than one piece holds", async () => {
    const { parts, values } = quantized(8, 64, 300, 4096, "F16");
    const { tensors } = await open(named("m", parts), mlx(8, 64));
    const found = await floats(tensors.get("m.weight")!);
    expect(found.findIndex((value, i) => value !== values[i])).toBe(-1);
  });

  it("follows the entry of a module, and multiplies experts into rows", async () => {
    const own = quantized(8, 32, 6, 64, "F32");
    const weight = { ...own.parts.weight, shape: [2, 3, 16] };
    const scales = { ...own.parts.scales, shape: [2, 3, 2] };
    const biases = { ...own.parts.biases, shape: [2, 3, 2] };
    const config = mlx(4, 64, { "m.experts": { bits: 8, group_size: 32 }, "m.norm": false });
    const { tensors } = await open(
      { ...named("m.experts", { weight, scales, biases }), "m.norm.weight": f32([1]) },
      config,
    );
    expect(tensors.get("m.experts.weight")).toMatchObject({ type: "mlx8_g32", rows: 6, cols: 64 });
    expect(await floats(tensors.get("m.experts.weight")!)).toEqual(own.values);
    expect(tensors.get("m.norm.weight")).toMatchObject({ type: "f32" });
  });

  it.each<[string, string, RegExp]>([
    [
      "3 bits",
      mlx(3, 64),
      /with bits 3 and group_size 64 is not supported. Supported: 4 and 8 bits with groups of 32, 64 and 128/,
    ],
    ["groups of 16", mlx(4, 16), /group_size 16/],
    ["another mode", mlx(8, 32, { mode: "mxfp8" }), /MLX quantization mode "mxfp8" of m/],
  ])("names %s when the weight is asked for", async (_, config, message) => {
    const { parts } = quantized(4, 64, 2, 64, "F16");
    const { tensors } = await open({ ...named("m", parts), a: f32([1]) }, config);
    expect(tensors.get("a")).toBeDefined();
    expect(() => tensors.get("m.weight")).toThrow(UnsupportedError);
    expect(() => tensors.get("m.weight")).toThrow(message);
  });

  it("does not guess when config.json says nothing of a quantization", async () => {
    const { parts } = quantized(4, 64, 2, 64, "F16");
    const { tensors } = await open(named("m", parts));
    expect(() => tensors.get("m.weight")).toThrow(/"m.weight" of U32 \[2,8\] is not supported/);
  });

  it("refuses arrays that do not fit each other", async () => {
    const { parts } = quantized(4, 64, 2, 64, "F16");
    const half = { ...parts.scales, shape: [1, 1], data: parts.scales.data.subarray(2) };
    await expect(open(named("m", { ...parts, scales: half }), mlx(4, 64))).rejects.toThrow(
      /"m.scales": F16 \[1,1\]; allowed: F32, F16 or BF16 \[2,1\] for mlx4_g64/,
    );
    await expect(open(named("m", parts), mlx(8, 64))).rejects.toThrow(FormatError);
    const { weight, scales } = parts;
    await expect(open({ "m.weight": weight, "m.scales": scales }, mlx(4, 64))).rejects.toThrow(
      /scales without biases/,
    );
    await expect(open(named("m", parts), mlx(4, 64, { m: 7 }))).rejects.toThrow(
      /quantization of m: 7 where an object/,
    );
  });
});
