/** Joining against its definition, written down in the plainest way; and the cuts that must not change it. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Tokenizer } from "../../src/format/tokenizer.ts";
import { tokenizerFromGguf } from "../../src/format/tokenizer-gguf.ts";
import { MergeList, Merger, ScoreList } from "../../src/format/tokenizer-merge.ts";
import { cutAtSpaces, cutByPatterns, preTokenizer } from "../../src/format/tokenizer-words.ts";
import { tinySentencePiece } from "./tokenizer-vocabularies.ts";

/** Joins the best pair, the leftmost of equals, over and over. `rank`: lower first; null: does not join. */
function joinPlainly(word: string, rank: (left: string, right: string) => number | null): string[] {
  const pieces = [...word];
  for (;;) {
    let best = -1;
    let bestRank = Number.POSITIVE_INFINITY;
    for (let at = 0; at + 1 < pieces.length; at++) {
      const found = rank(pieces[at], pieces[at + 1]);
      if (found !== null && found < bestRank) [best, bestRank] = [at, found];
    }
    if (best < 0) return pieces;
    pieces.splice(best, 2, pieces[best] + pieces[best + 1]);
  }
}

function joined(merger: Merger, word: string, texts: readonly string[]): string[] {
  const found: string[] = [];
  merger.merge(word, {
    piece: (id) => found.push(texts[id]),
    unknown: (text, start, end) => found.push(text.slice(start, end)),
  });
  return found;
}

const word = fc.string({ unit: fc.constantFrom("a", "b", "c", "😀", "é"), maxLength: 60 });
const piece = fc.string({ unit: fc.constantFrom("a", "b", "c", "😀"), minLength: 1, maxLength: 5 });

describe("ScoreList", () => {
  it("joins as defined, also over characters that are no pieces", () => {
    const scored = fc.uniqueArray(fc.tuple(piece, fc.integer({ min: -6, max: 6 })), {
      selector: ([text]) => text,
    });
    fc.assert(
      fc.property(scored, word, (entries, text) => {
        const texts = entries.map(([text]) => text);
        const ids = new Map(texts.map((text, id) => [text, id]));
        const scores = entries.map(([, score]) => score / 2);
        const merger = new Merger(new ScoreList(ids, scores), (character) => ids.get(character));
        const rank = (left: string, right: string) => {
          const id = ids.get(left + right);
          return id === undefined ? null : -scores[id];
        };
        expect(joined(merger, text, texts)).toEqual(joinPlainly(text, rank));
      }),
      { numRuns: 1000 },
    );
  });
});

describe("MergeList", () => {
  it("joins as defined; the first of equal merges counts", () => {
    const merges = fc.array(fc.tuple(piece, piece), { maxLength: 30 });
    fc.assert(
      fc.property(merges, word, (pairs, text) => {
        const texts = [
          ...new Set([..."abc", ...pairs.flatMap(([left, right]) => [left, right, left + right])]),
        ];
        const ids = new Map(texts.map((text, id) => [text, id]));
        const list = new MergeList(pairs.length);
        const ranks = new Map<string, number>();
        pairs.forEach(([left, right], rank) => {
          expect(list.addTexts(left, right, rank, ids, new Set())).toBe(null);
          const key = `${left} ${right}`;
          if (!ranks.has(key)) ranks.set(key, rank);
        });
        const merger = new Merger(list, (character) => ids.get(character));
        const rank = (left: string, right: string) => ranks.get(`${left} ${right}`) ?? null;
        expect(joined(merger, text, texts)).toEqual(joinPlainly(text, rank));
      }),
      { numRuns: 1000 },
    );
  });
});

it("merges that were chosen to collide cost what others cost", () => {
  // Pairs of ids that a fixed hash, left * A ^ right * B, puts into one slot: found by solving for the right id.
  const [a, b, inverseOfB] = [0x9e3779b1, 0x85ebca6b, 0xa5cb9243];
  expect(Math.imul(b, inverseOfB)).toBe(1);
  const pairs: [number, number][] = [];
  for (let left = 1; pairs.length < 20_000; left++) {
    const right = Math.imul(Math.imul(left, a), inverseOfB) >>> 0;
    if (right < 2 ** 24) pairs.push([left, right]);
  }
  const ordinary = pairs.map((_, at): [number, number] => [at * 7, at * 13]);
  const ms = (entries: [number, number][]) => {
    const once = () => {
      const started = performance.now();
      const list = new MergeList(entries.length);
      for (const [rank, [left, right]] of entries.entries()) list.add(left, right, rank, rank);
      return performance.now() - started;
    };
    return Math.min(once(), once(), once());
  };
  // 300 times as long with the fixed hash.
  expect(ms(pairs)).toBeLessThan(20 * ms(ordinary));
});

describe("cuts", () => {
  it("at spaces: joining word by word is joining the whole", async () => {
    const unit = fc.constantFrom("a", "b", "▁", ".");
    const pieces = fc.uniqueArray(fc.string({ unit, minLength: 1, maxLength: 4 }), { maxLength: 25 });
    const text = fc.string({ unit: fc.constantFrom("a", "b", " ", ".", "中"), maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(pieces, text, async (texts, input) => {
        const metadata = tinySentencePiece(texts);
        const tokens = metadata["tokenizer.ggml.tokens"] as string[];
        const ids = new Map(tokens.flatMap((text, id) => (id < 259 ? [] : [[text, id] as const])));
        const whole = joinPlainly(
          `▁${input.replaceAll(" ", "▁")}`,
          (left, right) => ids.get(left + right) ?? null,
        );
        const bytes = (text: string) => [...new TextEncoder().encode(text)].map((byte) => 3 + byte);
        const expected = whole.flatMap((text) => ids.get(text) ?? bytes(text));
        const tokenizer = await tokenizerFromGguf(metadata);
        expect(tokenizer.encode(input)).toEqual(input === "" ? [] : expected);
      }),
      { numRuns: 500 },
    );
  });

  it("at spaces: in front of each, unless a piece goes across", () => {
    const cut = (pieces: string[], text: string) => [...cutAtSpaces(pieces)(text)].flat();
    expect(cut(["▁the", "▁▁"], "a▁b▁▁c.▁d")).toEqual(["a", "▁b", "▁▁c.", "▁d"]);
    expect(cut([".▁d"], "a▁b▁▁c.▁d")).toEqual(["a", "▁b", "▁▁c.▁d"]);
  });

  it.each(["gpt-2", "llama-bpe", "qwen2", "qwen35", "tekken", "gpt-4o", "deepseek-v3", "smollm", "default"])(
    "%s: window by window is the whole at once",
    (name) => {
      const { patterns } = preTokenizer(name);
      const unit = fc.constantFrom(
        ..."aB1 \n\t\r'.!",
        "'s",
        "é",
        "e\u0301",
        "中",
        "😀",
        "  ",
        "\u0085",
        "123",
        "ſ",
      );
      const text = fc.string({ unit, maxLength: 120 });
      fc.assert(
        fc.property(text, fc.integer({ min: 24, max: 60 }), (input, window) => {
          const words = [...cutByPatterns(patterns)(input)].flat();
          expect(words.join("")).toBe(input);
          expect(words.every((word) => word !== "")).toBe(true);
          // A run longer than the window is cut where the window ends; everything else is not.
          if (words.every((word) => word.length < window / 2)) {
            expect([...cutByPatterns(patterns, window)(input)].flat()).toEqual(words);
          } else expect([...cutByPatterns(patterns, window)(input)].flat().join("")).toBe(input);
        }),
        { numRuns: 200 },
      );
    },
  );

  it("knows the words of the publishers' patterns", () => {
    const cut = (name: string, text: string) => [...cutByPatterns(preTokenizer(name).patterns)(text)].flat();
    expect(cut("gpt-2", "I'll go  now 123!")).toEqual(["I", "'ll", " go", " ", " now", " 123", "!"]);
    expect(cut("llama-bpe", "I'LL pay 12345\n\n ok")).toEqual([
      "I",
      "'LL",
      " pay",
      " ",
      "123",
      "45",
      "\n\n",
      " ok",
    ]);
    expect(cut("qwen2", "x=12")).toEqual(["x", "=", "1", "2"]);
    expect(cut("tekken", "HTTPServer camelCase")).toEqual(["HTTPServer", " camel", "Case"]);
    expect(cut("smollm", "a 42")).toEqual(["a", " ", "4", "2"]);
    expect(cut("default", "a==1234")).toEqual(["a", "==", "123", "4"]);
  });
});

it("a SentencePiece vocabulary without scores joins the pair that stands first, as llama.cpp does, and says so", async () => {
  const metadata = tinySentencePiece(["a", "b", "c", "bc", "ab"], {
    "tokenizer.ggml.add_space_prefix": false,
  });
  const tokens = metadata["tokenizer.ggml.tokens"] as string[];
  const { "tokenizer.ggml.scores": _, ...without } = metadata;
  const [scored, plain] = await Promise.all([metadata, without].map((one) => tokenizerFromGguf(one)));
  const cut = (tokenizer: Tokenizer, text: string) => tokenizer.encode(text).map((id) => tokens[id]);
  // By scores "bc" is better than "ab".
  expect(cut(scored, "abcc")).toEqual(["a", "bc", "c"]);
  expect(cut(plain, "abcc")).toEqual(["ab", "c", "c"]);
  expect(cut(plain, "bcab")).toEqual(["bc", "ab"]);
  expect(plain.warnings).toEqual([expect.stringContaining("tokenizer.ggml.scores is missing")]);
  expect(scored.warnings).toEqual([]);
});
