/** Damaged and hostile vocabularies: one error with place and number, whatever the damage. */
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { FormatError, NibbleError, UnsupportedError } from "../../src/format/errors.ts";
import { chatTemplateFromConfig, chatTemplateFromGguf } from "../../src/format/template.ts";
import { tokenizerFromFolder } from "../../src/format/tokenizer-folder.ts";
import { tokenizerFromGguf } from "../../src/format/tokenizer-gguf.ts";
import { tinySentencePiece } from "./tokenizer-vocabularies.ts";

const bytePairs = (): Record<string, unknown> => ({
  "tokenizer.ggml.model": "gpt2",
  "tokenizer.ggml.pre": "gpt-2",
  "tokenizer.ggml.tokens": ["a", "b", "c", "ab", "abc", "<|end|>"],
  "tokenizer.ggml.token_type": Int32Array.of(1, 1, 1, 1, 1, 3),
  "tokenizer.ggml.merges": ["a b", "ab c"],
  "tokenizer.ggml.eos_token_id": 5,
});

const folder = (): Record<string, unknown> => ({
  model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2 }, merges: ["a b"] },
  added_tokens: [{ id: 3, content: "<|end|>", special: true }],
  normalizer: null,
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false },
  decoder: { type: "ByteLevel" },
  post_processor: null,
});

describe("GGUF metadata", () => {
  const t = "tokenizer.ggml";
  it.each<[string, Record<string, unknown>, RegExp]>([
    [
      "no model",
      { [`${t}.model`]: undefined },
      /tokenizer\.ggml\.model: missing; allowed: Known ones: gpt2, llama/,
    ],
    ["a model of the wrong type", { [`${t}.model`]: 7 }, /tokenizer\.ggml\.model: 7; allowed: a text/],
    ["no tokens", { [`${t}.tokens`]: undefined }, /tokenizer\.ggml\.tokens: missing/],
    ["an empty vocabulary", { [`${t}.tokens`]: [] }, /tokenizer\.ggml\.tokens: 0 tokens/],
    ["tokens of the wrong type", { [`${t}.tokens`]: "abc" }, /tokens: "abc"; allowed: a list of strings/],
    [
      "a number among the tokens",
      { [`${t}.tokens`]: ["a", "b", 3, "ab"] },
      /tokens\[2\]: 3; allowed: a string/,
    ],
    ["a hole in the tokens", { [`${t}.tokens`]: new Array(6) }, /tokens\[0\]: missing; allowed: a string/],
    [
      "a huge vocabulary",
      { [`${t}.tokens`]: new Array(2 ** 24 + 1) },
      /16777217 entries; allowed: at most 16777216/,
    ],
    [
      "too few types",
      { [`${t}.token_type`]: [1, 1] },
      /token_type: 2 entries; allowed: 6, one for each token/,
    ],
    ["types that are no numbers", { [`${t}.token_type`]: [1, "x", 1, 1, 1, 1] }, /token_type\[1\]: "x"/],
    [
      "a byte token without a byte",
      { [`${t}.token_type`]: [1, 1, 1, 6, 1, 1] },
      /tokens\[3\]: the byte token "ab"/,
    ],
    ["no merges", { [`${t}.merges`]: undefined }, /merges: missing/],
    ["a merge without a space", { [`${t}.merges`]: ["a b", "abc"] }, /merges\[1\]: "abc"/],
    ["a merge of an unknown part", { [`${t}.merges`]: ["a b", "ab x"] }, /merges\[1\]: "x" is not a token/],
    ["a merge that makes an unknown token", { [`${t}.merges`]: ["a c"] }, /merges\[0\]: "ac" is not a token/],
    ["a number among the merges", { [`${t}.merges`]: ["a b", 1] }, /merges\[1\]: 1; allowed: a string/],
    ["an eos out of range", { [`${t}.eos_token_id`]: 6 }, /eos_token_id: 6; allowed: a token id, 0 to 5/],
    ["a bos that is no number", { [`${t}.bos_token_id`]: "<s>" }, /bos_token_id: "<s>"; allowed: a token id/],
    ["a bos that is no integer", { [`${t}.bos_token_id`]: 1.5 }, /bos_token_id: 1.5/],
    ["add_bos without a bos", { [`${t}.add_bos_token`]: true }, /add_bos_token: true without/],
    [
      "add_bos of the wrong type",
      { [`${t}.add_bos_token`]: "yes" },
      /add_bos_token: "yes"; allowed: true or false/,
    ],
  ])("%s", async (_, change, message) => {
    const failure = tokenizerFromGguf({ ...bytePairs(), ...change });
    await expect(failure).rejects.toThrow(message);
    await expect(failure).rejects.toBeInstanceOf(FormatError);
  });

  it("scores are numbers where there are any", async () => {
    const metadata = tinySentencePiece(["a"]);
    const scores = Float32Array.from(metadata[`${t}.scores`] as number[]);
    scores[17] = Number.NaN;
    await expect(tokenizerFromGguf({ ...metadata, [`${t}.scores`]: scores })).rejects.toThrow(
      /scores\[17\]: NaN/,
    );
  });

  it("names what is not known", async () => {
    for (const change of [{ [`${t}.model`]: "rwkv" }, { [`${t}.pre`]: "unheard-of" }]) {
      const failure = tokenizerFromGguf({ ...bytePairs(), ...change });
      await expect(failure).rejects.toBeInstanceOf(UnsupportedError);
      await expect(failure).rejects.toThrow(Object.values(change)[0]);
    }
  });

  it("reads -1 as no token, and the first of equal texts", async () => {
    const tokenizer = await tokenizerFromGguf({ ...bytePairs(), [`${t}.bos_token_id`]: 0xffffffff });
    expect(tokenizer.bosId).toBe(null);
    const twice = tinySentencePiece(["a", "a", ""]);
    expect((await tokenizerFromGguf(twice)).encode("a").at(-1)).toBe(259);
  });

  it("any change gives a tokenizer that works, or one error", async () => {
    const odd = fc.oneof(
      fc.anything(),
      fc.constantFrom(undefined, -1, 2 ** 31, 1e300, [], [[]], "", "\uD800"),
    );
    const key = fc.constantFrom(
      ...Object.keys(tinySentencePiece([])),
      ...Object.keys(bytePairs()),
      `${t}.add_bos_token`,
    );
    const start = fc.constantFrom(bytePairs, () => tinySentencePiece(["a", "b", "ab", "▁"]));
    await fc.assert(
      fc.asyncProperty(start, key, odd, fc.nat(10), fc.string(), async (make, name, value, index, text) => {
        const metadata = make();
        const list = metadata[name];
        // Half of the time one entry of a list changes, otherwise the whole value.
        if (Array.isArray(list) && index % 2 === 0) {
          list[index % list.length] = value;
        } else metadata[name] = value;
        try {
          const tokenizer = await tokenizerFromGguf(metadata);
          tokenizer.decode(tokenizer.encode(text, { special: true }));
          chatTemplateFromGguf(metadata);
        } catch (error) {
          expect(error).toBeInstanceOf(NibbleError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("tokenizer.json", () => {
  const model = (change: Record<string, unknown>) => ({
    model: { ...(folder().model as object), ...change },
  });
  it.each<[string, Record<string, unknown>, RegExp]>([
    ["no model", { model: undefined }, /tokenizer\.json: model: missing where an object belongs/],
    ["no vocab", model({ vocab: [] }), /model\.vocab: \[\] where an object belongs/],
    [
      "an id that is no number",
      model({ vocab: { a: "0" } }),
      /model\.vocab\["a"\]: "0"; allowed: a token id/,
    ],
    [
      "a huge id",
      model({ vocab: { a: 2 ** 40 } }),
      /model\.vocab\["a"\]: 1099511627776; allowed: a token id/,
    ],
    ["no merges", model({ merges: "x" }), /model\.merges: "x"/],
    ["a merge of three", model({ merges: ["a b c"] }), /model\.merges\[0\]: "a b c"; allowed: two texts/],
    [
      "a merge of what is no token",
      model({ merges: [["a", "z"]] }),
      /model\.merges\[0\]: "z" is not a token/,
    ],
    ["added tokens that are no list", { added_tokens: {} }, /added_tokens: \{\}; allowed: a list/],
    ["an added token without a text", { added_tokens: [{ id: 3 }] }, /added_tokens\[0\]\.content: missing/],
    [
      "a long added token",
      { added_tokens: [{ id: 3, content: "x".repeat(600) }] },
      /\[3\]: a control token of 600/,
    ],
  ])("%s", async (_, change, message) => {
    const failure = tokenizerFromFolder({ tokenizer: { ...folder(), ...change } });
    await expect(failure).rejects.toThrow(message);
    await expect(failure).rejects.toBeInstanceOf(FormatError);
  });

  const splitBy = (pattern: unknown) => ({
    pre_tokenizer: { type: "Split", pattern, behavior: "Isolated", invert: false },
  });
  const replaced = (times: number, content: string) => ({
    normalizer: {
      type: "Sequence",
      normalizers: Array.from({ length: times }, () => ({
        type: "Replace",
        pattern: { String: "a" },
        content,
      })),
    },
  });

  it("a Split without a pattern is one error, with nothing on the console", async () => {
    const printed = vi.spyOn(console, "warn");
    for (const pattern of [undefined, {}, { Regex: 5 }, { String: "" }]) {
      const failure = tokenizerFromFolder({ tokenizer: { ...folder(), ...splitBy(pattern) } });
      await expect(failure).rejects.toThrow(/tokenizer\.json: pre_tokenizer/);
      await expect(failure).rejects.toBeInstanceOf(FormatError);
    }
    expect(printed).not.toHaveBeenCalled();
    printed.mockRestore();
  });

  it("a prefix or a replacement that is no text", async () => {
    const parts = {
      prepend: { type: "Prepend", prepend: 5 },
      content: { type: "Replace", pattern: { String: "a" } },
    };
    for (const [key, normalizer] of Object.entries(parts)) {
      const failure = tokenizerFromFolder({ tokenizer: { ...folder(), normalizer } });
      await expect(failure).rejects.toThrow(new RegExp(`normalizer.${key}: (5|missing); allowed: a text`));
      await expect(failure).rejects.toBeInstanceOf(FormatError);
    }
  });

  it("a replacement is text, whatever JavaScript reads in it", async () => {
    const vocab = Object.fromEntries([..."a$&b"].map((text, id) => [text, id]));
    const json = { ...folder(), ...model({ vocab, merges: [] }), ...replaced(1, "$&") };
    const tokenizer = await tokenizerFromFolder({ tokenizer: { ...json, added_tokens: [] } });
    expect(tokenizer.decode(tokenizer.encode("ab"))).toBe("$&b");
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ["a pattern that never ends", splitBy({ Regex: "(a+)+$" }), /pattern \(a\+\)\+\$ of tokenizer\.json/],
    [
      "a replaced pattern that never ends",
      { normalizer: { type: "Replace", pattern: { Regex: "(a|a)*b" }, content: "" } },
      /pattern \(a\|a\)\*b/,
    ],
    ["doubling", replaced(40, "aa"), /1099511627776 times as long.*at most 16/],
    ["a long replacement", replaced(1, "a".repeat(1000)), /1000 times as long/],
    ["a long prefix", { normalizer: { type: "Prepend", prepend: "a".repeat(100) } }, /100 characters/],
    ["another model", model({ type: "Unigram" }), /model "Unigram"/],
    ["a word suffix", model({ end_of_word_suffix: "</w>" }), /end_of_word_suffix/],
    ["a normalizer", { normalizer: { type: "Magic" } }, /normalizer.*Magic/],
    ["a pre-tokenizer", { pre_tokenizer: { type: "Punctuation" } }, /pre-tokenizer.*Punctuation/],
    ["a decoder", { decoder: { type: "CTC" }, pre_tokenizer: null }, /decoder.*CTC/],
    [
      "a pattern",
      { pre_tokenizer: { type: "Split", pattern: { Regex: "(" }, behavior: "Isolated" } },
      /pattern \( of tokenizer\.json: pre_tokenizer/,
    ],
  ])("names what is not known: %s", async (_, change, message) => {
    const failure = tokenizerFromFolder({ tokenizer: { ...folder(), ...change } });
    await expect(failure).rejects.toThrow(message);
    await expect(failure).rejects.toBeInstanceOf(UnsupportedError);
  });

  it("the smaller files", async () => {
    const make = (files: object) => tokenizerFromFolder({ tokenizer: folder(), ...files });
    await expect(make({ config: { bos_token: "<s>" } })).rejects.toThrow(/bos_token: "<s>" is not a token/);
    await expect(make({ config: { eos_token: 3 } })).rejects.toThrow(/eos_token: 3; allowed: a text/);
    await expect(make({ config: [] })).rejects.toThrow(/tokenizer_config\.json: \[\]/);
    await expect(make({ generation: { eos_token_id: [3, 9] } })).rejects.toThrow(
      /eos_token_id: 9; allowed: 0 to 3/,
    );
  });

  it("any change gives a tokenizer that works, or one error", async () => {
    const paths = [
      "model",
      "model.vocab",
      "model.merges",
      "model.unk_token",
      "added_tokens",
      "added_tokens.0",
      "added_tokens.0.id",
      "normalizer",
      "pre_tokenizer",
      "decoder",
      "post_processor",
    ];
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...paths), fc.anything(), fc.string(), async (path, value, text) => {
        const json = folder();
        const keys = path.split(".");
        let place = json;
        for (const key of keys.slice(0, -1)) place = place[key] as Record<string, unknown>;
        place[keys.at(-1)!] = value;
        try {
          const tokenizer = await tokenizerFromFolder({ tokenizer: json });
          tokenizer.decode(tokenizer.encode(text, { special: true }));
        } catch (error) {
          expect(error).toBeInstanceOf(NibbleError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("chat templates of the wrong type", () => {
  it("one error with the place", () => {
    const metadata = bytePairs();
    expect(() => chatTemplateFromGguf({ ...metadata, "tokenizer.chat_template": 5 })).toThrow(
      /tokenizer\.chat_template: 5; allowed: a text/,
    );
    expect(() => chatTemplateFromConfig({ chat_template: 5 })).toThrow(/chat_template: 5/);
    expect(() => chatTemplateFromConfig({ chat_template: [{ name: "x" }] })).toThrow(/chat_template\[0\]/);
    expect(() => chatTemplateFromConfig({ chat_template: "x", bos_token: 1 })).toThrow(/bos_token: 1/);
  });
});
