/** Shapes become configs the way files do, and synthetic weights are valid, finite and the same however they are read. */
import { describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { dequantize } from "../../src/format/blocks.ts";
import { ArgumentError } from "../../src/format/errors.ts";
import { rowBytes, type Tensor } from "../../src/format/tensor.ts";
import { attentionIn, attentionsOf } from "../../src/model/config.ts";
import { openModel } from "../../src/model/model.ts";
import { SHAPES } from "../../src/model/shapes.ts";
import { syntheticCheckpoint } from "../../src/model/synthetic.ts";

/** Parameters as the models' authors count them, in billions. */
const BILLIONS: Record<string, number> = {
  "llama-3.1-8b": 8.03,
  "llama-3.1-70b": 70.6,
  "llama-3.2-1b": 1.24,
  "llama-3.2-3b": 3.21,
  "mistral-7b": 7.25,
  "mistral-nemo-12b": 12.2,
  "mistral-small-24b": 23.6,
  "qwen-2.5-0.5b": 0.494,
  "qwen-2.5-1.5b": 1.54,
  "qwen-2.5-3b": 3.09,
  "qwen-2.5-7b": 7.62,
  "qwen-2.5-14b": 14.8,
  "qwen-2.5-32b": 32.8,
  "qwen-2.5-72b": 72.7,
  "qwen-3-0.6b": 0.596,
  "qwen-3-1.7b": 1.72,
  "qwen-3-4b": 4.02,
  "qwen-3-8b": 8.19,
  "qwen-3-14b": 14.8,
  "qwen-3-32b": 32.8,
  // Without the eyes and the block that predicts a second token.
  "qwen-3-30b-a3b": 30.5,
  "qwen-3-235b-a22b": 235,
  "gpt-oss-20b": 20.9,
  "gpt-oss-120b": 116.8,
  // 5.1 and 8.0 with what sees and hears.
  "gemma-4-e2b": 4.63,
  "gemma-4-e4b": 7.46,
  "gemma-4-12b": 11.9,
  "gemma-4-26b-a4b": 25.2,
  "gemma-4-31b": 30.7,
  "qwen-3.5-9b": 8.95,
  "qwen-3.5-27b": 26.9,
  "qwen-3.6-27b": 26.9,
  "qwen-3.8-27b": 26.9,
  "qwen-3.5-35b-a3b": 34.7,
  "qwen-3.6-35b-a3b": 34.7,
  "qwen-3-next-80b-a3b": 79.7,
  "gemma-3-270m": 0.268,
  "gemma-3-1b": 1.0,
  "gemma-3-4b": 3.88,
  "gemma-3-12b": 11.8,
  "gemma-3-27b": 27.0,
};

describe("every shape", () => {
  it("has its parameters checked here", () => {
    expect(Object.keys(SHAPES).sort()).toEqual(Object.keys(BILLIONS).sort());
  });

  it.each(Object.entries(SHAPES))("%s makes a config, a graph, and its known size", async (name, shape) => {
    const checkpoint = await syntheticCheckpoint(name);
    const model = await openModel(checkpoint);
    const { hidden, vocab, trainedContext, tied } = model.config;
    const layers = model.config.layers.length;
    const attentions = attentionsOf(model.config);
    // Of Gemma 4 the full layers' heads are the shape's, and its KV heads the sliding ones'.
    const { heads, kvHeads, window } = attentions[0].spec;
    const { headDim } = attentions[attentions.length - 1].spec;
    const { width, experts } = model.config.layers[0].feedForward;
    const ffn = experts && width === 0 ? shape.ffn : width;
    expect({ layers, hidden, heads, kvHeads, headDim, ffn, vocab, trainedContext, tied }).toEqual(
      Object.fromEntries(
        (
          [
            "layers",
            "hidden",
            "heads",
            "kvHeads",
            "headDim",
            "ffn",
            "vocab",
            "trainedContext",
            "tied",
          ] as const
        ).map((key) => [key, shape[key]]),
      ),
    );
    expect(window).toBe(shape.window ?? null);
    const graph = model.record({ context: 1024, maxTokens: 32, maxOutputs: 1, codec: kvCodec("int4") });
    expect(graph.weights.length).toBe(
      checkpoint.tensors.size -
        (checkpoint.tensors.has("rope_freqs.weight") ? 1 : 0) +
        // Queries and their gates lie in one.
        attentions.filter(({ spec }) => spec.outputGate).length,
    );
    const count = graph.weights.reduce((sum, { rows, cols }) => sum + rows * cols, 0) / 1e9;
    expect(Math.abs(count / BILLIONS[name] - 1)).toBeLessThan(0.01);
  });

  it.each(["gemma-4-e2b", "gemma-4-26b-a4b", "gpt-oss-20b", "qwen-3-30b-a3b"])(
    "%s of 6 layers is one too",
    async (name) => {
      const model = await openModel(await syntheticCheckpoint(name, { layers: 6, vocab: 64 }));
      expect(model.config.layers.length).toBe(6);
    },
  );

  it.each([
    // Layers with a cache of their own, and bytes a token of the full ones in f16, by the published configs.
    ["gemma-4-e2b", 3, 12, 6144],
    ["gemma-4-e4b", 4, 20, 16_384],
    ["gemma-4-12b", 8, 40, 16_384],
    ["gemma-4-26b-a4b", 5, 25, 20_480],
    ["gemma-4-31b", 10, 50, 81_920],
    ["gpt-oss-20b", 12, 12, 24_576],
  ])("%s keeps %i full and %i sliding caches, %i bytes a token", async (name, full, sliding, bytes) => {
    const model = await openModel(await syntheticCheckpoint(name));
    const { caches } = model.record({ context: 64, maxTokens: 1, maxOutputs: 1, codec: kvCodec("f16") });
    const own = caches.filter(({ pool }) => pool.window === null);
    expect([own.length, caches.length - own.length]).toEqual([full, sliding]);
    expect(own.reduce((sum, { kvHeads, headDim }) => sum + 2 * kvHeads * headDim * 2, 0)).toBe(bytes);
  });

  it("scales RoPE as its files do", async () => {
    const frequencies = async (name: string) => {
      const { layers } = (await openModel(await syntheticCheckpoint(name))).config;
      return layers.map(attentionIn).findLast(({ window }) => window === null)!.rope!.frequencies;
    };
    const [llama8, llama1, gemma1, gemma4] = await Promise.all(
      ["llama-3.1-8b", "llama-3.2-1b", "gemma-3-1b", "gemma-3-4b"].map(frequencies),
    );
    // The slowest pair turns slower by the whole factor, the fastest as without scaling.
    expect(llama8[63] / 500_000 ** (-126 / 128)).toBeCloseTo(1 / 8, 6);
    expect(llama1[31] / 500_000 ** (-62 / 64)).toBeCloseTo(1 / 32, 6);
    expect(llama8[0]).toBe(1);
    expect(gemma4[5] / gemma1[5]).toBeCloseTo(1 / 8, 12);
  });
});

async function read(tensor: Tensor, first: number, count: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(count * rowBytes(tensor.type, tensor.cols));
  await tensor.readRows(first, count, bytes);
  return bytes;
}

describe("q4_k_m", () => {
  // Of the files that are published on Hugging Face, which hold a tokenizer of 8 MB besides.
  it.each([
    ["llama-3.1-8b", 4.9207e9],
    ["llama-3.1-70b", 42.5204e9],
    ["llama-3.2-1b", 0.8077e9],
    ["llama-3.2-3b", 2.0194e9],
  ])("makes a %s as large as llama.cpp does", async (name, fileBytes) => {
    const { tensors } = await syntheticCheckpoint(name, { type: "q4_k_m" });
    const bytes = [...tensors.values()].reduce((sum, t) => sum + t.rows * rowBytes(t.type, t.cols), 0);
    expect(fileBytes - bytes).toBeGreaterThan(5e6);
    expect(fileBytes - bytes).toBeLessThan(11e6);
  });

  it("falls back where rows are no whole blocks, as in the published file of Gemma 3 270M", async () => {
    const mib: Record<string, number> = {};
    const { tensors } = await syntheticCheckpoint("gemma-3-270m", { type: "q4_k_m" });
    for (const { type, rows, cols } of tensors.values())
      mib[type] = (mib[type] ?? 0) + (rows * rowBytes(type, cols)) / 2 ** 20;
    const rounded = Object.fromEntries(Object.entries(mib).map(([type, size]) => [type, size.toFixed(1)]));
    expect(rounded).toEqual({ q8_0: "171.5", q5_0: "41.6", q4_k: "12.7", q6_k: "9.2", f32: "0.2" });
  });

  it("has values like the others", async () => {
    const { tensors } = await syntheticCheckpoint("llama-3.1-70b", { type: "q4_k_m" });
    for (const [name, type] of [
      ["output.weight", "q6_k"],
      ["blk.0.ffn_down.weight", "q6_k"],
      ["blk.10.attn_v.weight", "q5_k"],
      ["blk.10.ffn_down.weight", "q4_k"],
    ]) {
      const tensor = tensors.get(name)!;
      expect(tensor.type).toBe(type);
      expect(await deviation(tensor)).toBeGreaterThan(0.95);
      expect(await deviation(tensor)).toBeLessThan(1.05);
    }
    const gemma = (await syntheticCheckpoint("gemma-3-270m", { type: "q4_k_m" })).tensors;
    for (const name of ["blk.0.ffn_up.weight", "token_embd.weight"]) {
      const found = await deviation(gemma.get(name)!);
      expect(found).toBeGreaterThan(0.97);
      expect(found).toBeLessThan(1.03);
    }
  });
});

/** Of the first rows, times the square root of the columns. */
async function deviation(tensor: Tensor): Promise<number> {
  const values = new Float32Array(20 * tensor.cols);
  dequantize(tensor.type, await read(tensor, 0, 20), values);
  return Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / 20);
}

describe("random weights", () => {
  it.each(["q4_0", "q8_0", "q4_k", "f16", "iq3_s", "iq2_s", "iq2_xxs"])(
    "of %s have deviation 1 / sqrt(cols) and mean 0",
    async (type) => {
      const { tensors } = await syntheticCheckpoint("qwen-3-4b", { type, layers: 1 });
      const tensor = tensors.get("blk.0.ffn_up.weight")!;
      const { cols } = tensor;
      const values = new Float32Array(200 * cols);
      dequantize(tensor.type, await read(tensor, 300, 200), values);
      let sum = 0;
      let squares = 0;
      for (const x of values) {
        sum += x;
        squares += x * x;
      }
      const deviation = Math.sqrt(squares / values.length);
      expect(deviation * Math.sqrt(cols)).toBeGreaterThan(0.97);
      expect(deviation * Math.sqrt(cols)).toBeLessThan(1.03);
      expect(Math.abs(sum / values.length)).toBeLessThan(0.15 * deviation);
    },
  );

  it("are the same in pieces as at once, and differ between rows and tensors", async () => {
    const { tensors } = await syntheticCheckpoint("llama-3.2-1b", { layers: 2 });
    const tensor = tensors.get("blk.0.ffn_down.weight")!;
    const whole = await read(tensor, 0, tensor.rows);
    const stride = rowBytes(tensor.type, tensor.cols);
    for (const [first, count] of [
      [0, 1],
      [251, 260],
      [2047, 1],
    ])
      expect(
        Buffer.compare(
          await read(tensor, first, count),
          whole.subarray(first * stride, (first + count) * stride),
        ),
      ).toBe(0);
    const rows = Array.from({ length: 64 }, (_, r) =>
      Buffer.from(whole.subarray(r * stride, (r + 1) * stride)).toString("hex"),
    );
    expect(new Set(rows).size).toBe(64);
    const other = await read(tensors.get("blk.1.ffn_down.weight")!, 0, 1);
    expect(Buffer.compare(other, whole.subarray(0, stride))).not.toBe(0);
  });
});

describe("refused:", () => {
  it.each([
    ["an unknown shape", () => syntheticCheckpoint("llama-9"), /shape is llama-9; allowed: llama-3\.1-8b, /],
    ["a name of Object's", () => syntheticCheckpoint("constructor"), /shape is constructor/],
    [
      "an unknown type",
      () => syntheticCheckpoint("qwen-3-4b", { type: "q9" }),
      /type is q9; allowed: q4_0, q8_0, q4_k, f16/,
    ],
    ["no layers", () => syntheticCheckpoint("qwen-3-4b", { layers: 0 }), /layers is 0/],
    ["half a word", () => syntheticCheckpoint("qwen-3-4b", { vocab: 0.5 }), /vocab is 0.5/],
    [
      "rows of no whole blocks",
      () => syntheticCheckpoint("gemma-3-270m", { type: "q4_k" }),
      /640; allowed: multiples of 256/,
    ],
  ])("%s", async (_what, make, message) => {
    const made = make();
    await expect(made).rejects.toThrow(ArgumentError);
    await expect(made).rejects.toThrow(message);
  });

  it("text", async () => {
    await expect((await syntheticCheckpoint("qwen-3-4b")).tokenizer()).rejects.toThrow(
      /Text with random weights is not supported/,
    );
  });
});
