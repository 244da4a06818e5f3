/** What files say of embeddings, and pooling. That vectors are those of the model: test/app/ollama.test.ts. */
import { describe, expect, it } from "vitest";
import { embeddingFacts, poolingOf, StatePooling } from "../../src/engine/embed.ts";
import type { Checkpoint } from "../../src/format/checkpoint.ts";
import { memoryFolder } from "../format/memory-folder.ts";

const gguf = (metadata: object) =>
  embeddingFacts({
    kind: "gguf",
    name: "x.gguf",
    metadata: { "general.architecture": "qwen3", ...metadata },
  } as unknown as Checkpoint);
const folder = (files: Record<string, string>) =>
  embeddingFacts({
    kind: "safetensors",
    name: "x",
    metadata: {},
    folder: memoryFolder(files),
  } as unknown as Checkpoint);

const ENDED = JSON.stringify({
  post_processor: {
    type: "Sequence",
    processors: [
      { type: "ByteLevel" },
      {
        type: "TemplateProcessing",
        single: [{ Sequence: { id: "A" } }, { SpecialToken: { id: "<end>" } }],
        special_tokens: { "<end>": { id: "<end>", ids: [7], tokens: ["<end>"] } },
      },
    ],
  },
});

describe("what a file says", () => {
  it.each([
    [{}, { pooling: null, endId: null }],
    [{ "qwen3.pooling_type": 0 }, { pooling: null, endId: null }],
    [{ "qwen3.pooling_type": 1 }, { pooling: "mean", endId: null }],
    [{ "qwen3.pooling_type": 4 }, { pooling: null, endId: null }],
    [
      { "qwen3.pooling_type": 3, "tokenizer.ggml.add_eos_token": true, "tokenizer.ggml.eos_token_id": 5 },
      { pooling: "last", endId: 5 },
    ],
  ])("GGUF %j", async (metadata, expected) => {
    expect(await gguf(metadata)).toEqual(expected);
  });

  it("a folder, as sentence-transformers writes it, with the token that ends each text", async () => {
    const pooling = JSON.stringify({ pooling_mode_lasttoken: true, pooling_mode_mean_tokens: false });
    const files = { "1_Pooling/config.json": pooling, "tokenizer.json": ENDED };
    expect(await folder(files)).toEqual({ pooling: "last", endId: 7 });
    expect(await folder({ "tokenizer.json": ENDED })).toEqual({ pooling: null, endId: null });
  });

  it("what is no pooling is refused", async () => {
    await expect(gguf({ "qwen3.pooling_type": 9 })).rejects.toThrow("qwen3.pooling_type: 9; allowed: 0 to 4");
    await expect(folder({ "1_Pooling/config.json": "{}" })).rejects.toThrow(
      "is not supported. Supported: last, mean and cls.",
    );
    await expect(folder({ "1_Pooling/config.json": "no" })).rejects.toThrow("1_Pooling/config.json: no JSON");
  });
});

describe("pooling", () => {
  it("is the caller's, else the file's, else an error with the way out", () => {
    expect(poolingOf({ pooling: "last", endId: null }, {})).toBe("last");
    expect(poolingOf({ pooling: "last", endId: null }, { pooling: "mean" })).toBe("mean");
    expect(() => poolingOf({ pooling: null, endId: null }, {})).toThrow(
      /trained to continue text.*--pooling/,
    );
    expect(() => poolingOf({ pooling: null, endId: null }, { pooling: "max" as never })).toThrow(
      /last, mean, cls/,
    );
  });

  it("is a mean of length 1, also of its beginning; a vector of zeros stays one", () => {
    const pool = new StatePooling(3);
    pool.add(Float32Array.of(3, 0, 9));
    pool.add(Float32Array.of(3, 8, 1));
    expect([...pool.vector({ normalize: false })]).toEqual([3, 4, 5]);
    expect([...pool.vector({ dimensions: 2 })].map((x) => Math.round(x * 10) / 10)).toEqual([0.6, 0.8]);
    const zeros = new StatePooling(2);
    zeros.add(new Float32Array(2));
    expect([...zeros.vector({})]).toEqual([0, 0]);
  });
});
