/** tokenizer.json: built from the golden vocabularies and compared with outside ids, and small ones by hand. */
import { readFileSync } from "node:fs";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { tokenizerFromFolder } from "../../src/format/tokenizer-folder.ts";
import type { GgufMetadata } from "../../src/format/tokenizer-metadata.ts";
import { goldenMetadata, goldenText, type VocabularyName } from "./tokenizer-vocabularies.ts";

const fuzz = JSON.parse(goldenText("fuzz.json")) as { texts: string[]; ids: Record<string, number[][]> };

const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
const pattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const split = { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
const spaces = { type: "Replace", pattern: { String: " " }, content: "▁" };
const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
const unspaces = { type: "Replace", pattern: { String: "▁" }, content: " " };

/** What the files of these families say around the vocabulary. */
const FAMILIES = {
  "gpt-2": { normalizer: null, pre_tokenizer: byteLevel, decoder: byteLevel },
  qwen2: {
    normalizer: null,
    pre_tokenizer: { type: "Sequence", pretokenizers: [split, { ...byteLevel, use_regex: false }] },
    decoder: byteLevel,
  },
  "llama-spm": {
    normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, spaces] },
    pre_tokenizer: null,
    decoder: { type: "Sequence", decoders: [unspaces, { type: "ByteFallback" }, { type: "Fuse" }, strip] },
  },
};

/** As Hugging Face converts SentencePiece: every way to make a piece of two others, the best scores first. */
function mergesOfScores(metadata: GgufMetadata, texts: readonly string[]): string[][] {
  const scores = metadata["tokenizer.ggml.scores"] as Float32Array;
  const known = new Set(texts);
  const merges = texts.flatMap((text, id) => {
    const halves = Array.from({ length: text.length - 1 }, (_, at) => [
      text.slice(0, at + 1),
      text.slice(at + 1),
    ]);
    return halves.filter((parts) => parts.every((part) => known.has(part))).map((parts) => ({ id, parts }));
  });
  return merges.sort((a, b) => scores[b.id] - scores[a.id]).map(({ parts }) => parts);
}

async function jsonOf(name: VocabularyName & keyof typeof FAMILIES) {
  const metadata = await goldenMetadata(name);
  const texts = metadata["tokenizer.ggml.tokens"] as string[];
  const types = metadata["tokenizer.ggml.token_type"] as Int32Array;
  const added = texts.flatMap((content, id) =>
    types[id] >= 2 && types[id] <= 4 ? [{ id, content, special: types[id] !== 4, normalized: false }] : [],
  );
  const listed = metadata["tokenizer.ggml.merges"] as string[] | undefined;
  const merges = listed?.map((merge) => merge.split(" ")) ?? mergesOfScores(metadata, texts);
  const vocab = Object.fromEntries(texts.map((text, id) => [text, id]));
  const model = { type: "BPE", vocab, merges, byte_fallback: name === "llama-spm", unk_token: null };
  return { ...FAMILIES[name], added_tokens: added, post_processor: null, model };
}

describe.each(["gpt-2", "qwen2", "llama-spm"] as const)("%s as a tokenizer.json", (name) => {
  it("gives the outside ids, and the texts back", async () => {
    const tokenizer = await tokenizerFromFolder({ tokenizer: await jsonOf(name) });
    fuzz.texts.forEach((text, i) => {
      const ids = tokenizer.encode(text, { special: true });

      expect(ids, JSON.stringify(text)).toEqual(fuzz.ids[name][i]);
      expect(tokenizer.decode(ids, { special: true })).toBe(text);
    });
  });
});

it("gives the ids of the library it replaces for speed", async () => {
  const json = await jsonOf("gpt-2");
  const library = new Library(json, {});
  const tokenizer = await tokenizerFromFolder({ tokenizer: json });
  const text = fc.oneof(fc.string({ unit: "grapheme" }), fc.constantFrom(...fuzz.texts));
  fc.assert(
    fc.property(fc.array(text, { maxLength: 4 }), (parts) => {
      // The library's ByteLevel takes JavaScript's blanks for Unicode's; the outside ids above have it right.
      const input = parts.join(" ").replace(/[\uFEFF\u0085]/g, "");
      expect(tokenizer.encode(input, { special: true })).toEqual(library.encode(input).ids);
    }),
    { numRuns: 300 },
  );
});

/** A vocabulary of ▁ and letters with Llama's files around it. */
function llamaLike(change: Record<string, unknown> = {}, model: Record<string, unknown> = {}) {
  const vocab = { "<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, a: 4, b: 5, ab: 6, "▁ab": 7, "▁▁": 8 };
  const merges = ["a b", "▁ ab", "▁ ▁"];
  return {
    added_tokens: [0, 1, 2].map((id) => ({ id, content: Object.keys(vocab)[id], special: true })),
    normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, spaces] },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [unspaces, { type: "ByteFallback" }, { type: "Fuse" }, strip],
    },
    post_processor: null,
    model: { type: "BPE", vocab, merges, unk_token: "<unk>", byte_fallback: true, ...model },
    ...change,
  };
}

describe("spaces in front", () => {
  const encode = async (json: object, text: string) =>
    (await tokenizerFromFolder({ tokenizer: json })).encode(text, { special: true });
  const metaspace = (more: object) =>
    llamaLike({
      normalizer: null,
      pre_tokenizer: { type: "Metaspace", replacement: "▁", split: false, ...more },
    });

  it("Prepend: of every section", async () => {
    expect(await encode(llamaLike(), "ab<s>ab")).toEqual([7, 1, 7]);
    expect(await encode(llamaLike(), " ab")).toEqual([3, 7]);
  });

  it("Metaspace: of every section, of the text, or never; not in front of a space", async () => {
    expect(await encode(metaspace({ prepend_scheme: "always" }), "ab<s>ab")).toEqual([7, 1, 7]);
    expect(await encode(metaspace({ prepend_scheme: "first" }), "ab<s>ab")).toEqual([7, 1, 6]);
    expect(await encode(metaspace({ prepend_scheme: "never" }), "ab<s>ab")).toEqual([6, 1, 6]);
    expect(await encode(metaspace({ add_prefix_space: false }), "ab")).toEqual([6]);
    expect(await encode(metaspace({}), " ab")).toEqual([7]);
  });

  it("Metaspace that splits joins no two spaces", async () => {
    expect(await encode(metaspace({}), "a  b")).toEqual([3, 4, 8, 5]);
    expect(await encode(metaspace({ split: true }), "a  b")).toEqual([3, 4, 3, 3, 5]);
  });

  it("comes off again", async () => {
    const tokenizer = await tokenizerFromFolder({ tokenizer: llamaLike() });
    expect(tokenizer.decode(tokenizer.encode("ab ab"))).toBe("ab ab");
    expect(tokenizer.decode(tokenizer.encode("  ab"))).toBe("  ab");
  });

  it("an unknown character is <unk> where there are no bytes", async () => {
    expect(await encode(llamaLike(), "aéb")).toEqual([3, 4, 0, 5]);
  });
});

it("Gemma's cut at spaces, which its normalizer has replaced, changes nothing", async () => {
  const cut = { type: "Split", pattern: { String: " " }, behavior: "MergedWithPrevious", invert: false };
  const decoder = { type: "Sequence", decoders: [unspaces, { type: "ByteFallback" }, { type: "Fuse" }] };
  const json = llamaLike({ normalizer: spaces, pre_tokenizer: cut, decoder });
  const tokenizer = await tokenizerFromFolder({ tokenizer: json });
  expect(tokenizer.encode("ab  ab ab")).toEqual([6, 3, 7, 7]);
  expect(tokenizer.decode([7, 7])).toBe(" ab ab");
  await expect(tokenizerFromFolder({ tokenizer: { ...json, normalizer: null } })).rejects.toThrow(
    /MergedWithPrevious/,
  );
});

describe("what the files say together", () => {
  const make = (files: object, change = {}) =>
    tokenizerFromFolder({ tokenizer: llamaLike(change), ...files });

  it("which ids end a text", async () => {
    const added_tokens = [...llamaLike().added_tokens, { id: 9, content: "<|im_end|>", special: false }];
    const tokenizer = await make(
      { config: { eos_token: { content: "</s>" } }, generation: { eos_token_id: [2, 0] } },
      { added_tokens },
    );
    expect([...tokenizer.endIds].sort()).toEqual([0, 2, 9]);
    expect((await make({ generation: { eos_token_id: 2 } })).endIds).toEqual(new Set([2]));
    expect((await make({ specialTokens: { eos_token: "</s>" } })).endIds).toEqual(new Set([2]));
  });

  it("whether a bos comes first", async () => {
    const single = [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }];
    const template = { type: "TemplateProcessing", single };
    const post_processor = { type: "Sequence", processors: [{ type: "ByteLevel" }, template] };
    const config = { bos_token: "<s>", add_bos_token: true };
    expect((await make({ config })).addBos).toBe(true);
    expect((await make({ config: { bos_token: "<s>" } }, { post_processor })).addBos).toBe(true);
    expect((await make({ config: { bos_token: "<s>" } })).addBos).toBe(false);
    // The post-processor is what Hugging Face runs: it wins over the flag.
    const without = { type: "TemplateProcessing", single: single.slice(1) };
    expect((await make({ config }, { post_processor: without })).addBos).toBe(false);
    expect(await make({ config: { bos_token: null, add_bos_token: true } })).toMatchObject({
      bosId: null,
      addBos: false,
    });
  });

  it("which added tokens need permission", async () => {
    const added_tokens = ["<|tool>", "<think>"].map((content, i) => ({ id: 9 + i, content, special: false }));
    const tokenizer = await make({}, { added_tokens: [...llamaLike().added_tokens, ...added_tokens] });
    expect(tokenizer.encode("a<think>")).toEqual([3, 4, 10]);
    expect(tokenizer.encode("a<|tool>")).not.toContain(9);
    expect(tokenizer.encode("a<|tool>", { special: true })).toEqual([3, 4, 9]);
    expect(tokenizer.encode("<s>")).not.toContain(1);
  });
});

describe("flags of added tokens", () => {
  interface Case {
    normalizer: object | null;
    added_tokens: object[];
    texts: [text: string, ids: string][];
  }
  const file = new URL("../cases/added-tokens.json", import.meta.url);
  const cases = JSON.parse(readFileSync(file, "utf8")) as Case[];
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const texts = ["<unk>", "<s>", "</s>", ...bytes, "▁", ..."abcdABCD_1.é", "ab", "▁a", "cd", "▁▁"];
  const vocab = Object.fromEntries(texts.map((text, id) => [text, id]));
  const specials = [0, 1, 2].map((id) => ({ id, content: texts[id], special: true }));
  const files = (normalizer: object | null, added: object[]) => ({
    tokenizer: llamaLike(
      { normalizer, added_tokens: [...specials, ...added] },
      { vocab, merges: ["a b", "▁ a", "c d", "▁ ▁"] },
    ),
  });

  it("single_word, normalized, lstrip and rstrip mean what they mean in tokenizers 0.23.3", async () => {
    expect(cases.flatMap(({ texts }) => texts)).toHaveLength(360);
    for (const { normalizer, added_tokens, texts } of cases) {
      const tokenizer = await tokenizerFromFolder(files(normalizer, added_tokens));
      for (const [text, ids] of texts) {
        const told = JSON.stringify([text, normalizer, added_tokens]);
        expect(tokenizer.encode(text, { special: true }).join(" "), told).toBe(ids);
      }
    }
  });

  it("a word is no part of another", async () => {
    const word = { id: 276, content: "word", single_word: true, normalized: true };
    const tokenizer = await tokenizerFromFolder(files(null, [word]));
    for (const text of ["sword", "words", "_word", "word1", "éword", "𝒂word"])
      expect(tokenizer.encode(text), text).not.toContain(276);
    for (const text of ["word", "a word.", "(word)", "word-word"])
      expect(tokenizer.encode(text), text).toContain(276);
  });
});

it("warns of ids without a token, and drops those beyond a matrix that only their text gives", async () => {
  const gap = [...llamaLike().added_tokens, { id: 12, content: "<image>", special: true }];
  const tokenizer = await tokenizerFromFolder({ tokenizer: llamaLike({ added_tokens: gap }) });
  expect(tokenizer.warnings).toEqual([
    expect.stringMatching(/^3 of the 13 ids of tokenizer.json have no token/),
  ]);
  expect(tokenizer.encode("<image>", { special: true })).toEqual([12]);
  const fitted = tokenizer.fit(9);
  expect([fitted.vocab, fitted.encode("<image>", { special: true })]).toEqual([
    9,
    tokenizer.encode("<image>"),
  ]);
  expect(tokenizer.fit(100)).toBe(tokenizer);
  expect(() => tokenizer.fit(8)).toThrow(
    /13 tokens, of which "▁▁" is number 8; allowed: 8, the rows of the model's matrix/,
  );
  expect((await tokenizerFromFolder({ tokenizer: llamaLike() })).warnings).toEqual([]);
});
