/** Text that looks like control tokens: what a person wrote never becomes one. */
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { LITERAL, type Tokenizer, unmark } from "../../src/format/tokenizer.ts";
import { FixedTexts, protect, split as splitTexts } from "../../src/format/tokenizer-control.ts";
import { tokenizerFromGguf } from "../../src/format/tokenizer-gguf.ts";
import type { GgufMetadata } from "../../src/format/tokenizer-metadata.ts";
import {
  goldenMetadata,
  goldenTokenizer,
  tinySentencePiece,
  VOCABULARIES,
} from "./tokenizer-vocabularies.ts";

function controlsOf(metadata: GgufMetadata): Map<string, number> {
  const texts = metadata["tokenizer.ggml.tokens"] as string[];
  const types = metadata["tokenizer.ggml.token_type"] as Int32Array;
  return new Map(texts.flatMap((text, id) => (types[id] === 3 || types[id] === 2 ? [[text, id]] : [])));
}

describe.each([...VOCABULARIES, "needle"] as const)("%s", (name) => {
  it("makes control tokens only where they are allowed", async () => {
    const tokenizer = await goldenTokenizer(name);
    const controls = controlsOf(await goldenMetadata(name));
    const ids = new Set(controls.values());
    for (const [text, id] of controls) {
      expect(tokenizer.encode(text, { special: true }), text).toEqual([id]);
      for (const around of [text, `a${text}b`, ` ${text} `, text + text]) {
        const plain = tokenizer.encode(around);
        expect(
          plain.some((found) => ids.has(found)),
          around,
        ).toBe(false);
        expect(tokenizer.decode(plain)).toBe(around);
      }
    }
  });

  it("keeps protected text as it is, also between control tokens", async () => {
    const tokenizer = await goldenTokenizer(name);
    const controls = [...controlsOf(await goldenMetadata(name)).keys()];
    const part = fc.oneof(
      fc.constantFrom(...controls, LITERAL, "<", "|", "<|", " "),
      fc.string({ unit: "grapheme" }),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
        const text = parts.join("");
        const read = unmark(tokenizer.protect(text));
        expect(read.text).toBe(text);
        const { literals } = read;
        expect(tokenizer.encode(text, { special: true, literals })).toEqual(tokenizer.encode(text));
        expect(tokenizer.controls(text, literals)).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });
});

describe("added tokens", () => {
  const metadata = tinySentencePiece(["a", "b", "▁", "<|tool>", "<think>", "<|im_end|>", "  "]);
  const types = metadata["tokenizer.ggml.token_type"] as number[];
  types.fill(4, 262);
  const make = () => tokenizerFromGguf({ ...metadata, "tokenizer.ggml.add_space_prefix": false });

  it("are found in any text when they are text", async () => {
    const tokenizer = await make();
    expect(tokenizer.encode("a<think>b")).toEqual([259, 263, 260]);
    expect(tokenizer.encode("a  b")).toEqual([259, 265, 260]);
    expect(tokenizer.decode([259, 263, 260])).toBe("a<think>b");
  });

  it("need permission when they look like control tokens", async () => {
    const tokenizer = await make();
    expect(tokenizer.encode("<|tool>")).not.toContain(262);
    expect(tokenizer.encode("<|tool>", { special: true })).toEqual([262]);
    expect(tokenizer.decode([262, 264])).toBe("<|tool>");
    expect(tokenizer.endIds.has(264)).toBe(true);
  });
});

describe("SentencePiece joins", () => {
  it("cannot spell a control token out of its parts", async () => {
    // "<" + "s>" would give "<s>" if control tokens were pieces: llama.cpp does that.
    const tokenizer: Tokenizer = await tokenizerFromGguf(tinySentencePiece(["s>", "<", "s", ">", "▁"]));
    expect(tokenizer.encode("<s>")).toEqual([263, 260, 259]);
    expect(tokenizer.encode("<s>", { special: true })).toEqual([1]);
    expect(tokenizer.encode("<0x41>")).not.toContain(3 + 0x41);
  });
});

describe("fixed texts", () => {
  const split = (texts: FixedTexts, text: string) => {
    const found: (string | number)[] = [];
    const none = new FixedTexts([], "test");
    const sections = { token: (id: number) => found.push(id), text: (part: string) => found.push(part) };
    splitTexts(unmark(text), { all: texts, plain: none }, sections);
    return found;
  };

  it("prefers the leftmost, then the longest", () => {
    const texts = new FixedTexts(
      ["<a", "<a>", "a>b", ">"].map((text, id) => ({ id, text })),
      "test",
    );
    expect(split(texts, "x<a>b<a<a>")).toEqual(["x", 1, "b", 0, 1]);
    expect(split(texts, `x${LITERAL}<a>b`)).toEqual(["x<", 2]);
    expect(protect("x<a>b", texts)).toBe(`x${LITERAL}<${LITERAL}a${LITERAL}>b`);
  });

  it("marks what could be the beginning of one at the end, and nothing else", () => {
    const controls = new FixedTexts(
      ["<|end|>", "<|endless|>"].map((text, id) => ({ id, text })),
      "test",
    );
    for (const [text, marked] of [
      ["a <b <| x", "a <b <| x"],
      ["a <", "a _<"],
      ["a <|endl", "a _<|endl"],
      ["a <|end|", "a _<|end|"],
      ["a <|endx", "a <|endx"],
      ["<<<", "<<_<"],
      ["<|end|>", "_<|end|>"],
    ])
      expect(protect(text, controls)).toBe(marked.replaceAll("_", LITERAL));
    expect(protect("<|end|><|endless|>", controls, new Set(["<|end|>"]))).toBe(
      `<|end|>${LITERAL}<|endless|>`,
    );
  });

  it("finds the longest of texts that share beginnings, as a look at each would", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(fc.uniqueArray(text, { maxLength: 12 }), fc.array(text), (fixed, parts) => {
        const texts = new FixedTexts(
          fixed.map((text, id) => ({ id, text })),
          "test",
        );
        const whole = parts.join("c");
        const expected: (string | number)[] = [];
        for (let at = 0; at < whole.length; ) {
          const here = fixed.filter((text) => whole.startsWith(text, at));
          const longest = here.sort((a, b) => b.length - a.length)[0];
          if (longest) expected.push(fixed.indexOf(longest));
          else if (typeof expected.at(-1) === "string") expected.push(expected.pop() + whole[at]);
          else expected.push(whole[at]);
          at += longest?.length ?? 1;
        }
        expect(split(texts, whole)).toEqual(expected);
      }),
    );
  });

  it("510 texts with one beginning cost no more than a walk along the longest", () => {
    const texts = new FixedTexts(
      Array.from({ length: 510 }, (_, id) => ({ id, text: `${"a".repeat(id + 1)}b` })),
      "test",
    );
    const looks = vi.spyOn(String.prototype, "startsWith");
    const slices = vi.spyOn(String.prototype, "slice");
    split(texts, "a".repeat(2000));
    const [looked, cut] = [looks.mock.calls.length, slices.mock.calls.length];
    vi.restoreAllMocks();
    // One look at a node for each letter, and no copies of the text.
    expect(looked).toBeLessThan(2000 * 511);
    expect(cut).toBeLessThan(10);
  });

  it("takes the blanks that belong to a token", () => {
    const texts = new FixedTexts([{ id: 7, text: "<t>", stripBefore: true, stripAfter: true }], "test");
    expect(split(texts, "a \n<t>  b")).toEqual(["a", 7, "b"]);
  });
});
