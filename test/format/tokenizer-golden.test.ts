/** Every line of golden/vocab (llama.cpp's ids), the fuzzed texts (Hugging Face's ids), and the way back. */
import { describe, expect, it } from "vitest";
import { encodePrompt } from "../../src/format/template-prompt.ts";
import { unmark } from "../../src/format/tokenizer.ts";
import { goldenText, goldenTokenizer, VOCABULARIES } from "./tokenizer-vocabularies.ts";

const fuzz = JSON.parse(goldenText("fuzz.json")) as { texts: string[]; ids: Record<string, number[][]> };

describe.each(VOCABULARIES)("%s", (name) => {
  const texts = goldenText(`ggml-vocab-${name}.gguf.inp`).split("\n__ggml_vocab_test__\n");
  const lines = goldenText(`ggml-vocab-${name}.gguf.out`).trimEnd().split("\n");

  it("gives llama.cpp's ids for every text", async () => {
    const tokenizer = await goldenTokenizer(name);
    expect(lines).toHaveLength(46);
    lines.forEach((line, i) => {
      expect(tokenizer.encode(texts[i]).join(" "), JSON.stringify(texts[i])).toBe(line.trim());
    });
  });

  it("gives Hugging Face's ids for mixed texts", async () => {
    const tokenizer = await goldenTokenizer(name);
    fuzz.texts.forEach((text, i) => {
      expect(tokenizer.encode(text, { special: true }), JSON.stringify(text)).toEqual(fuzz.ids[name][i]);
    });
  });

  it("decodes to the text it encoded", async () => {
    const tokenizer = await goldenTokenizer(name);
    for (const text of [...texts, ...fuzz.texts]) {
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }
  });
});

describe("the ids that are not text", () => {
  it.each([
    ["gpt-2", 50256, false, [50256]],
    ["llama-bpe", 128000, true, [128001, 128009]],
    ["llama-spm", 1, true, [2]],
    ["qwen2", 151643, false, [151643, 151645]],
    ["gemma-4", 2, true, [1, 50, 106]],
    ["needle", 1, false, [2]],
  ] as const)("%s: bos, whether it comes first, and what ends a text", async (name, bosId, addBos, ends) => {
    const tokenizer = await goldenTokenizer(name);
    expect(tokenizer.bosId).toBe(bosId);
    expect(tokenizer.addBos).toBe(addBos);
    expect([...tokenizer.endIds].sort((a, b) => a - b)).toEqual(ends);
    expect(encodePrompt(tokenizer, "Hello")[0] === bosId).toBe(addBos);
  });

  it("are left out of decoded text unless asked for", async () => {
    const tokenizer = await goldenTokenizer("llama-bpe");
    const ids = tokenizer.encode("<|begin_of_text|>Hi<|eot_id|>", { special: true });
    expect(ids).toEqual([128000, 13347, 128009]);
    expect(tokenizer.decode(ids)).toBe("Hi");
    expect(tokenizer.decode(ids, { special: true })).toBe("<|begin_of_text|>Hi<|eot_id|>");
  });

  it("take or keep the space that SentencePiece puts in front", async () => {
    const tokenizer = await goldenTokenizer("llama-spm");
    const ids = tokenizer.encode("Hello world");
    expect(tokenizer.decode(ids)).toBe("Hello world");
    expect(tokenizer.decode([1, ...ids])).toBe("Hello world");
    expect(tokenizer.decode(ids, { continues: true })).toBe(" Hello world");
  });
});

describe("long runs", () => {
  // Quadratic work on any of these would take minutes.
  it.each(["gpt-2", "llama-spm", "gemma-4"] as const)("%s: a hundred thousand of anything", async (name) => {
    const tokenizer = await goldenTokenizer(name);
    for (const unit of ["a", "xy", " ", "\n", "😀", "中文", "!", "<|", "1", "<unused"]) {
      const text = unit.repeat(100_000 / unit.length);
      const { literals } = unmark(tokenizer.protect(text));
      expect(tokenizer.decode(tokenizer.encode(text, { special: true, literals })) === text, unit).toBe(true);
    }
  });
});
