/** The generation loop on scripted tokens: stop conditions, pieces, early leaving, aborts. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type GenerateOptions, Generation, generateTokens, type Piece } from "../../src/engine/generate.ts";
import { Text } from "../../src/engine/text.ts";
import { AbortedError, ArgumentError } from "../../src/format/errors.ts";
import { END, piecesTokenizer, scripted } from "./scripted.ts";

type Said = string | Uint8Array;

/** A generation that would say these pieces one after another, then the end token; the prompt is two tokens. */
function says(pieces: readonly Said[], options: GenerateOptions & { context?: number } = {}) {
  const { text, steps } = scripted((p) => (p - 2 < pieces.length ? p - 1 : END), {
    vocab: pieces.length + 1,
    context: options.context,
  });
  const prompt = [END, END];
  const outcome = { result: null };
  const generation = new Generation(
    generateTokens(text, piecesTokenizer(pieces), prompt, options, [], outcome),
    outcome,
  );
  return { generation, text, steps };
}

async function pieces(generation: Generation): Promise<Piece[]> {
  const all: Piece[] = [];
  for await (const piece of generation) all.push(piece);
  return all;
}

describe("pieces", () => {
  it("carry all text and all ids, the end token included", async () => {
    const { generation } = says(["Hello", " ", "world"]);
    const found = await pieces(generation);
    expect(found).toEqual([
      { text: "Hello", ids: [1] },
      { text: " ", ids: [2] },
      { text: "world", ids: [3] },
      { text: "", ids: [END] },
    ]);
    expect(await generation.result()).toMatchObject({
      stopReason: "end",
      text: "Hello world",
      ids: [1, 2, 3, END],
      promptTokens: 2,
      reusedTokens: 0,
      generatedTokens: 4,
    });
  });

  it("hold whole characters: a token that ends inside one waits for the next", async () => {
    const whale = new TextEncoder().encode("🐋");
    const { generation } = says(["a", whale.slice(0, 2), whale.slice(2, 3), whale.slice(3), "b"]);
    expect(await pieces(generation)).toEqual([
      { text: "a", ids: [1] },
      { text: "🐋", ids: [2, 3, 4] },
      { text: "b", ids: [5] },
      { text: "", ids: [END] },
    ]);
  });

  it("end with a replacement character when the last token breaks off", async () => {
    const { generation } = says(["a", new Uint8Array([0xf0, 0x9f])], { maxTokens: 2 });
    expect(await generation.text()).toBe("a\uFFFD");
  });
});

describe("limits", () => {
  it("maxTokens 0 reads the prompt and says nothing", async () => {
    const { generation, steps } = says(["a"], { maxTokens: 0 });
    expect(await pieces(generation)).toEqual([]);
    expect(await generation.result()).toMatchObject({ stopReason: "length", text: "", ids: [] });
    expect(steps.length).toBe(1);
  });

  it("maxTokens 1 takes one token from the prompt's logits", async () => {
    const { generation, steps } = says(["a", "b"], { maxTokens: 1 });
    expect(await generation.result()).toMatchObject({ stopReason: "length", text: "a", ids: [1] });
    expect(steps.length).toBe(1);
  });

  it("ignoreEnd goes on past end tokens, which have no text", async () => {
    const { generation } = says(["a"], { maxTokens: 4, ignoreEnd: true });
    expect(await generation.result()).toMatchObject({
      stopReason: "length",
      text: "a",
      ids: [1, END, END, END],
    });
  });

  it("a full context ends with its reason and one token beyond what the cache holds", async () => {
    const { generation, text } = says(["a", "b", "c", "d"], { context: 4 });
    expect(await generation.result()).toMatchObject({ stopReason: "context", text: "abc", ids: [1, 2, 3] });
    expect(text.ids.length).toBe(4);
  });

  it.each([
    { maxTokens: -1 },
    { maxTokens: 1.5 },
    { maxTokens: Number.NaN },
    { stop: "" },
    { stop: [""] },
    { stop: [7 as unknown as string] },
    { temperature: -1 },
  ])("refuses %o before the prompt is read", async (options) => {
    const { generation, steps } = says(["a"], options);
    await expect(generation.result()).rejects.toThrow(ArgumentError);
    expect(steps.length).toBe(0);
  });
});

describe("stop strings", () => {
  const stopped = async (tokens: Said[], stop: string[]) => {
    const { text, stopReason } = await says(tokens, { stop }).generation.result();
    return [text, stopReason];
  };

  it("are found inside a token, across tokens, at the very start and at the very end", async () => {
    expect(await stopped(["one STOP two"], ["STOP"])).toEqual(["one ", "stop"]);
    expect(await stopped(["one S", "T", "OP two"], ["STOP"])).toEqual(["one ", "stop"]);
    expect(await stopped(["STOP"], ["STOP"])).toEqual(["", "stop"]);
    expect(await stopped(["a", "ST", "OP"], ["STOP"])).toEqual(["a", "stop"]);
  });

  it("that only begin are text after all", async () => {
    expect(await stopped(["STO", "RE"], ["STOP"])).toEqual(["STORE", "end"]);
    expect(await stopped(["a STO"], ["STOP"])).toEqual(["a STO", "end"]);
    expect(await stopped(["a", "a", "b"], ["aab"])).toEqual(["", "stop"]);
    expect(await stopped(["a", "a", "a", "b"], ["aab"])).toEqual(["a", "stop"]);
  });

  it("overlap: the one complete first counts, of several the longest", async () => {
    expect(await stopped(["xabcd"], ["abcd", "bc"])).toEqual(["xa", "stop"]);
    expect(await stopped(["xabc"], ["c", "abc"])).toEqual(["x", "stop"]);
  });

  it("of many bytes are found across tokens that cut characters", async () => {
    const bytes = new TextEncoder().encode("终止🐋!");
    const tokens = Array.from(bytes, (_, i) => bytes.slice(i, i + 1));
    expect(await stopped(["go ", ...tokens], ["止🐋"])).toEqual(["go 终", "stop"]);
    expect(await stopped(["go ", ...tokens], ["🐳"])).toEqual(["go 终止🐋!", "end"]);
  });

  it("may be made by the replacement character of a broken tail", async () => {
    expect(await stopped(["a", new Uint8Array([0xf0])], ["a\uFFFD"])).toEqual(["", "stop"]);
  });

  it("keep no piece back that cannot become one, and nothing of them is let through", async () => {
    const { generation } = says(["a", "<", "b", "<", "|"], { stop: ["<|"] });
    expect(await pieces(generation)).toEqual([
      { text: "a", ids: [1] },
      { text: "<b", ids: [2, 3] },
      { text: "", ids: [4, 5] },
    ]);
  });

  it("cut alike however the text is cut into tokens", async () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b", "é"), minLength: 1, maxLength: 4 });
    const property = fc.asyncProperty(
      fc.array(letters, { minLength: 1, maxLength: 8 }),
      fc.array(letters, { maxLength: 3 }),
      async (tokens, stop) => {
        const text = tokens.join("");
        // Brute force: letter by letter, the first end of a stop string; of several the one that starts first.
        let wanted = text;
        for (let end = 1; end <= text.length && wanted === text; end++) {
          const found = stop.filter((s) => text.slice(0, end).endsWith(s)).map((s) => end - s.length);
          if (found.length > 0) wanted = text.slice(0, Math.min(...found));
        }
        const { generation } = says(tokens, { stop });
        const all = await pieces(generation);
        const { ids, text: found } = await generation.result();
        expect(found).toBe(wanted);
        expect(all.map((piece) => piece.text).join("")).toBe(found);
        expect(all.flatMap((piece) => piece.ids)).toEqual(ids);
      },
    );
    await fc.assert(property, { numRuns: 300, seed: 1 });
  });
});

describe("a generation", () => {
  it("does nothing until it is asked", async () => {
    const { steps } = says(["a"]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(steps.length).toBe(0);
  });

  it("gives text and result without a loop, after one, and as often as asked", async () => {
    const { generation, steps } = says(["a", "b"]);
    expect(await generation.text()).toBe("ab");
    expect(await generation.text()).toBe("ab");
    expect(await generation.result()).toBe(await generation.result());
    expect(await pieces(generation)).toEqual([]);
    expect(steps.length).toBe(3);
  });

  it("that was left early says what came, and its text goes on from what was processed", async () => {
    const { generation, text } = says(["a", "b", "c"]);
    for await (const { text } of generation) if (text === "b") break;
    expect(await generation.result()).toMatchObject({ stopReason: "left", text: "ab", generatedTokens: 2 });
    expect(await generation.text()).toBe("ab");
    expect(text.ids).toEqual([END, END, 1]);
    const last = says(["a"]).generation;
    for await (const { text } of last) if (text === "a") break;
    expect(await last.result()).toMatchObject({ text: "a", generatedTokens: 1 });
    const unused = says(["a"]).generation;
    await unused[Symbol.asyncDispose]();
    await expect(unused.result()).rejects.toThrow(AbortedError);
  });

  it("gives its result to all who ask while another iterates", async () => {
    const { generation } = says(["a", "b", "c"]);
    const [found, result, text] = await Promise.all([
      pieces(generation),
      generation.result(),
      generation.text(),
    ]);
    expect(result).toMatchObject({ text: "abc", stopReason: "end" });
    expect(text).toBe("abc");
    expect(found.length).toBeGreaterThan(0);
  });

  it("that is begun, left and forgotten gives its place back", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const { scheduler } = scripted(() => 1, { vocab: 3 });
    const begin = async () => {
      const pieces = generateTokens(new Text(scheduler), piecesTokenizer(["a", "b"]), [1, 2], {});
      await new Generation(pieces)[Symbol.asyncIterator]().next();
    };
    await begin();
    expect(scheduler.activity.running).toBe(1);
    await expect
      .poll(() => {
        collect();
        return scheduler.activity.running;
      })
      .toBe(0);
    expect(scheduler.pages.used).toBe(0);
  });

  it("that failed gives the same error again", async () => {
    const { generation } = says(["a"], { signal: AbortSignal.abort() });
    await expect(pieces(generation)).rejects.toThrow(AbortedError);
    await expect(generation.result()).rejects.toThrow(AbortedError);
    await expect(pieces(generation)).rejects.toThrow(AbortedError);
  });

  it("can be aborted before, while the prompt is read, and between tokens", async () => {
    for (const when of ["before", "prompt", "tokens"]) {
      const controller = new AbortController();
      if (when === "before") controller.abort();
      const { generation, text } = says(["a", "b"], {
        signal: controller.signal,
        onPrompt: () => when === "prompt" && controller.abort(),
      });
      const all: string[] = [];
      const run = async () => {
        for await (const { text } of generation) {
          all.push(text);
          controller.abort();
        }
      };
      await expect(run()).rejects.toThrow(AbortedError);
      expect(all).toEqual(when === "tokens" ? ["a"] : []);
      expect(text.ids.length).toBe({ before: 0, prompt: 2, tokens: 2 }[when]);
    }
  });
});
