/**
 * Importance: what matrices meet, against transformers' hidden states; by expert, by hand; its file; what is refused; and whole
 * models quantized under it, from a text and from a file.
 */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Allocation, Value } from "../../src/device/contract.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { collectImportance, columnWeights, type Importance, Tally } from "../../src/engine/importance.ts";
import { readImportance, writeImportance } from "../../src/engine/importance-file.ts";
import { type QuantizeOptions, quantizeModel } from "../../src/engine/quantize.ts";
import { openCheckpoint } from "../../src/format/open.ts";
import { quantize } from "../../src/format/quantize.ts";
import { rowBytes } from "../../src/format/tensor.ts";
import type { Tokenizer } from "../../src/format/tokenizer.ts";
import type { Model } from "../../src/model/model.ts";
import { f32Rows } from "../../src/model/tensors.ts";
import { asCheckpoint, writtenModel } from "../../src/model/written.ts";
import { randomBytes } from "../device/random-tensor.ts";
import { T, type WrittenTensor, writeGguf } from "../format/write-gguf.ts";
import { expected, goldenModel } from "../model/golden.ts";
import { tinyModel } from "./tiny-model.ts";

let folder = "";
const at = (name: string) => join(folder, name);
/** A window of the tiny model's 128 tokens, and a shorter one. */
const TEXT = "abcde".repeat(30);
/** A letter each, three bytes of a space that its tokenizer puts in front, two start tokens. */
const TOKENS = 155;
const importance = { text: TEXT, name: "books/letters.txt" };
const options = { type: "q4_0", device: "reference" } as const;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "nibble-importance-"));
  await writeFile(at("tiny.gguf"), tinyModel());
  await writeFile(at("experts.gguf"), tinyExperts());
});
afterAll(() => rm(folder, { recursive: true }));

describe("what matrices meet", () => {
  it.each(["llama", "qwen3_5"])("are sums of squares over all tokens: %s", async (family) => {
    const model = await goldenModel(family);
    const { ids, arrays } = await expected(family);
    const checkpoint = {
      ...asCheckpoint(await writtenModel(model), family),
      tokenizer: async () => ofIds(ids, model.config.vocab),
    };
    const open = () => wasmDevice({ threads: 1 });
    // Three steps, one after another.
    const { tensors, ...rest } = await collectImportance(checkpoint, "", ids.length, open, { name: "ids" });
    expect(rest).toEqual({ datasets: ["ids"], chunks: 1, chunkTokens: 160 });
    expect([...tensors.keys()].every((name) => /^blk\.\d+\..*\.weight$/.test(name))).toBe(true);
    for (let layer = 0; layer < model.config.layers.length; layer++) {
      const first = ["attn_qkv", "attn_q"].map((name) => tensors.get(`blk.${layer}.${name}.weight`));
      const { sums, counts } = first.find((found) => found !== undefined)!;
      expect([...counts]).toEqual([160]);
      const norm = await f32Rows(checkpoint.tensors.get(`blk.${layer}.attn_norm.weight`)!, 0, 1);
      const wanted = normedSquares(arrays.get(`hidden.${layer}`)!, norm, model);
      for (let col = 0; col < norm.length; col++)
        expect(Math.abs(sums[col] / wanted[col] - 1), `layer ${layer}, column ${col}`).toBeLessThan(0.02);
    }
    await model.checkpoint.close();
  });

  it("are counted by expert", async () => {
    const op = new Recorder(2, 1);
    const matrix = (name: string, rows: number, cols: number) =>
      op.weight(`blk.0.${name}`, "matrix", "f32", rows, cols);
    const x = op.embed(op.weight("table", "matrix", "f32", 4, 2));
    const picks = op.route(op.matmul(x, matrix("router", 3, 2)), { k: 2, normalise: true });
    const up = op.expertMatmul(x, picks, matrix("up", 3 * 2, 2), { experts: 3 });
    op.expertMatmul(up, picks, matrix("down", 3 * 2, 2), { experts: 3 });
    const tally = new Tally(op.finish(x));
    const rows = new Map<Value, number[]>([
      [x, [1, 2, 3, 4]],
      // Experts 2 and 0; then 2 and 1.
      [picks, [2, 0, 0.5, 0.5, 2, 1, 0.5, 0.5]],
      [up, [1, 1, 2, 2, 3, 3, 4, 5]],
    ]);
    const read = async (value: Value) => Float32Array.from(rows.get(value)!);
    await tally.add({ read } as unknown as Allocation, 2);
    const found = tally.byName({ sourceNames: ({ name }) => [name] } as Pick<Model, "sourceNames">);
    const plain = ({ sums, counts }: Importance) => [[...sums], [...counts]];
    expect(plain(found.get("blk.0.router")!)).toEqual([[10, 20], [2]]);
    expect(plain(found.get("blk.0.up")!)).toEqual([
      [1, 4, 9, 16, 10, 20],
      [1, 1, 2],
    ]);
    expect(plain(found.get("blk.0.down")!)).toEqual([
      [4, 4, 16, 25, 10, 10],
      [1, 1, 2],
    ]);
    // A file with a tensor for each expert.
    const each = tally.byName({
      sourceNames: ({ name }) => (name.endsWith("up") ? [0, 1, 2].map((e) => `${name}.${e}`) : [name]),
    });
    expect(plain(each.get("blk.0.up.2")!)).toEqual([[10, 20], [2]]);
  });

  it("become weights: means, a column of nothing a little, an expert of nothing none", () => {
    const sums = Float32Array.of(8, 0, 16, 24, 0, 0, 0, 0);
    const found = { sums, counts: Float32Array.of(2, 0) };
    // Means 4, 0, 8, 12: of 6, over the power of two below.
    expect([...columnWeights(found, 0)!]).toEqual([1, Math.fround(1.5e-6), 2, 3]);
    expect(columnWeights(found, 1)).toBe(null);
    expect(columnWeights({ sums: new Float32Array(4), counts: Float32Array.of(3) }, 0)).toBe(null);
  });
});

describe("a model quantized under an importance", () => {
  it.each(["tiny", "experts"])("has the blocks of each matrix' weights: %s", async (name) => {
    const [target, out] = [at(`${name}-text.gguf`), at(`${name}-importance.gguf`)];
    const source = at(`${name}.gguf`);
    const made = await quantizeModel(source, target, { ...options, importance, importanceOut: out });
    expect(made.importance).toEqual({ matrices: 14, datasets: ["letters.txt"] });
    const matrix = await readImportance(out);
    expect(matrix).toMatchObject({ datasets: ["letters.txt"], chunks: 2, chunkTokens: 128 });
    const [before, after] = [await openCheckpoint(source), await openCheckpoint(target)];
    expect(after.metadata).toMatchObject({
      "quantize.imatrix.dataset": "letters.txt",
      "quantize.imatrix.chunks_count": 2,
    });
    const part = name === "tiny" ? "" : "_exps";
    for (const path of [`blk.1.ffn_up${part}.weight`, `blk.0.ffn_down${part}.weight`]) {
      const { rows, cols, type } = after.tensors.get(path)!;
      expect(type).toBe("q4_0");
      const found = matrix.tensors.get(path)!;
      const experts = found.counts.length;
      expect(experts).toBe(name === "tiny" ? 1 : 2);
      expect(found.counts.reduce((a, b) => a + b)).toBe(TOKENS);
      for (let expert = 0; expert < experts; expert++) {
        const [first, count] = [(expert * rows) / experts, rows / experts];
        const bytes = new Uint8Array(count * rowBytes(type, cols));
        await after.tensors.get(path)!.readRows(first, count, bytes);
        const wanted = new Uint8Array(bytes.length);
        const values = await f32Rows(before.tensors.get(path)!, first, count);
        quantize("q4_0", values, wanted, columnWeights(found, expert));
        expect(Buffer.compare(bytes, wanted)).toBe(0);
        quantize("q4_0", values, wanted);
        expect(Buffer.compare(bytes, wanted)).not.toBe(0);
      }
    }
    await Promise.all([before.close(), after.close()]);
    await quantizeModel(source, at(`${name}-file.gguf`), { ...options, importance: { file: out } });
    expect(Buffer.compare(await readFile(at(`${name}-file.gguf`)), await readFile(target))).toBe(0);
  });

  it("says which matrices it has nothing for", async () => {
    const known = await readImportance(at("experts-importance.gguf"));
    const tensors = new Map(known.tensors);
    const up = tensors.get("blk.0.ffn_up_exps.weight")!;
    tensors.set("blk.0.ffn_up_exps.weight", { ...up, counts: Float32Array.of(0, 5) });
    tensors.delete("blk.1.attn_q.weight");
    await writeImportance(at("partial.gguf"), { ...known, tensors });
    const file = at("partial.gguf");
    const made = await quantizeModel(at("experts.gguf"), at("p.gguf"), { ...options, importance: { file } });
    expect(made.warnings.filter((line) => line.includes("importance"))).toEqual([
      "1 matrices have no importance and are quantized without: blk.1.attn_q.weight",
      "1 of 12 matrices of experts met no token and are quantized without importance",
    ]);
  });
});

describe("refused, and nothing is written:", () => {
  const cases: [string, Partial<QuantizeOptions>, string | RegExp][] = [
    [
      "an empty text",
      { importance: { text: "" } },
      "the importance text text is 0 tokens long; allowed: 127",
    ],
    [
      "a text shorter than a window",
      { importance: { text: "abc", name: "x" } },
      "text x is 6 tokens long; allowed: 127 or more",
    ],
    ["a type that has nothing to choose", { type: "q8_0", importance }, "of which no tensor is chosen by it"],
    ["a file to write without an importance", { importanceOut: "x.gguf" }, "together with an importance"],
    ["a file that exists", { importance, importanceOut: "tiny.gguf" }, "exists already"],
    ["a file that does not", { importance: { file: "none.gguf" } }, "no such file"],
    ["a model's file", { importance: { file: "tiny.gguf" } }, 'general.type missing; allowed: "imatrix"'],
    ["no matrix", { importance: { file: "empty.gguf" } }, "an importance matrix without a tensor"],
    [
      "other names",
      { importance: { file: "experts-importance.gguf" } },
      /another model: 8 of its 16 tensors/,
    ],
    [
      "other sizes",
      { importance: { file: "sizes.gguf" } },
      "another model: 32 columns of 1 matrices; allowed: 64 of 1",
    ],
    ["sums without counts", { importance: { file: "half.gguf" } }, "2 sums with 0 counts"],
    ["numbers that are none", { importance: { file: "nan.gguf" } }, "NaN; allowed: finite numbers from 0 on"],
  ];
  beforeAll(async () => {
    const named = (name: string, values: number[]): WrittenTensor => ({
      ...{ name, dims: [values.length, 1], type: 0 },
      data: new Uint8Array(Float32Array.from(values).buffer),
    });
    const files = {
      empty: [],
      sizes: [
        named("blk.0.attn_q.weight.in_sum2", Array(32).fill(1)),
        named("blk.0.attn_q.weight.counts", [3]),
      ],
      half: [named("a.in_sum2", [1, 2])],
      nan: [named("a.in_sum2", [1, NaN]), named("a.counts", [3])],
    };
    for (const [name, tensors] of Object.entries(files))
      await writeFile(
        at(`${name}.gguf`),
        writeGguf({ keys: [["general.type", T.string, "imatrix"]], tensors }),
      );
  });
  it.each(cases)("%s", async (_what, { importance: from, importanceOut, ...more }, message) => {
    const before = await readdir(folder);
    const given = {
      ...{ ...options, ...more },
      importance: from && "file" in from ? { file: at(from.file) } : from,
      importanceOut: importanceOut && at(importanceOut),
    };
    await expect(quantizeModel(at("tiny.gguf"), at("new.gguf"), given)).rejects.toThrow(message);
    expect(await readdir(folder)).toEqual(before);
  });
});

/** Any text is these ids. */
function ofIds(ids: readonly number[], vocab: number): Tokenizer {
  const tokenizer = { vocab, bosId: null, addBos: false, encode: () => [...ids], fit: () => tokenizer };
  return tokenizer as unknown as Tokenizer;
}

/** Of each column the sum over tokens of the square after a root-mean-square norm. */
function normedSquares(hidden: Float32Array, norm: Float32Array, { config }: Model): Float64Array {
  const cols = norm.length;
  const sums = new Float64Array(cols);
  for (let from = 0; from < hidden.length; from += cols) {
    const row = hidden.subarray(from, from + cols);
    const mean = row.reduce((sum, x) => sum + x * x, 0) / cols + config.normEpsilon;
    for (let col = 0; col < cols; col++) sums[col] += (row[col] * norm[col]) ** 2 / mean;
  }
  return sums;
}

/** The tiny model with two experts in each layer, of which each token takes one. */
function tinyExperts(): Uint8Array {
  return tinyModel({
    keys: (keys) => [...keys, ["llama.expert_count", T.u32, 2], ["llama.expert_used_count", T.u32, 1]],
    tensors: (all) =>
      all.flatMap((tensor, i) => {
        const { name, dims } = tensor;
        const [, path, part] = /^(blk\.\d+\.ffn_)(gate|up|down)\.weight$/.exec(name) ?? [];
        if (part === undefined) return [tensor];
        const [cols, rows] = dims.map(Number);
        const data = randomBytes("q8_0", 2 * rows, cols, 50 + i);
        const stacked = { ...tensor, name: `${path}${part}_exps.weight`, dims: [cols, rows, 2], data };
        const router = { name: `${path}gate_inp.weight`, dims: [cols, 2], type: 0 };
        const values = randomBytes("f32", 2, cols, 90 + i);
        return part === "gate" ? [{ ...router, data: values }, stacked] : [stacked];
      }),
  });
}
