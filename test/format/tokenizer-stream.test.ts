/** Streaming: whole characters only, and in the end what `decode` gives. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/format/errors.ts";
import type { DecodeOptions, Tokenizer } from "../../src/format/tokenizer.ts";
import { goldenTokenizer } from "./tokenizer-vocabularies.ts";

function streamed(tokenizer: Tokenizer, ids: readonly number[], options?: DecodeOptions): string[] {
  const stream = tokenizer.stream(options);
  return [...ids.map((id) => stream.push(id)), stream.end()];
}

const isWellFormed = (text: string) => !/\p{Surrogate}/u.test(text);

const text = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: "grapheme" }),
  fc
    .array(fc.constantFrom("😶‍🌫️", "🦙", "中", "नि", "é", " ", "\n", "a", "\u{10FFFF}", "\uFEFF", "\uFFFD"))
    .map((parts) => parts.join("")),
);

// One of each way to spell bytes, and one with large pieces.
describe.each(["gpt-2", "llama-spm", "qwen2"] as const)("%s", (name) => {
  it("streams what decode gives, for texts", async () => {
    const tokenizer = await goldenTokenizer(name);
    fc.assert(
      fc.property(text, (input) => {
        const ids = tokenizer.encode(input);
        const pieces = streamed(tokenizer, ids);
        expect(pieces.every(isWellFormed)).toBe(true);
        expect(pieces.join("")).toBe(tokenizer.decode(ids));
        expect(pieces.join("")).toBe(name === "llama-spm" ? input.replaceAll("▁", " ") : input);
        // Nothing is held back at the end of a whole text, and nothing is a guess before it.
        expect(pieces.at(-1)).toBe("");
        expect(pieces.join("").includes("\uFFFD")).toBe(input.includes("\uFFFD"));
      }),
      { numRuns: 200 },
    );
  });

  it("streams what decode gives, for any ids", async () => {
    const tokenizer = await goldenTokenizer(name);
    // Byte tokens lie low in SentencePiece vocabularies and Gemma's; in the others pieces of characters do.
    const id = fc.oneof(
      fc.nat(tokenizer.vocab - 1),
      fc.integer({ min: 0, max: 500 }),
      fc.constant(tokenizer.vocab + 5),
    );
    const options = fc.record({ special: fc.boolean(), continues: fc.boolean() });
    fc.assert(
      fc.property(fc.array(id, { maxLength: 40 }), options, (ids, how) => {
        const pieces = streamed(tokenizer, ids, how);
        expect(pieces.every(isWellFormed)).toBe(true);
        expect(pieces.join("")).toBe(tokenizer.decode(ids, how));
      }),
      { numRuns: 300 },
    );
  });
});

describe("a broken tail", () => {
  it("comes out as U+FFFD at the end, or where text goes on", async () => {
    const tokenizer = await goldenTokenizer("llama-spm");
    const euro = [0xe2, 0x82, 0xac].map((byte) => 3 + byte);
    expect(streamed(tokenizer, euro)).toEqual(["", "", "€", ""]);
    expect(streamed(tokenizer, euro.slice(0, 2))).toEqual(["", "", "\uFFFD"]);
    expect(streamed(tokenizer, [euro[0], 3 + 0x41])).toEqual(["", "\uFFFDA", ""]);
  });

  it("refuses what is no id", async () => {
    const tokenizer = await goldenTokenizer("llama-spm");
    for (const id of [-1, 0.5, Number.NaN]) {
      expect(() => tokenizer.decode([id])).toThrow(ArgumentError);
    }
    expect(tokenizer.decode([999_999, 2 ** 40])).toBe("");
  });
});
